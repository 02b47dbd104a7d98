"""Payloads: sealed memfds are read, everything else is refused, and the fd is closed in any case."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.payload import SEALS, check_sealed, make_sealed, view_sealed

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
    BAD[f"all but seal {missing}"] = lambda missing=missing: memfd(b"data", SEALS & ~missing)
for pair in combinations(SINGLE[:3], 2):
    BAD[f"only seals {pair}"] = lambda pair=pair: memfd(b"data", pair[0] | pair[1])


@given(st.binary(min_size=1, max_size=100_000))
def test_a_sealed_payload_reads_back(data: bytes) -> None:
    """What was sealed is what the receiver sees."""
    with view_sealed(make_sealed(data), len(data)) as view:
        assert bytes(view) == data


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_anything_else_is_refused_and_closed(make: Callable[[], int]) -> None:
    """A payload that could change, is none, is empty or is too large raises PeerProtocolError; no fd stays open."""
    before = open_fds()
    with pytest.raises(PeerProtocolError), view_sealed(make(), 100):
        pytest.fail("a bad payload was shown")
    assert open_fds() == before


def test_a_read_payload_is_closed() -> None:
    """The receiver's fd and mapping are gone after the block, also when the block fails."""
    before = open_fds()
    with pytest.raises(KeyError), view_sealed(make_sealed(b"data", "belljar-closed"), 4):
        raise KeyError
    assert open_fds() == before
    assert "belljar-closed" not in Path("/proc/self/maps").read_text()


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
