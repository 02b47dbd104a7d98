"""Small calls: one after the other, and as many in flight as there may be."""

# pyzmq's types leave the parts of a message open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import anyio
import zmq
import zmq.asyncio

from belljar import ProcessHost, SyncHost

from .. import peers as start
from . import interfaces, ours
from .peers import dealer, echo_bytes, echo_objects, echo_packets, executor, forked, piped, row_of
from .work import Loop, Row, Run, Work, in_all, in_all_awaited, per_await, per_call

MESSAGE = b"x" * 64
LANES = 64
"""Calls in flight to each child."""
CHUNK = 64
CHILDREN = 2
RAW = "raw SEQPACKET, blocking"
RAW_WINDOW = f"raw SEQPACKET, {LANES} in flight"
PIPE = "multiprocessing Pipe, pickle"
ZMQ = "pyzmq DEALER/ROUTER, blocking"
POOL = "ProcessPoolExecutor.submit"
ASYNCIO, TRIO, UVLOOP, SYNC, ON_ZMQ, MAP = (
    "belljar, asyncio",
    "belljar, trio",
    "belljar, uvloop",
    "belljar, SyncHost",
    "belljar, asyncio, channel zmq",
    f"belljar, map(chunksize={CHUNK}), asyncio",
)


def _raw(sock: socket.socket) -> Run:
    def call() -> None:
        sock.send(MESSAGE)
        sock.recv(65_536)

    return per_call(call)


@asynccontextmanager
async def _raw_asyncio() -> AsyncGenerator[Run]:
    """What an event loop costs without anything in the message: a callback of its selector wakes the caller."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    with forked(echo_packets, socket.SOCK_SEQPACKET) as sock:

        def readable() -> None:
            sock.recv(65_536)
            waiter.set_result(None)

        async def call() -> None:
            nonlocal waiter
            waiter = loop.create_future()
            sock.send(MESSAGE)
            await waiter

        loop.add_reader(sock, readable)
        yield per_await(call)
        loop.remove_reader(sock)


def _pipe(pipe: Connection) -> Run:
    def call() -> None:
        pipe.send(MESSAGE)
        pipe.recv()

    return per_call(call)


def _pipe_bytes(pipe: Connection) -> Run:
    def call() -> None:
        pipe.send_bytes(MESSAGE)
        pipe.recv_bytes()

    return per_call(call)


@contextmanager
def _router() -> Generator[tuple[zmq.Socket[bytes], bytes]]:
    """Yield a ROUTER and the identity of its one peer, which ends at an empty message."""
    with dealer() as address, zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(address)
        identity, _ = router.recv_multipart()
        yield router, identity
        router.send_multipart([identity, b""])


def _zmq(opened: tuple[zmq.Socket[bytes], bytes]) -> Run:
    router, identity = opened

    def call() -> None:
        router.send_multipart([identity, MESSAGE])
        router.recv_multipart()

    return per_call(call)


@asynccontextmanager
async def _zmq_asyncio() -> AsyncGenerator[Run]:
    with dealer() as address, zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(address)
        identity, _ = await router.recv_multipart()

        async def call() -> None:
            await router.send_multipart([identity, MESSAGE])
            await router.recv_multipart()

        yield per_await(call)
        await router.send_multipart([identity, b""])


def _submit(pool: concurrent.futures.ProcessPoolExecutor) -> Run:
    return per_call(lambda: pool.submit(start.echo, MESSAGE).result())


def _proxy(host: ProcessHost) -> Run:
    proxy = host.proxy(interfaces.Echo)
    return per_await(lambda: proxy.echo(MESSAGE))


def _sync(host: SyncHost) -> Run:
    proxy = host.proxy(interfaces.PlainEcho)
    return per_call(lambda: proxy.echo(MESSAGE))


def _of_loop(name: str, loop: Loop, make: Callable[[ProcessHost], Run], **fields: Any) -> Row:
    return Row(name, ours.on_one(ours.ECHO, make, **fields), loop)


CALL = Work(
    name="call",
    title="64-byte call and answer",
    unit="us",
    base=RAW,
    judged="one core",
    rows=(
        Row(RAW, row_of(partial(forked, echo_packets, socket.SOCK_SEQPACKET), _raw)),
        Row("raw SEQPACKET, asyncio add_reader", _raw_asyncio, "asyncio"),
        Row("multiprocessing Pipe, bytes", row_of(partial(piped, echo_bytes), _pipe_bytes)),
        Row(PIPE, row_of(partial(piped, echo_objects), _pipe)),
        Row(ZMQ, row_of(_router, _zmq)),
        Row("pyzmq DEALER/ROUTER, zmq.asyncio", _zmq_asyncio, "asyncio"),
        Row(POOL, row_of(partial(executor, 1), _submit)),
        Row(SYNC, row_of(partial(ours.sync_host, ours.ECHO), _sync)),
        _of_loop(ASYNCIO, "asyncio", _proxy),
        _of_loop(UVLOOP, "uvloop", _proxy),
        _of_loop(TRIO, "trio", _proxy),
        _of_loop(ON_ZMQ, "asyncio", _proxy, channel="zmq"),
    ),
)


@contextmanager
def _two_raw() -> Generator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(forked(echo_packets, socket.SOCK_SEQPACKET)) for _ in range(CHILDREN)]


def _window(socks: list[socket.socket]) -> Run:
    def do(count: int) -> int:
        turns = max(count // CHILDREN - LANES, 0)
        for sock in socks:
            for _ in range(LANES):
                sock.send(MESSAGE)
        for _ in range(turns):
            for sock in socks:
                sock.recv(65_536)
                sock.send(MESSAGE)
        for sock in socks:
            for _ in range(LANES):
                sock.recv(65_536)
        return (turns + LANES) * CHILDREN

    return in_all(do)


def _submit_all(pool: concurrent.futures.ProcessPoolExecutor) -> Run:
    def do(count: int) -> int:
        futures = [pool.submit(start.echo, MESSAGE) for _ in range(count)]
        return sum(bool(future.result()) for future in futures)

    return in_all(do)


def _map_pool(pool: concurrent.futures.ProcessPoolExecutor) -> Run:
    def do(count: int) -> int:
        return sum(1 for _ in pool.map(start.echo, [MESSAGE] * count, chunksize=CHUNK))

    return in_all(do)


async def _lane(call: Callable[[bytes], Awaitable[bytes]], count: int) -> None:
    for _ in range(count):
        await call(MESSAGE)


@asynccontextmanager
async def _lanes() -> AsyncGenerator[Run]:
    async with ours.hosts(CHILDREN, ours.ECHO) as both:
        proxies = [host.proxy(interfaces.Echo) for host in both]

        async def do(count: int) -> int:
            each = max(count // (CHILDREN * LANES), 1)
            async with anyio.create_task_group() as tasks:
                for proxy in proxies:
                    for _ in range(LANES):
                        tasks.start_soon(_lane, proxy.echo, each)
            return each * CHILDREN * LANES

        yield in_all_awaited(do)


async def _map_one(host: ProcessHost, count: int) -> None:
    async for _ in host.map("echo", [(MESSAGE,)] * count, chunksize=CHUNK):
        pass


@asynccontextmanager
async def _map() -> AsyncGenerator[Run]:
    async with ours.hosts(CHILDREN, ours.ECHO) as both:

        async def do(count: int) -> int:
            each = max(count // CHILDREN, 1)
            async with anyio.create_task_group() as tasks:
                for host in both:
                    tasks.start_soon(_map_one, host, each)
            return each * CHILDREN

        yield in_all_awaited(do)


MAP_POOL = f"ProcessPoolExecutor.map(chunksize={CHUNK})"
CALLS = Work(
    name="calls",
    title=f"64-byte calls, {CHILDREN} children, many in flight",
    unit="k/s",
    base=POOL,
    judged="free",
    rows=(
        Row(RAW_WINDOW, row_of(_two_raw, _window)),
        Row(POOL, row_of(partial(executor, CHILDREN), _submit_all)),
        Row(MAP_POOL, row_of(partial(executor, CHILDREN), _map_pool)),
        Row(ASYNCIO, _lanes, "asyncio"),
        Row(UVLOOP, _lanes, "uvloop"),
        Row(TRIO, _lanes, "trio"),
        Row(MAP, _map, "asyncio"),
    ),
)
