"""A sealed child that lies about shared memory, or reaches for it: refused by the kernel, or killed by rule."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio.lowlevel
import pytest

from belljar import Buffer, ProcessHost
from belljar.ipc.errors import PeerProtocolError, RemoteError

from ..children.memory_abuser.interfaces import Abusive, Desk
from ..children.memory_abuser.kernel import CUTS, WRITES
from ..children.memory_abuser.lies import LIES, MAX_PAYLOAD
from ..helpers import nothing_left, on_both, process

pytestmark = pytest.mark.anyio

ARENA = 2 * MAX_PAYLOAD


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What a child says is judged by the same code on both loops: tests/ipc/peer/test_hostile_peer.py."""
    return "asyncio"


class Counter:
    """A desk that nobody reaches with a lie."""

    def take(self, data: Buffer) -> int:
        return len(data)


def host_of(backend: str = "namespaces") -> ProcessHost:
    hostile = process(
        "memory_abuser:Plug",
        channel="socket",
        backend=backend,
        max_payload=MAX_PAYLOAD,
        shared_memory=ARENA,
        preload=("ctypes",),
    )
    return ProcessHost(hostile, services={Desk: Counter()})


async def warm(host: ProcessHost) -> Any:
    """Return the child's proxy, once both arenas are there and it has kept their fds."""
    child = host.proxy(Abusive)
    await child.keeps()
    for _ in range(2):
        await child.echo(bytes(100_000))
    return child


async def dies(host: ProcessHost, lie: Any) -> None:
    """Await *lie*, and see that the host refuses it and kills the child."""
    with pytest.raises(PeerProtocolError):
        await lie
    ended = await host.wait()
    assert ended.signal == "SIGKILL"
    assert ended.reason.startswith("it broke the protocol: ")


@on_both
@pytest.mark.parametrize("write", WRITES)
async def test_a_sealed_child_cannot_write_what_the_host_writes(backend: str, write: str) -> None:
    """With the fd of the host's arena in its hand, no call of the child's changes a byte, sealed or not."""
    async with host_of(backend) as host:
        child = await warm(host)
        data = b"d" * 100_000
        assert await child.attacks(write, "host") in ("EPERM", "EACCES", "ENOENT", "ENOSYS")
        assert bytes(await child.echo(data)) == data


@pytest.mark.parametrize("write", WRITES)
async def test_without_the_seal_it_can(write: str) -> None:
    """The same calls succeed on the arena that the child may write, and on a memfd of its own."""
    async with host_of("none") as host:
        child = await warm(host)
        assert await child.attacks(write, "child") == ""
        assert await child.attacks(write, "none") == ""


@on_both
@pytest.mark.parametrize("which", ["host", "child"])
async def test_a_sealed_child_cannot_cut_an_arena(backend: str, which: str) -> None:
    """No call makes an arena smaller or larger or seals it against its writer, and both go on working."""
    async with host_of(backend) as host:
        child = await warm(host)
        for cut in CUTS:
            assert await child.attacks(cut, which) in ("EPERM", "EACCES")
            assert bytes(await child.echo(b"d" * 100_000)) == b"d" * 100_000


async def test_without_the_seals_a_sealed_child_can() -> None:
    """The same calls of the same child succeed on a memfd without seals: it is the seals that keep it off."""
    async with host_of() as host:
        child = await warm(host)
        for name in ("map it writable", "make its mapping writable", "write to the fd", *CUTS):
            assert await child.attacks(name, "none") == ""


@pytest.mark.parametrize("lie", LIES)
async def test_a_child_that_lies_about_memory_is_killed(lie: str) -> None:
    """What cannot be true of a piece, an arena or a memfd is the child's last word, and leaves no fd and no memory."""
    with nothing_left(preload=("ctypes",)):
        async with host_of() as host:
            child = await warm(host)
            held = await child.look(200_000, 7)
            copy = await child.echo(b"c" * 100_000)
            await dies(host, child.lies(lie, bytes(150_000)))
            assert bytes(held) == bytes([7]) * 200_000
        assert bytes(held) == bytes([7]) * 200_000
        assert bytes(copy) == b"c" * 100_000
        held.release()


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie.startswith(("a memfd", "a file"))])
async def test_sealed_memory_is_looked_at(lie: str) -> None:
    """Sealed memory that is to be kept and mapped must have its seals and its length too."""
    with nothing_left(preload=("ctypes",)):
        async with host_of() as host:
            child = await warm(host)
            await dies(host, child.seals(lie))


async def test_an_fd_of_another_kind_than_declared() -> None:
    """An fd that is said to be of another kind than the interface has is refused, and closed."""
    with nothing_left(preload=("ctypes",)):
        async with host_of() as host:
            child = await warm(host)
            await dies(host, child.opens())


async def test_a_result_over_one_that_is_held() -> None:
    """A result may not lie where another one is that the host still looks at."""
    async with host_of() as host:
        child = await warm(host)
        held = await child.look(200_000, 7)
        await dies(host, child.again())
        assert bytes(held) == bytes([7]) * 200_000


async def test_an_arena_that_is_looked_at_is_not_taken_back() -> None:
    """The host keeps what it looks at, whatever the child says of it."""
    with nothing_left(preload=("ctypes",)):
        async with host_of() as host:
            child = await warm(host)
            held = await child.look(200_000, 7)
            with pytest.raises(PeerProtocolError, match="was taken back while it was in use"):
                await child.take_back()
            assert bytes(held) == bytes([7]) * 200_000
        held.release()


async def test_items_beyond_credit() -> None:
    """Large items that nobody gave credit for end the stream and the child."""
    with nothing_left(preload=("ctypes",)):
        async with host_of() as host:
            child = await warm(host)

            async def read() -> None:
                async for _ in child.frames():
                    pass

            await dies(host, read())


async def test_an_item_that_is_released_twice() -> None:
    """An item of an upload can be released once, by its reader."""

    async def frames() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(100_000)

    async with host_of() as host:
        child = await warm(host)
        await dies(host, child.releases_twice(frames()))


@pytest.mark.parametrize("overlap", [True, False])
async def test_a_service_is_given_no_lies(overlap: bool) -> None:
    """What a child hands to a service is looked at as its results are; but two arguments may lie in one place."""
    async with host_of() as host:
        child = await warm(host)
        if overlap:
            with pytest.raises((PeerProtocolError, RemoteError)):
                await child.asks(overlap)
        else:
            await dies(host, child.asks(overlap))


async def test_a_result_that_changes_while_it_is_copied() -> None:
    """What the host has copied is whole and stays so, while a look at the same place gives now this and now that."""
    async with host_of() as host:
        child = await warm(host)
        shared = await child.changes(100_000)
        copy = bytes(shared)
        while bytes(shared) == copy:  # ends only because the child goes on
            await anyio.lowlevel.checkpoint()
        assert set(copy) <= set(b"ab\0")
        host.kill()
        shared.release()
