"""File descriptors in calls: owned, of a declared kind, and checked by whoever gets one.

    class Importer(Protocol):
        async def load(self, file: Fd[Literal["file-read"]]) -> int: ...

    with Fd(os.open(path, os.O_RDONLY), "file-read") as file:
        await host.proxy(Importer).load(file)

Directories have no kind: who has one can open what lies below it. See fstat(2), fcntl(2), socket(7).
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

from .adapters import Adapter, Number
from .attachments import Attached, Attaching
from .errors import ValueUnfit

FdKind: TypeAlias = Literal[
    "socket",
    "socket-stream",
    "socket-datagram",
    "socket-seqpacket",
    "file-read",
    "file-write",
    "file-read-write",
    "pipe-read",
    "pipe-write",
    "memfd",
    "memfd-sealed",
]
"""A regular file or pipe opened for just that; a socket of any or one type; a memfd, or one that no one can change."""

K = TypeVar("K", bound=FdKind, covariant=True)

_SOCKETS = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}
_ACCESS = {"read": os.O_RDONLY, "write": os.O_WRONLY, "read-write": os.O_RDWR}
_SEALED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_O_PATH = 0o10000000  # not in the os module


class Fd(Generic[K]):
    """An open fd of a known kind, which closes with this object: `close`, the end of ``with``, or garbage collection.

    As an argument or a result it stays its owner's, and the other side gets a duplicate with an owner of its own.
    """

    def __init__(self, fd: int, kind: K) -> None:
        """Take over *fd*. It is closed, and `ValueError` raised, if it is not of the *kind*."""
        self.kind = kind
        self._fd = fd
        try:
            check_fd(fd, kind)
        except BaseException:
            self.close()
            raise

    @classmethod
    def received(cls, fd: int, kind: str) -> Fd[Any]:
        """Return the owner of *fd*, which came from the other side as one of *kind*; as the constructor."""
        return cls(fd, kind)  # type: ignore[arg-type]  # a kind that is none is no fd's

    def fileno(self) -> int:
        """Return the number; it stays owned. `ValueError` once closed or detached."""
        if self._fd < 0:
            raise ValueError("the fd is closed or was detached")
        return self._fd

    def detach(self) -> int:
        """Return the number, which is the caller's to close from now on."""
        fd, self._fd = self.fileno(), -1
        return fd

    def close(self) -> None:
        """Close it, unless that was done."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):  # close(2): whatever it says, the fd is gone
                os.close(fd)

    def __enter__(self) -> Fd[K]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            self.close()

    def __repr__(self) -> str:
        return f"Fd({self._fd}, {self.kind!r})"


def check_fd(fd: int, kind: str) -> None:
    """Raise `ValueUnfit` unless *fd* is of the *kind*: its type, and how it was opened."""
    try:
        found = _describe(fd)
    except OSError as error:
        raise ValueUnfit(f"could not look at an fd: {error.strerror}") from None
    if kind not in found:
        raise ValueUnfit(f"Expected an fd of kind {kind}, got {found[0]}")


def _describe(fd: int) -> tuple[str, ...]:
    """Return all kinds that *fd* is of, the plainest first; ``other`` if it is of none."""
    mode, flags = os.fstat(fd).st_mode, fcntl.fcntl(fd, fcntl.F_GETFL)
    access = next((name for name, value in _ACCESS.items() if flags & os.O_ACCMODE == value), "")
    if flags & _O_PATH:
        return ("other",)
    if stat.S_ISSOCK(mode):
        opened = socket.socket(fileno=fd)
        opened.detach()
        return ("socket", *(f"socket-{name}" for name, value in _SOCKETS.items() if opened.type == value))
    if stat.S_ISFIFO(mode):
        return (f"pipe-{access}",)
    return (f"file-{access}", *_memfd(fd)) if stat.S_ISREG(mode) else ("other",)


def _memfd(fd: int) -> tuple[str, ...]:
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return ()
    return ("memfd", "memfd-sealed") if seals & _SEALED == _SEALED else ("memfd",)


def kind_of(annotation: Any) -> str:
    """Return the kind in ``Fd[Literal["kind"]]``; `TypeError` if there is none."""
    kinds = [kind for each in get_args(annotation) for kind in get_args(each)]
    if len(kinds) != 1 or kinds[0] not in get_args(FdKind):
        raise TypeError(f'say of which kind: Fd[Literal["file-read"]], or another of {", ".join(get_args(FdKind))}')
    return str(kinds[0])


def _encode(value: Any, annotation: Any, attaching: Attaching) -> int:
    fd: Fd[Any] = value
    if not isinstance(value, Fd):
        raise ValueUnfit(f"Expected `Fd`, got `{type(value).__name__}`")
    if annotation is not Fd and fd.kind != kind_of(annotation):  # within another value, it is not known which
        raise ValueUnfit(f"Expected an fd of kind {kind_of(annotation)}, got {fd.kind}")
    return attaching.fd(fd)


def _decode(number: int, annotation: Any, attached: Attached) -> Any:
    return attached.fd(number, kind_of(annotation))


ADAPTER = Adapter(Number, _encode, _decode, "fd", kind_of)
