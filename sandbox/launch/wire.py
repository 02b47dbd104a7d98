"""What the host asks of the guard and of a zygote, and what they report: JSON over SEQPACKET, fds beside it.

Both ends are trusted. Requests go one way over one socket that all threads of the host share: a datagram is
atomic, so nothing needs a lock. Each request brings a *report* socket of its own, over which its answers come, so
nobody has to sort the answers of several launches, and the end of the answering process is seen as end of file.
JSON, because the guard loads the standard library only.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...ipc import datagram


@dataclass(frozen=True, slots=True)
class Launched:
    """A process exists. ``launched_pid`` is its pid where it will be waited for; the pidfd is the reader's."""

    launched_pid: int
    pidfd: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A stage failed before the process could speak for itself. ``step`` is what `hints` knows remedies for."""

    stage: int
    errno: int
    text: str
    step: str = ""

    def explained(self) -> str:
        """Return the text with cause and remedy, where this machine shows them. For the host: it reads /proc."""
        from ..hints import hint

        remedy = hint(self.step, self.errno)
        return f"{self.text} ({remedy})" if remedy else self.text


@dataclass(frozen=True, slots=True)
class Exited:
    """The launched process was reaped. ``status`` as from wait(2), cpu in seconds, max_rss in bytes.

    A host that asks after the child behind a helper puts that one's status in its place, None if nobody knows it.
    """

    status: int | None
    cpu: float
    max_rss: int


@dataclass(frozen=True, slots=True)
class Shared:
    """A step has run in a zygote, which has ``threads`` threads now; ``error`` is empty if it went well.

    ``fds`` counts those that the step left open, ``mappings`` the memory that all who are forked from it would write.
    """

    threads: int
    fds: int
    mappings: int
    error: str


MAX_FDS = 16
"""The most fds of one request: the report socket, stdout, stderr, and what a child is started with."""

Report = Launched | Failed | Exited | Shared


def send_request(sock: socket.socket, body: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Send one request; *fds* stay the caller's. `OSError` as from sendmsg(2)."""
    datagram.send(sock, json.dumps(body).encode(), fds)


def receive_request(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Receive one request with its fds, which are then the caller's; None at end of file."""
    message = datagram.receive(sock, max_fds=MAX_FDS)
    if message is None:
        return None
    return json.loads(bytes(message.data)), message.fds


def send_report(sock: socket.socket, report: Report) -> None:
    """Send *report*, and a copy of its pidfd; a host that no longer listens is not an error."""
    body: dict[str, Any] = {"report": type(report).__name__}
    body |= {field: getattr(report, field) for field in report.__slots__ if field != "pidfd"}
    fds = [report.pidfd] if isinstance(report, Launched) else []
    try:
        datagram.send(sock, json.dumps(body).encode(), fds)
    except (BrokenPipeError, ConnectionError, BlockingIOError):
        return


def receive_report(sock: socket.socket) -> Report | None:
    """Receive one report, or None at end of file. `BlockingIOError` if *sock* does not block and has none."""
    message = datagram.receive(sock)
    if message is None:
        return None
    body = json.loads(bytes(message.data))
    kind = {kind.__name__: kind for kind in (Launched, Failed, Exited, Shared)}[body.pop("report")]
    return Launched(**body, pidfd=message.take_fd()) if kind is Launched else kind(**body)
