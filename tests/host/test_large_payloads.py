"""Large payloads through real, sealed children: every way that they can go, and what is left of each."""

from __future__ import annotations

import gc
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from belljar import Buffer, Fd, Policy, ProcessHost, ResultError, SealedBuffer, SharedBuffer
from belljar.host.errors import ChildEnded
from belljar.ipc.errors import ArgumentError
from belljar.ipc.messages import MAX_INLINE
from belljar.ipc.payload import make_sealed
from belljar.ipc.peer.attachments import MAX_SMALL
from belljar.ipc.peer.records import WINDOW_OF_LARGE
from belljar.ipc.peer.store import CHUNK, FIRST_SIZE, StoreUse

from ..children.large.interfaces import Desk, Kinds, Payloads
from ..helpers import nothing_left, on_both, process

pytestmark = pytest.mark.anyio

MIB = 1 << 20


class Counter:
    """A desk that adds up what it was given. ``kept`` is what it keeps a view of, if it shall."""

    def __init__(self) -> None:
        self.keeps = False
        self.kept: memoryview | None = None

    def take(self, data: Buffer) -> int:
        return len(data) + data.view[0] + data.view[-1]

    def peek(self, data: SharedBuffer) -> int:
        self.kept = data.view if self.keeps else None
        return len(data) + data.view[0] + data.view[-1]


def host_of(desk: Counter | None = None, **fields: Any) -> ProcessHost:
    return ProcessHost(process("large:Plug", **fields), services={Desk: desk or Counter()})


def memory(host: ProcessHost) -> StoreUse:
    assert host.use is not None
    return host.use.memory


def used(host: ProcessHost) -> int:
    """Return how much of the arena that the host writes is in use."""
    written = memory(host).written
    return written.used if written is not None else 0


_earlier: set[int] = set()
"""The arenas, by their inodes, that an error of an earlier test still holds in this process."""


@pytest.fixture(autouse=True)
def leave_out_earlier_ones() -> None:
    """Count only what this test makes."""
    gc.collect()
    _earlier.clear()
    _earlier.update(inode for _, _, inode in _mapped("self"))


def _mapped(pid: int | str) -> list[tuple[str, int, int]]:
    maps = Path(f"/proc/{pid}/maps").read_text()
    found = re.findall(r"^(\w+)-(\w+) (\S+) \S+ \S+ (\d+) +/memfd:belljar-arena", maps, re.M)
    return [(rights, int(end, 16) - int(start, 16), int(inode)) for start, end, rights, inode in found]


def arenas(pid: int | str = "self") -> list[tuple[str, int]]:
    """Return rights and size of each arena that is mapped in a process."""
    return sorted((rights, size) for rights, size, inode in _mapped(pid) if inode not in _earlier)


async def warm(host: ProcessHost, size: int = 100_000) -> Any:
    """Return the host's proxy, once both arenas are there."""
    child = host.proxy(Payloads)
    for _ in range(2):
        await child.echo(bytes(size))
    return child


@on_both
async def test_sizes_around_each_threshold(backend: str) -> None:
    """Bytes come back equal in every size: in the message, in an arena, in a memfd where that is too small."""
    limit, most = 2 * MIB, 3 * MIB
    edges = (0, MAX_SMALL, 8 * MAX_SMALL, MAX_INLINE, CHUNK, limit)
    sizes = [size + more for size in edges for more in (-1, 0, 1) if size + more >= 0] + [most]
    data = memoryview(bytes(range(251)) * (most // 251 + 1))
    with nothing_left(backend):
        async with host_of(backend=backend, shared_memory=limit, max_payload=most) as host:
            child = await warm(host)
            for size in sizes:
                assert bytes(await child.echo(data[:size])) == data[:size]
                assert await child.echo_bytes(bytes(data[: max(0, size - 20)])) == data[: max(0, size - 20)]
            assert memory(host).memfds > 1
            for call in (child.echo(data[: most + 1]), child.echo_bytes(bytes(most))):
                with pytest.raises(ArgumentError, match=f"over max_payload = {most}"):
                    await call
            with pytest.raises(ResultError, match=f"over max_payload = {most}"):
                await child.fill(most + 1, 1)
            assert used(host) == 0


async def test_attachments_take_an_interface() -> None:
    """By name alone neither an argument nor a result is an attachment; both errors say what to do."""
    async with host_of() as host:
        with pytest.raises(ArgumentError, match="at argument `data`, which is an attachment: call it by an interface"):
            await host.call("total", b"data")
        with pytest.raises(ResultError, match="it has an attachment; say of which type, by returns= or an interface"):
            await host.call("fill", 3, 1)
        assert bytes(await host.call("fill", 3, 1, returns=Buffer)) == b"\x01" * 3


async def test_several_attachments_at_once() -> None:
    """Each attachment of a message goes its own way, and all arrive in their places."""
    async with host_of(shared_memory=MIB) as host:
        child = await warm(host)
        small, large, larger = b"s" * 100, b"l" * 500_000, b"m" * 2 * MIB
        for first, second in ((small, large), (large, larger), (larger, larger), (large, large)):
            assert tuple(map(bytes, await child.both(first, second))) == (second, first)


@pytest.mark.parametrize("shared_memory", [0, MIB])
async def test_more_attachments_than_a_message_has_fds(shared_memory: int) -> None:
    """Where no arena has room for them, those that fit one payload share a memfd, as arguments and as results."""
    sizes = [[5000] * 5, [4096] * 30, [1] * 30 + [5000] * 34, [*range(4097, 4117), 3 * MIB, 10, 2 * MIB]]
    sizes += [[4096] * 8 + rest for rest in ([0], [0, 0, 5000], [5000, 0])]
    with nothing_left():
        async with host_of(shared_memory=shared_memory, max_payload=4 * MIB) as host:
            child = host.proxy(Payloads)
            for some in sizes:
                parts = [bytes([number]) * size for number, size in enumerate(some)]
                for _ in range(2):
                    assert [*map(bytes, await child.backwards([*map(Buffer, parts)]))] == parts[::-1]
            with pytest.raises(ArgumentError, match="it needs more than 4 fds"):
                await child.backwards([Buffer(bytes(4 * MIB))] * 5)


async def test_a_message_is_too_large_for_its_parts() -> None:
    """What many attachments take beside them counts too; who asks for too much is told so, and nothing stays behind."""
    row = ("s" * 1002, Buffer(bytes(5000)))
    async with host_of() as host:
        child = await warm(host)
        before = memory(host).read
        for _ in range(10):
            with pytest.raises(ArgumentError, match="what stands beside its attachments"):
                await child.rows([row] * 64, 1)
            with pytest.raises(ResultError, match="what stands beside its attachments"):
                await child.rows([row], 64)
        assert len(await child.rows([row] * 40, 1)) == 40
        assert host.use is not None
        assert host.use.under_way == used(host) == 0
        assert memory(host).read == before


async def test_within_other_values_there_may_be_no_buffer() -> None:
    """A list of buffers may be empty, as an argument and as a result; and what only looks like one says so."""
    async with host_of() as host:
        child = host.proxy(Payloads)
        assert await child.backwards([]) == []
        text = (
            "the result of 'backwards' does not fit: bytes stand where a Buffer is declared; within other values give"
        )
        with pytest.raises(ResultError, match=text):
            await child.backwards([Buffer(b"bytes")] * 7)


async def test_arenas_grow_and_the_old_ones_go() -> None:
    """What finds no room makes a larger arena; the smaller one is unmapped on both sides, and its fd closed."""
    with nothing_left():
        async with host_of(max_payload=64 * MIB) as host:
            child = await warm(host)
            assert arenas() == [("r--s", FIRST_SIZE), ("rw-s", FIRST_SIZE)]
            assert arenas(host.child_pid or 0) == arenas()
            for _ in range(2):
                await child.echo(bytes(20 * MIB))
            await child.noted()
            assert arenas() == [("r--s", 4 * FIRST_SIZE), ("rw-s", 4 * FIRST_SIZE)]
            assert arenas(host.child_pid or 0) == arenas()
            assert memory(host).memfds == 2


async def test_many_results_at_once_make_no_more_arenas_than_they_need() -> None:
    """Results that found none on their way, any number of them, make one arena; and so do arguments."""
    async with host_of() as host:
        child = host.proxy(Payloads)
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(child.echo, bytes(100_000))
        await child.noted()
        assert arenas() == [("r--s", FIRST_SIZE), ("rw-s", FIRST_SIZE)]


async def test_an_arena_that_was_too_small_goes_with_the_call_that_used_it() -> None:
    """An argument that still lies in the smaller arena when a larger one comes is the last to use it."""
    async with host_of(shared_memory=64 * MIB) as host:
        child = await warm(host)
        async with anyio.create_task_group() as tasks:
            for size in (10 * MIB, 10 * MIB, 20 * MIB, 100_000):
                tasks.start_soon(child.total, bytes(size))
        await child.noted()
        (size,) = [size for rights, size in arenas() if rights == "rw-s"]
        assert size > FIRST_SIZE


async def test_results_that_are_held_fill_the_arena() -> None:
    """While views of results are held there is less room, at last none: results come as memfds, and nothing breaks."""
    with nothing_left():
        async with host_of(shared_memory=MIB) as host:
            child = await warm(host)
            held = [await child.look(300_000, value) for value in range(1, 7)]
            copies = [await child.fill(300_000, value) for value in range(1, 7)]
            for value, (view, copy) in enumerate(zip(held, copies, strict=True), 1):
                assert bytes(view) == bytes(copy) == bytes([value]) * 300_000
            for view in held:
                view.release()
            assert bytes((await child.look(900_000, 9)).view[-1:]) == b"\x09"


async def test_a_copy_that_comes_while_a_view_is_held_is_released_once() -> None:
    """Results of all kinds come and go beside one that is held, which stays as it is; the child does not complain."""
    async with host_of() as host:
        child = await warm(host)
        held = await child.look(200_000, 7)
        for size in (70_000, 200_000, 2 * MIB, 70_000):
            assert len(await child.fill(size, 1)) == size
            assert len(await child.look(size, 2)) == size
            assert len(await child.echo_bytes(bytes(size))) == size
        assert bytes(held) == bytes([7]) * 200_000
    assert (await host.wait()).exit_code == 0


@pytest.mark.parametrize("size", [500_000, 2 * MIB])
async def test_a_view_is_of_the_arena_itself(size: int) -> None:
    """A result that is declared a SharedBuffer is not copied, however large: no private memory is taken for it."""
    async with host_of() as host:
        child = await warm(host, size)
        before = memory(host).kept
        gc.collect()
        host.trim()
        kept = memory(host).kept
        for _ in range(2):  # the arena that trim took comes again
            with await child.look(size, 3) as view:
                assert view.view[-1] == 3
        assert memory(host).kept == kept < before


async def test_a_child_without_address_space_gets_memfds() -> None:
    """A child that cannot map an arena, for limits.memory is used up, is served by memfds, and the host by its own."""
    policy = Policy.compute().with_limits(memory="250MiB")
    with nothing_left():
        async with host_of(policy=policy, shared_memory=1 << 30, max_payload=80 * MIB) as host:
            child = host.proxy(Payloads)
            for _ in range(3):
                assert await child.total(bytes(66 * MIB)) == 66 * MIB
                assert len(await child.fill(66 * MIB, 1)) == 66 * MIB
            assert arenas(host.child_pid or 0) == []
            assert len(arenas()) == 2
            assert await child.total(bytes(100)) == 100


async def test_memory_is_given_back() -> None:
    """Both arenas and the private memory keep what they had until `trim`, which leaves no page of them."""

    def pages() -> int:
        names = [fd for fd in os.listdir("/proc/self/fd") if "belljar-arena" in _target(fd)]
        files = [os.stat(f"/proc/self/fd/{fd}") for fd in names]
        return sum(file.st_blocks * 512 for file in files if file.st_ino not in _earlier)

    async with host_of() as host:
        child = await warm(host, 5 * MIB)
        assert pages() >= 10 * MIB
        assert memory(host).kept >= 5 * MIB
        host.trim()
        await child.noted()
        gc.collect()
        assert pages() == 0
        assert memory(host).kept == 0
        assert [rights for rights, _ in arenas(host.child_pid or 0)] == ["rw-s"]
        for _ in range(2):
            assert bytes(await child.echo(b"again" * 100_000)) == b"again" * 100_000


def _target(fd: str) -> str:
    with suppress(FileNotFoundError):
        return os.readlink(f"/proc/self/fd/{fd}")
    return ""


async def test_private_memory_is_used_again() -> None:
    """Results of alike sizes, one after the other, take the memory of one; two at a time that of two."""
    async with host_of() as host:
        child = await warm(host)
        await child.fill(5 * MIB, 1)
        kept = memory(host).kept
        for value in range(5):
            assert bytes(await child.fill(5 * MIB - value, value)) == bytes([value]) * (5 * MIB - value)
            assert memory(host).kept == kept
        both = [await child.fill(5 * MIB, value) for value in (1, 2)]
        assert memory(host).kept > kept
        assert [each.view[0] for each in both] == [1, 2]


async def test_a_view_of_an_argument_is_not_kept() -> None:
    """A call whose method keeps a view of an argument fails with the reason; the child lives on."""
    async with host_of() as host:
        child = await warm(host)
        with pytest.raises(ResultError, match="a view of an argument was kept after the call; copy what is needed"):
            await child.keeps(bytes(100_000))
        assert used(host) == 0
        assert await child.total(bytes(100_000)) == 100_000
        await child.forgets()
        await child.keeps(bytes(100))  # it came in the message itself


async def test_sealed_buffers_outlive_call_and_child() -> None:
    """The child keeps a sealed buffer after the call, and the host has what it got when the child is gone."""
    with nothing_left():
        async with host_of() as host:
            child = await warm(host)
            with SealedBuffer.seal(b"forever" * 100_000) as given:
                back = await child.keep_sealed(given)
            assert await child.kept_sealed() == b"forever" * 100_000
            assert os.fstat(back.fileno()).st_size == 700_000
        assert bytes(back) == b"forever" * 100_000
        back.release()


async def test_fds_of_each_kind(tmp_path: Path) -> None:
    """Files, pipes, sockets and sealed memfds arrive as what they were declared; all others are refused, and closed."""
    (tmp_path / "file").write_bytes(b"content")
    with nothing_left():
        async with host_of() as host:
            child = host.proxy(Payloads)
            reader, writer = os.pipe()
            with Fd(reader, "pipe-read") as end, Fd(writer, "pipe-write") as sink:
                with Fd(os.open(tmp_path / "file", os.O_RDONLY), "file-read") as source:
                    assert await child.through_fds(source, sink) == 7
                    with pytest.raises(ArgumentError, match="Expected an fd of kind pipe-write, got file-read"):
                        await child.through_fds(source, source)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
                assert os.read(end.fileno(), 100) == b"content"
                one, other = socket.socketpair()
                opened = Fd(os.open(tmp_path / "file", os.O_RDWR), "file-read-write")
                with other, Fd(one.detach(), "socket-stream") as stream, opened as writable:
                    await child.takes(Kinds(stream, writable, end, Fd(make_sealed(b"x"), "memfd-sealed")))
                    assert other.send(b"still open here") == 15
            with await child.makes_sealed() as memfd:
                assert os.read(memfd.fileno(), 100) == b"sealed"
            gc.collect()
            assert await child.noted() == 0


async def test_what_is_reserved_is_not_copied() -> None:
    """Bytes that are rendered into reserved memory are what the child reads; the buffer is the child's by then."""
    async with host_of() as host:
        child = host.proxy(Payloads)
        assert host.reserve(MIB) is None  # the arena is made now
        await child.noted()
        reserved = host.reserve(2 * MIB)
        assert reserved is not None
        assert used(host) == 2 * MIB
        reserved.view[:] = b"\x05" * (2 * MIB)
        puts = memory(host).written
        assert await child.total(reserved) == 2 * MIB + 10
        assert memory(host).written == puts._replace(used=0)  # type: ignore[union-attr]  # it was there before
        with pytest.raises(ValueError, match="was released"):
            _ = reserved.view
        dropped = host.reserve(MIB)
        del dropped
        assert await child.total(bytes(100_000)) == 100_000
        assert used(host) == 0


async def test_what_was_reserved_in_an_arena_that_is_gone_since_is_copied() -> None:
    """A reserved buffer outlives the growth of the arena that it lies in, and that arena goes with it."""
    async with host_of() as host:
        child = await warm(host)
        reserved = host.reserve(MIB)
        assert reserved is not None
        reserved.view[:] = b"\x05" * MIB
        await child.total(bytes(20 * MIB))
        await child.total(bytes(20 * MIB))
        assert len(arenas(host.child_pid or 0)) == 3
        assert await child.total(reserved) == MIB + 10
        del reserved
        await child.total(bytes(100_000))
        await child.noted()
        assert len(arenas(host.child_pid or 0)) == 2


async def test_streams_of_large_items() -> None:
    """Large items flow both ways; there are no more in the arena than the window has, and the one that is read."""
    async with host_of() as host:
        child = await warm(host)
        async for frame in child.frames(3, 300_000):
            assert bytes(frame.view[:1]) == bytes([frame.view[-1]])
        most = 0

        async def frames() -> AsyncIterator[bytes]:
            nonlocal most
            for _ in range(30):
                yield bytes(300_000)
                most = max(most, used(host))

        assert await child.sum_up(frames()) == 30 * 300_000
        assert 0 < most <= (WINDOW_OF_LARGE + 1) * 303_104
        await child.noted()
        assert used(host) == 0
        seen = [frame.view[0] async for frame in child.frames(40, 300_000)]
        assert seen == list(range(40))


async def test_streams_that_nobody_reads_on_leave_nothing() -> None:
    """Items that have come and are not wanted any more are released, if the stream is closed and if it is dropped."""
    async with host_of(shared_memory=4 * MIB, max_payload=4 * MIB) as host:
        child = await warm(host)
        for close in (True, False) * 3:
            items = child.frames(8, 400_000)
            assert len(await anext(items)) == 400_000
            await child.noted()  # by now more have come
            if close:
                await items.aclose()
            del items
            gc.collect()
            await child.noted()
        before = memory(host)
        assert len(await child.look(3_900_000, 1)) == 3_900_000  # it takes nearly all of the arena
        assert len(arenas()) == 2
        assert memory(host).memfds == before.memfds


async def test_notifications_release_what_they_brought() -> None:
    """An argument of a notification goes when the method is done with it."""
    async with host_of() as host:
        child = await warm(host)
        for _ in range(3):
            await child.note(bytes(300_000))
        assert await child.noted() == 300_000
        await child.noted()
        assert used(host) == 0


async def test_cancelling_in_the_middle_of_a_copy() -> None:
    """A call that is cancelled while its argument is copied is never sent, and its piece is free again."""
    async with host_of() as host:
        child = await warm(host)
        seen: list[int] = []
        scope = anyio.CancelScope()

        async def cancel() -> None:
            while not used(host):
                await anyio.lowlevel.checkpoint()
            seen.append(used(host))
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel)
            with scope:
                await child.total(bytes(12 * MIB))
        assert scope.cancelled_caught
        assert (seen, used(host)) == ([12 * MIB], 0)
        assert await child.total(bytes(12 * MIB)) == 12 * MIB


async def test_cancelling_while_a_result_is_copied() -> None:
    """A call that is cancelled while its result is copied out releases it: the whole arena is free for the next one."""
    async with host_of(max_payload=15 * MIB, shared_memory=16 * MIB) as host:
        child = await warm(host)
        for _ in range(3):

            async def cancel(scope: anyio.CancelScope, kept: int) -> None:
                while memory(host).kept == kept:
                    await anyio.lowlevel.checkpoint()
                scope.cancel()

            host.trim()
            scope = anyio.CancelScope()
            async with anyio.create_task_group() as tasks:
                with scope:
                    tasks.start_soon(cancel, scope, memory(host).kept)
                    await child.fill(15 * MIB, 1)
            assert scope.cancelled_caught
        with await child.look(15 * MIB, 2) as result:
            assert result.view.obj is not None
            assert _lies_in_arena(result)


def _lies_in_arena(buffer: SharedBuffer) -> bool:
    return buffer._arena is not None


async def test_small_calls_pass_a_large_copy() -> None:
    """While a large argument is copied, others are sent and answered."""
    async with host_of() as host:
        child = await warm(host)
        order: list[str] = []

        async def call(name: str, size: int) -> None:
            await child.total(bytes(size))
            order.append(name)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, "large", 15 * MIB)
            tasks.start_soon(call, "small", 10)
        assert order == ["small", "large"]


async def test_a_child_that_is_killed_while_views_are_held() -> None:
    """The host still reads what it holds when the child is gone, and all memory and fds go with the views."""
    with nothing_left():
        async with host_of() as host:
            child = await warm(host)
            held = [await child.look(300_000, 4), await child.look(2 * MIB, 5)]
            copy = await child.fill(2 * MIB, 6)
            host.kill()
            with pytest.raises(ChildEnded):
                await child.noted()
            assert [view.view[-1] for view in held] == [4, 5]
        assert [view.view[-1] for view in held] == [4, 5]
        assert copy.view[-1] == 6
        assert len(arenas()) == 1
        for view in held:
            view.release()
        assert arenas() == []


async def test_a_host_that_leaves_while_a_large_copy_is_under_way() -> None:
    """Who waits for a call that is still being copied when the child is killed learns that it has ended."""
    async with host_of() as host:
        child = await warm(host)

        async def ends() -> None:
            with pytest.raises(ChildEnded):
                await child.total(bytes(15 * MIB))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ends)
            while not used(host):
                await anyio.lowlevel.checkpoint()
            host.kill()


async def test_what_a_child_hands_over_in_a_service() -> None:
    """The host's service gets a copy, or looks at the child's memory for as long as it runs and no longer."""
    desk = Counter()
    async with host_of(desk) as host:
        child = await warm(host)
        for size in (10, 100_000, 100_000, 2 * MIB, 100_000):
            assert await child.give_away(size, 7) == 2 * (size + 14)
        desk.keeps = True
        with pytest.raises(Exception, match="failed in the host"):
            await child.give_away(100_000, 7)
        desk.keeps, desk.kept = False, None
        assert await child.give_away(100_000, 7) == 2 * 100_014
    assert (await host.wait()).exit_code == 0
