"""File descriptors in calls: of the kind that was declared, owned, and closed on every path."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import pytest

from belljar.ipc.interface import ArgumentsUnfit, ValueUnfit, codec, declared
from belljar.ipc.interface.fd import Fd, FdKind
from belljar.ipc.payload import make_sealed

from .attachments_in_memory import Attached, Attaching

KINDS: list[FdKind] = list(FdKind.__args__)  # type: ignore[attr-defined]


def _open(flags: int, *, is_pipe: bool = False) -> Callable[[Path], int]:
    def opened(folder: Path) -> int:
        path = folder / "it"
        if is_pipe:
            os.mkfifo(path)
            other = os.open(path, os.O_RDWR)
            try:
                return os.open(path, flags)
            finally:
                os.close(other)
        path.touch()
        return os.open(path, flags)

    return opened


def _socket(kind: int) -> Callable[[Path], int]:
    return lambda folder: socket.socket(socket.AF_UNIX, kind).detach()


OPEN: dict[str, tuple[Callable[[Path], int], set[str]]] = {
    "read": (_open(os.O_RDONLY), {"file-read"}),
    "write": (_open(os.O_WRONLY | os.O_APPEND), {"file-write"}),
    "both": (_open(os.O_RDWR), {"file-read-write"}),
    "path": (_open(os.O_PATH), set()),
    "directory": (lambda folder: os.open(folder, os.O_RDONLY), set()),
    "null": (lambda folder: os.open("/dev/null", os.O_RDONLY), set()),
    "pipe-read": (_open(os.O_RDONLY, is_pipe=True), {"pipe-read"}),
    "pipe-write": (_open(os.O_WRONLY, is_pipe=True), {"pipe-write"}),
    "pipe-both": (_open(os.O_RDWR, is_pipe=True), set()),
    "memfd": (lambda folder: os.memfd_create("test", os.MFD_ALLOW_SEALING), {"file-read-write", "memfd"}),
    "sealed": (lambda folder: make_sealed(b"x"), {"file-read-write", "memfd", "memfd-sealed"}),
    "stream": (_socket(socket.SOCK_STREAM), {"socket", "socket-stream"}),
    "datagram": (_socket(socket.SOCK_DGRAM), {"socket", "socket-datagram"}),
    "seqpacket": (_socket(socket.SOCK_SEQPACKET), {"socket", "socket-seqpacket"}),
}


def is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("what", OPEN)
def test_an_fd_is_of_its_kinds_and_no_others(what: str, tmp_path: Path) -> None:
    """The type of what is open and how it was opened decide; an fd of another kind is refused and closed."""
    opener, kinds = OPEN[what]
    original = opener(tmp_path)
    try:
        for kind in KINDS:
            fd = os.dup(original)
            try:
                Fd(fd, kind).close()
            except ValueUnfit as error:
                assert kind not in kinds, error
            else:
                assert kind in kinds
            assert not is_open(fd)
    finally:
        os.close(original)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        if is_open(fd):
            os.close(fd)


def test_an_fd_closes_with_its_owner(pipe: tuple[int, int]) -> None:
    """The end of a with, or of the object, closes the fd; what was detached is somebody else's."""
    read, write = pipe
    with Fd(os.dup(read), "pipe-read") as owner:
        number = owner.fileno()
        assert is_open(number)
    assert not is_open(number)
    with pytest.raises(ValueError, match="closed or was detached"):
        owner.fileno()
    owner = Fd(number := os.dup(read), "pipe-read")
    del owner
    assert not is_open(number)
    assert Fd(write, "pipe-write").detach() == write
    assert is_open(write)


def test_a_number_that_is_no_fd_is_unfit() -> None:
    """What is not open is of no kind."""
    with pytest.raises(ValueUnfit, match="Bad file descriptor"):
        Fd(1 << 30, "socket")


class Importer(Protocol):
    """Takes and gives fds."""

    def load(self, file: Fd[Literal["pipe-read"]]) -> Fd[Literal["pipe-write"]]: ...

    def several(self, files: list[Fd[Literal["pipe-read"]]]) -> None: ...


def test_fds_travel_as_duplicates_of_their_kind(pipe: tuple[int, int]) -> None:
    """The receiver owns another fd of the same pipe; the sender keeps its own, and checks its kind too."""
    methods = declared(Importer)
    with Fd(os.dup(pipe[0]), "pipe-read") as read, Fd(os.dup(pipe[1]), "pipe-write") as write:
        for name, given in (("load", read), ("several", [read])):
            attaching = Attaching()
            payload = methods[name].encode_arguments((given,), attaching)
            (arrived,) = methods[name].decode_arguments(payload, Attached(attaching))
            (arrived,) = arrived if name == "several" else (arrived,)
            assert os.fstat(arrived.fileno()).st_ino == os.fstat(read.fileno()).st_ino
            assert arrived.fileno() != read.fileno()
            arrived.close()
        with pytest.raises(ArgumentsUnfit, match="argument 'file': Expected an fd of kind pipe-read, got pipe-write"):
            methods["load"].encode_arguments((write,), Attaching())


def test_a_hostile_fd_is_refused_and_closed(pipe: tuple[int, int]) -> None:
    """An fd that is not of the declared kind is an error of the receiver, and no fd is left."""
    attaching = Attaching()
    with Fd(os.dup(pipe[1]), "pipe-write") as write:
        attaching.fd(write)
        before = len(os.listdir("/proc/self/fd"))
        for kind, wire in ((Fd[Literal["pipe-read"]], 0), (list[Fd[Literal["pipe-read"]]], [0])):
            with pytest.raises(ValueUnfit, match="Expected an fd of kind pipe-read, got pipe-write"):
                codec(kind).decode(msgspec.msgpack.encode(wire), Attached(attaching))
        assert len(os.listdir("/proc/self/fd")) == before


def test_an_annotation_says_of_which_kind() -> None:
    """An fd of any kind is an error where the interface is read."""

    class Vague(Protocol):
        def load(self, file: Fd[Any]) -> None: ...

    with pytest.raises(TypeError, match=r"method 'Vague\.load' .*say of which kind"):
        declared(Vague)
