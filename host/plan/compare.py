"""Hold what a step left, as the child reports it, against what it declared.

The report comes from the child while it is trusted, and is still only text from a child: it is bounded by its message,
compared by names, and shown through `printable`. Nothing is enforced by it; what a seal cannot bear is refused by the
seal itself, or found in stage 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ...ipc.messages import Left, StepEnded
from ...sandbox.declaration import FD_KINDS, Leaves
from ...sandbox.quantities import format_size
from ..place import printable
from .find import Planned


class StepReport(NamedTuple):
    """How a step went: ``took`` in milliseconds; ``failure`` is not empty for an optional step that failed."""

    name: str
    took: float
    failure: str
    left: Left
    undeclared: Undeclared | None

    @classmethod
    def of(cls, step: Planned, ended: StepEnded) -> StepReport:
        """Make the report of what the child said at the end of *step*."""
        found = undeclared(ended.left, step.declaration.leaves)
        return cls(step.name, ended.took, printable(ended.failure), ended.left, found)


class Undeclared(NamedTuple):
    """What was left and not declared: the words to add to ``leaves``, and a sentence for people."""

    leaves: dict[str, Any]
    sentence: str


def undeclared(left: Left, leaves: Leaves) -> Undeclared | None:
    """Return what *left* has that *leaves* does not allow; None if that is nothing."""
    threads = _beyond(left.threads, leaves.threads)
    fds = [fd for fd in left.fds if fd.kind not in leaves.fds]
    environment = _beyond(left.environment, leaves.environment)
    signals = [entry for entry in left.signals if entry.split()[0] not in leaves.signals]
    executable = 0 if leaves.executable_memory else left.executable_memory
    parts = [
        _part("threads", [f"{name} ({left.threads[name]})" for name in threads]),
        _part("fds", [f"{fd.kind} {fd.what}" for fd in fds]),
        f"{format_size(executable)} of executable memory" if executable else "",
        _part("changed variables", environment),
        _part("signals", signals),
    ]
    said = [part for part in parts if part]
    if not said:
        return None
    words: dict[str, Any] = {
        "threads": sorted(threads),
        "fds": sorted({fd.kind if fd.kind in FD_KINDS else "other" for fd in fds}),
        "executable_memory": bool(executable),
        "environment": environment,
        "signals": sorted({entry.split()[0] for entry in signals}),
    }
    return Undeclared({key: value for key, value in words.items() if value}, "; ".join(said))


def observed(left: Left, leaves: Leaves) -> dict[str, Any]:
    """Return *leaves* with what was left beside, as TOML keys: what ``plan --observe`` offers to paste."""
    import msgspec

    declared: dict[str, Any] = msgspec.to_builtins(leaves)
    found = undeclared(left, leaves)
    for key, value in (found.leaves if found else {}).items():
        declared[key] = value if isinstance(value, bool) else [*declared[key], *value]
    return {key: value for key, value in declared.items() if value}


def _beyond(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns)]


def _part(what: str, names: Sequence[str]) -> str:
    return f"{what} {', '.join(names)}" if names else ""
