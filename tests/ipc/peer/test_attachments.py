"""What is attached to a message arrives as it was, however it travels, and no word of a child makes more of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.ipc.datagram import MAX_FDS, Datagram
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.frames import Part, Sealed, Within
from belljar.ipc.interface.fd import Fd
from belljar.ipc.memory.buffer import SealedBuffer
from belljar.ipc.payload import make_sealed, new_memfd
from belljar.ipc.peer.attachments import MAX_SMALL, Inbound, Outbound
from belljar.ipc.peer.store import Store

from ...helpers import open_fds

LIMIT = 64 << 10


def no_objects(*_: object) -> Any:
    raise AssertionError


@contextmanager
def received(parts: tuple[Part, ...], fds: list[int]) -> Iterator[Inbound]:
    """Yield the attachments of a message at its receiver, who takes *fds* over."""
    found = Inbound(Store(LIMIT), parts, Datagram(b"", fds, (), None), no_objects, lent=True)
    try:
        yield found
    finally:
        found.close()


sizes: st.SearchStrategy[list[int | str]] = st.lists(st.sampled_from([1, MAX_SMALL, MAX_SMALL + 1, 20_000]), max_size=5)
with_fds: st.SearchStrategy[list[int | str]] = st.lists(
    st.sampled_from(["fd", "sealed"]),
    max_size=MAX_FDS - 2,  # the bytes may need two
)


@given(st.tuples(sizes, with_fds).flatmap(lambda some: st.permutations(some[0] + some[1])))
def test_each_arrives_in_its_place(kinds: list[int | str]) -> None:
    """Where no arena has room, bytes share memfds beside fds and sealed memory, and each is what it was."""
    before = open_fds()
    out = Outbound(Store(LIMIT), no_objects, no_objects)
    with Fd(os.open(__file__, os.O_RDONLY), "file-read") as file, SealedBuffer.seal(b"sealed") as memory:
        for number, kind in enumerate(kinds):
            if isinstance(kind, int):
                out.buffer(memoryview(bytes([number]) * kind))
            elif kind == "fd":
                out.fd(file)
            else:
                out.sealed(memory)
        out.pack()
        with received(tuple(out.parts), [os.dup(fd) for fd in out.fds]) as found:
            for number, kind in reversed([*enumerate(kinds)]):
                if isinstance(kind, int):
                    assert bytes(found.buffer(number)) == bytes([number]) * kind
                elif kind == "fd":
                    found.fd(number, "file-read").close()
                else:
                    with found.sealed(number) as same:
                        assert bytes(same) == b"sealed"
        out.discard()
    assert open_fds() == before


def test_parts_of_one_memory_are_no_more_than_it() -> None:
    """A child cannot let the host copy the same bytes for each of its attachments."""
    with received((Within(2, 0, 60), Within(2, 0, 60), Sealed(100)), [make_sealed(b"x" * 100)]) as found:
        found.sealed(0).release()
        with pytest.raises(PeerProtocolError, match="no part of 100 that several share"):
            found.sealed(1)


def test_memory_is_either_parts_or_whole() -> None:
    """What was taken as a whole has no parts any more."""
    with received((Sealed(100), Within(0, 0, 10)), [make_sealed(b"x" * 100)]) as found:
        assert len(found.buffer(0)) == 100
        with pytest.raises(PeerProtocolError, match="refers to part 0, which it does not have"):
            found.buffer(1)


def test_a_part_of_memory_keeps_no_more_than_itself() -> None:
    """Whoever keeps one byte of what several share does not keep the rest."""
    with received((Within(1, 0, 1), Sealed(60_000)), [make_sealed(bytes(60_000))]) as found, found.buffer(0) as one:
        assert len(memoryview(one.view.obj)) == 1


def test_memory_counts_for_what_it_was_said_to_have() -> None:
    """A child cannot send memfds that are empty when they are counted, and fill and seal them before they are read."""
    store, found = Store(LIMIT), []
    with ExitStack() as stack:
        for _ in range(4):
            fds = [new_memfd("empty") for _ in range(MAX_FDS)]
            inbound = Inbound(store, (Sealed(LIMIT),) * MAX_FDS, Datagram(b"", fds, (), None), no_objects, lent=True)
            stack.callback(inbound.close)
            found.append(inbound.is_too_much())
    assert found == [False, True, True, True]
