"""Payloads: sealed memfds are read, everything else is refused, and the fd is closed in any case."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.payload import SEALS, check_sealed, make_sealed, map_sealed, read_sealed

from ..helpers import open_fds

SINGLE = [fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW, fcntl.F_SEAL_WRITE, fcntl.F_SEAL_SEAL]


def memfd(data: bytes, seals: int) -> int:
    fd = os.memfd_create("payload", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def pipe_end() -> int:
    reader, writer = os.pipe()
    os.close(writer)
    return reader


def plain_file() -> int:
    with tempfile.TemporaryFile() as file:
        file.write(b"data")
        return os.dup(file.fileno())


BAD: dict[str, Callable[[], int]] = {
    "no seal": lambda: memfd(b"data", 0),
    "empty": lambda: make_sealed(b""),
    "too large": lambda: make_sealed(b"x" * 101),
    "pipe": pipe_end,
    "directory": lambda: os.open("/", os.O_RDONLY),
    "plain file": plain_file,
    "device": lambda: os.open("/dev/zero", os.O_RDONLY),
    "memfd that cannot be sealed": lambda: os.memfd_create("payload"),
}
for missing in SINGLE:
    BAD[f"all but seal {missing}"] = partial(memfd, b"data", SEALS & ~missing)
for first, second in combinations(SINGLE[:3], 2):
    BAD[f"only seals {first}, {second}"] = partial(memfd, b"data", first | second)


@given(st.binary(min_size=1, max_size=100_000))
def test_a_sealed_payload_reads_back(data: bytes) -> None:
    """What was sealed is what the receiver sees."""
    assert read_sealed(make_sealed(data), len(data)) == data


@pytest.mark.parametrize("take", [read_sealed, map_sealed])
@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_anything_else_is_refused_and_closed(make: Callable[[], int], take: Callable[[int, int], object]) -> None:
    """A payload that could change, is none, is empty or is too large raises PeerProtocolError; no fd stays open."""
    before = open_fds()
    with pytest.raises(PeerProtocolError):
        take(make(), 100)
    assert open_fds() == before


def test_a_mapped_payload_lives_as_long_as_its_last_view() -> None:
    """A payload can be looked at without a copy, read-only, and is gone with the last slice of it."""
    before = open_fds()
    view = map_sealed(make_sealed(b"payload"), 7).view()
    assert view.readonly
    part = view[3:]
    view.release()
    assert bytes(part) == b"load"
    del part
    assert open_fds() == before


def test_what_is_mapped_writable_cannot_be_sealed() -> None:
    """A sender that has kept a way to write cannot set the seals, so nothing of it is ever mapped here."""
    fd = memfd(b"data", 0)
    with mmap.mmap(fd, 4):
        with pytest.raises(OSError, match="busy"):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        with pytest.raises(PeerProtocolError, match="not sealed"):
            map_sealed(fd, 4)


def test_a_read_payload_is_closed() -> None:
    """The receiver's fd is gone once the payload was read."""
    before = open_fds()
    read_sealed(make_sealed(b"data"), 4)
    assert open_fds() == before


def test_the_limit_is_inclusive() -> None:
    """A payload of exactly the limit is accepted, one byte more is not."""
    fd = make_sealed(b"x" * 100)
    try:
        assert check_sealed(fd, 100) == 100
        with pytest.raises(PeerProtocolError, match="100 bytes is outside of the limit of 99"):
            check_sealed(fd, 99)
    finally:
        os.close(fd)


def test_nobody_can_change_a_sealed_payload() -> None:
    """The sender's own fd can neither write, shrink, grow nor unseal what it has sent."""
    fd = make_sealed(b"data")
    try:
        for change in (
            lambda: os.pwrite(fd, b"x", 0),
            lambda: os.ftruncate(fd, 0),
            lambda: os.ftruncate(fd, 100),
            lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0),
        ):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(fd)
