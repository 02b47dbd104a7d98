"""How a child ended, as a value."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from ..ipc.stage import Stage
from ..sandbox.launch.wire import Exited


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended.

    Attributes:
        exit_code: What it gave to exit, or None if a signal ended it or nobody knows.
        signal: The name of the signal that ended it, such as ``SIGSEGV``, or None.
        stage: The last stage that the launch had reached.
        reason: One sentence.
        stderr: The last lines that it wrote to stderr.
        max_rss: The most resident memory that it had, in bytes; 0 if nobody knows.
        cpu: User and system time, in seconds.
    """

    exit_code: int | None
    signal: str | None
    stage: Stage
    reason: str
    stderr: tuple[str, ...]
    max_rss: int
    cpu: float

    def __str__(self) -> str:
        last = f"; last on stderr: {self.stderr[-1]}" if self.stderr else ""
        return f"{self.reason} (stage {int(self.stage)}, {self.stage.label}){last}"


def ended_from(
    exited: Exited | None, *, stage: Stage, why: str, stderr: tuple[str, ...], cpu_limit: int | None
) -> Ended:
    """Return how it ended. *why* is what the host did to it, empty if nothing; *exited* is None if nobody waited."""
    if exited is None:
        return Ended(None, "SIGKILL", stage, why or "the process that waits for it ended", stderr, 0, 0.0)
    if exited.status is None:
        reason = why or "it ended, and the helper before it does not say how"
        return Ended(None, None, stage, reason, stderr, exited.max_rss, exited.cpu)
    code = os.waitstatus_to_exitcode(exited.status)
    name = signal.Signals(-code).name if code < 0 else None
    reason = why or _reason(code, name, exited, cpu_limit)
    return Ended(code if code >= 0 else None, name, stage, reason, stderr, exited.max_rss, exited.cpu)


# The kernel counts the limit in ticks and reports the usage exactly. Of a limit of 1 s were seen: 0.97 s on an idle
# machine, 0.92 s with four processes waiting for each processor, under 0.9 s with twenty-five.
_MOST_OF = 0.75


def _reason(code: int, name: str | None, exited: Exited, cpu_limit: int | None) -> str:
    if name is None:
        return f"it exited with code {code}"
    if name == "SIGKILL" and cpu_limit is not None and exited.cpu >= _MOST_OF * cpu_limit:
        return f"it used up its cpu limit of {cpu_limit} s"
    if name == "SIGSYS":
        return "the filter killed it: a system call of a foreign architecture"
    return f"{name} ended it"
