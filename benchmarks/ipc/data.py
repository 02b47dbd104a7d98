"""Large data there and back, streams, and small calls beside a transfer."""

from __future__ import annotations

import concurrent.futures
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import anyio
import numpy as np

from belljar import ProcessHost, SyncHost

from .. import peers as start
from . import interfaces, ours
from .calls import ASYNCIO, MESSAGE, SYNC, UVLOOP
from .peers import (
    echo_bytes,
    echo_stream,
    executor,
    forked,
    piped,
    receive_exactly,
    row_of,
    send_items,
    send_packets,
)
from .work import Opened, Row, Run, Work, in_all, in_all_awaited, per_await, per_call

MIB = 1 << 20
LARGE = 33 * MIB
MEMCPY = "memcpy (numpy.copyto), one way"
STREAM = "raw stream socket, recv_into"
POOL = "ProcessPoolExecutor"


def _memcpy(size: int) -> Run:
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    return per_call(lambda: np.copyto(target, source), size)


def _three_copies(size: int) -> Run:
    """What a `Buffer` there and back takes at the least: into one arena, into the other, and out of that."""
    source, *places = (memoryview(bytearray(size)) for _ in range(4))

    def call() -> None:
        places[0][:] = source
        places[1][:] = places[0]
        places[2][:] = places[1]

    return per_call(call, 2 * size)


def _stream_echo(size: int, sock: socket.socket) -> Run:
    data, view = b"x" * size, memoryview(bytearray(size))

    def call() -> None:
        sock.sendall(data)
        receive_exactly(sock, view)

    return per_call(call, 2 * size)


def _pipe_echo(size: int, pipe: Connection) -> Run:
    data = b"x" * size

    def call() -> None:
        pipe.send_bytes(data)
        pipe.recv_bytes()

    return per_call(call, 2 * size)


def _pool_echo(size: int, pool: concurrent.futures.ProcessPoolExecutor) -> Run:
    data = b"x" * size
    return per_call(lambda: pool.submit(start.echo, data).result(), 2 * size)


def _bytes_echo(size: int, host: ProcessHost) -> Run:
    data, proxy = b"x" * size, host.proxy(interfaces.Echo)
    return per_await(lambda: proxy.echo(data), 2 * size)


def _buffer_echo(size: int, host: ProcessHost) -> Run:
    data, proxy = bytearray(size), host.proxy(interfaces.Large)
    return per_await(lambda: proxy.echo(data), 2 * size)


def _buffer_echo_sync(size: int, host: SyncHost) -> Run:
    data, proxy = bytearray(size), host.proxy(interfaces.PlainLarge)
    return per_call(lambda: proxy.echo(data), 2 * size)


def _shared_echo(size: int, host: ProcessHost) -> Run:
    """The host renders where the child reads, and reads where the child writes: only the child copies."""
    proxy = host.proxy(interfaces.Shared)

    async def call() -> None:
        data = host.reserve(size)
        while data is None:  # until the child has mapped an arena that is large enough
            await host.proxy(interfaces.Large).echo(bytes(size))
            data = host.reserve(size)
        (await proxy.echo(data)).release()

    return per_await(call, 2 * size)


BUFFER, BUFFER_SYNC = "belljar, Buffer, asyncio", "belljar, Buffer, SyncHost"


def _echo(size: int) -> Work:
    return Work(
        name=f"{size // MIB} MiB",
        title=f"{size // MIB} MiB there and back",
        unit="GB/s",
        base=MEMCPY,
        judged="one core",
        rows=(
            Row(MEMCPY, row_of(partial(nullcontext, size), _memcpy)),
            Row("three copies, one process", row_of(partial(nullcontext, size), _three_copies)),
            Row(STREAM, row_of(partial(forked, echo_stream(size), socket.SOCK_STREAM), partial(_stream_echo, size))),
            Row("multiprocessing Pipe, bytes", row_of(partial(piped, echo_bytes), partial(_pipe_echo, size))),
            Row(POOL, row_of(partial(executor, 1), partial(_pool_echo, size))),
            Row("belljar, bytes, asyncio", ours.on_one(ours.ECHO, partial(_bytes_echo, size)), "asyncio"),
            Row(BUFFER, ours.on_one(ours.LARGE, partial(_buffer_echo, size)), "asyncio"),
            Row("belljar, SharedBuffer, asyncio", ours.on_one(ours.LARGE, partial(_shared_echo, size)), "asyncio"),
            Row(BUFFER_SYNC, row_of(partial(ours.sync_host, ours.LARGE), partial(_buffer_echo_sync, size))),
        ),
    )


ECHO_LARGE = _echo(LARGE)
ECHO_MIB = _echo(MIB)

ITEM = 1024


def _packets(sock: socket.socket) -> Run:
    def do(count: int) -> int:
        sock.send(str(count).encode())
        for _ in range(count):
            sock.recv(65_536)
        return count

    return in_all(do)


def _messages(pipe: Connection) -> Run:
    def do(count: int) -> int:
        pipe.send_bytes(str(count).encode())
        for _ in range(count):
            pipe.recv_bytes()
        return count

    return in_all(do)


def _items(host: ProcessHost) -> Run:
    proxy = host.proxy(interfaces.Source)

    async def do(count: int) -> int:
        return len([None async for _ in proxy.items(count)])

    return in_all_awaited(do)


def _items_sync(host: SyncHost) -> Run:
    proxy = host.proxy(interfaces.PlainSource)

    def do(count: int) -> int:
        return sum(1 for _ in proxy.items(count))

    return in_all(do)


RAW_ONE_WAY = "raw SEQPACKET, one way"
ITEMS = Work(
    name="stream",
    title="a stream of 1 KiB items from the child",
    unit="k/s",
    base=RAW_ONE_WAY,
    judged="free",
    rows=(
        Row(RAW_ONE_WAY, row_of(partial(forked, send_packets(ITEM), socket.SOCK_SEQPACKET), _packets)),
        Row("multiprocessing Pipe, bytes", row_of(partial(piped, send_items(ITEM)), _messages)),
        Row(ASYNCIO, ours.on_one(ours.SOURCE, _items), "asyncio"),
        Row(UVLOOP, ours.on_one(ours.SOURCE, _items), "uvloop"),
        Row(SYNC, row_of(partial(ours.sync_host, ours.SOURCE), _items_sync)),
    ),
)


def _pool_beside(pool: concurrent.futures.ProcessPoolExecutor) -> Run:
    """One process of the pool is always busy with a transfer; the other answers the small calls."""
    large = b"x" * LARGE
    calls = per_call(lambda: pool.submit(start.echo, MESSAGE).result())

    async def run(count: int) -> list[float]:
        samples: list[float] = []

        def again(_: object = None) -> None:
            if not samples:
                pool.submit(start.echo, large).add_done_callback(again)

        again()
        samples += await calls(count)
        return samples

    return run


def _beside(transfer: Callable[[], Any], calls: Run) -> Run:
    """Return what makes the small *calls* while *transfer* is made again and again."""

    async def run(count: int) -> list[float]:
        samples: list[float] = []

        async def transfers() -> None:
            while not samples:
                await transfer()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transfers)
            await anyio.lowlevel.checkpoint()  # let it begin
            samples += await calls(count)
        return samples

    return run


def _beside_transfer(children: int) -> Callable[[], Opened]:
    """Transfers to the first child, small calls to the last one."""

    @asynccontextmanager
    async def open_row() -> AsyncGenerator[Run]:
        async with ours.hosts(children, ours.LARGE) as hosts:
            large = bytearray(LARGE)
            first, last = (hosts[index].proxy(interfaces.Large) for index in (0, -1))
            yield _beside(lambda: first.echo(large), per_await(lambda: last.small(MESSAGE)))

    return open_row


SAME, OTHER = "belljar, asyncio, to the same child", "belljar, asyncio, to another child"
BESIDE = Work(
    name="beside",
    title="64-byte call while 33 MiB are on their way",
    unit="us",
    base=POOL,
    judged="free",
    rows=(
        Row(POOL, row_of(partial(executor, 2), _pool_beside)),
        Row(SAME, _beside_transfer(1), "asyncio"),
        Row(OTHER, _beside_transfer(2), "asyncio"),
    ),
    longer=5,
)
