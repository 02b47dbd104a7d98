"""Recycled memory: used again only when nobody looks at it, and bounded."""

from __future__ import annotations

import gc
import os
import sys
from threading import Thread
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.ipc.memory.buffer import Buffer
from belljar.ipc.memory.mapping import Mapping
from belljar.ipc.memory.recycle import SMALL, Recycler, size_class

MIB = 1 << 20


@given(st.integers(1, 1 << 40))
def test_size_classes_waste_little(length: int) -> None:
    """Memory is a number of pages, long enough, at most an eighth too long, and the same for its own length."""
    size = size_class(length)
    assert length <= size <= length * 9 // 8 + 4096
    assert size % 4096 == 0
    assert size_class(size) == size


def address(view: memoryview) -> int:
    """Return where in memory *view* begins."""
    numpy = pytest.importorskip("numpy")
    return int(numpy.frombuffer(view, dtype="u1").ctypes.data)


def copied(recycler: Recycler, data: bytes | bytearray) -> Buffer:
    memory = recycler.take(len(data))
    memory[:] = data
    return Buffer(memory)


def test_a_copy_is_equal_and_private() -> None:
    """A copy has the bytes, whatever becomes of the original, small or large."""
    recycler = Recycler(4 * MIB)
    for length in (1, SMALL - 1, SMALL, MIB):
        data = bytearray(os.urandom(length))
        copy, expected = copied(recycler, data), bytes(data)
        data[:] = bytes(length)
        assert bytes(copy) == expected


def test_memory_that_nobody_looks_at_is_used_again() -> None:
    """The next copy of a similar length takes the memory of a buffer that is gone, and no new one."""
    recycler = Recycler(4 * MIB)
    first = copied(recycler, bytes(MIB))
    where = address(first.view)
    first.release()
    second = copied(recycler, bytes(MIB - 10_000))
    assert address(second.view) == where
    assert recycler.kept == MIB


def test_memory_that_is_looked_at_is_not_used_again() -> None:
    """A slice or a numpy array of a released buffer keeps its memory and its content, until it is gone."""
    numpy = pytest.importorskip("numpy")
    recycler = Recycler(4 * MIB)
    buffer = copied(recycler, b"a" * MIB)
    where = address(buffer.view)
    array = numpy.frombuffer(buffer.view[10:], dtype="u1").reshape(-1, 2)[1:]
    buffer.release()
    del buffer
    other = copied(recycler, b"b" * MIB)
    assert (array == ord("a")).all()
    assert address(other.view) != where
    del array
    gc.collect()
    assert address(recycler.take(MIB)) == where


def test_what_is_kept_has_a_limit() -> None:
    """Beyond the limit memory is still given out, and not kept; idle memory makes room for what is needed."""
    recycler = Recycler(3 * MIB)
    taken = [recycler.take(MIB) for _ in range(5)]
    assert all(len(view) == MIB for view in taken)
    assert recycler.kept == 3 * MIB
    taken.clear()
    large = recycler.take(2 * MIB)
    assert recycler.kept == 3 * MIB
    assert recycler.trim() == MIB
    del large
    assert recycler.trim() == 2 * MIB
    assert recycler.kept == 0


def test_a_small_result_does_not_take_large_memory() -> None:
    """Idle memory of more than twice the length is left for a larger one."""
    recycler = Recycler(64 * MIB)
    recycler.take(32 * MIB).release()
    small = recycler.take(MIB)
    assert recycler.kept == 33 * MIB
    del small


def test_threads_never_share_memory() -> None:
    """Memory that one thread has found idle, and not taken yet, is not found idle by another one."""
    recycler = Recycler(8 * MIB)
    recycler.take(MIB).release()
    others: list[memoryview] = []
    other = Thread(target=lambda: others.append(recycler.take(MIB)))

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is Mapping.view.__code__:
            sys.setprofile(None)
            other.start()
            other.join(0.1)  # it waits for us, so this is the whole time

    sys.setprofile(interrupt)
    ours = recycler.take(MIB)
    other.join()
    assert address(ours) != address(others[0])
