"""The other side of what belljar is measured against: processes that echo, or send what they are asked for."""

from __future__ import annotations

import concurrent.futures
import multiprocessing as mp
import os
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import zmq

from .work import Run

SOCKET_BUFFER = 4 << 20


@contextmanager
def forked(serve: Callable[[socket.socket], None], kind: socket.SocketKind) -> Generator[socket.socket]:
    """Fork a process that serves one end of a socket pair until its end; yield the other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    pid = os.fork()
    if pid == 0:
        ours.close()
        serve(theirs)
        os._exit(0)
    theirs.close()
    with ours:
        yield ours
    os.waitpid(pid, 0)


def echo_packets(sock: socket.socket) -> None:
    """Answer each packet with itself."""
    while data := sock.recv(65_536):
        sock.send(data)


def receive_exactly(sock: socket.socket, view: memoryview) -> bool:
    """Fill *view*; false at the end."""
    while view:
        count = sock.recv_into(view)
        if not count:
            return False
        view = view[count:]
    return True


def echo_stream(size: int) -> Callable[[socket.socket], None]:
    """Return what answers *size* bytes with themselves, from a buffer that is used again."""

    def serve(sock: socket.socket) -> None:
        view = memoryview(bytearray(size))
        while receive_exactly(sock, view):
            sock.sendall(view)

    return serve


def send_packets(size: int) -> Callable[[socket.socket], None]:
    """Return what sends as many packets of *size* as a packet asks for."""

    def serve(sock: socket.socket) -> None:
        item = bytes(size)
        while asked := sock.recv(64):
            for _ in range(int(asked)):
                sock.send(item)

    return serve


@contextmanager
def piped(serve: Callable[[Connection], None]) -> Generator[Connection]:
    """Start a process of multiprocessing that serves one end of a Pipe; yield the other end."""
    ours, theirs = mp.Pipe()
    process = mp.get_context("fork").Process(target=_serve_pipe, args=(serve, theirs, ours))
    process.start()
    theirs.close()
    with ours:
        yield ours
    process.join()


def _serve_pipe(serve: Callable[[Connection], None], theirs: Connection, ours: Connection) -> None:
    ours.close()
    try:
        serve(theirs)
    except EOFError:
        return


def echo_objects(pipe: Connection) -> None:
    """Answer each pickled object with itself, until the end."""
    while True:
        pipe.send(pipe.recv())


def echo_bytes(pipe: Connection) -> None:
    """Answer each message with itself, until the end."""
    while True:
        pipe.send_bytes(pipe.recv_bytes())


def send_items(size: int) -> Callable[[Connection], None]:
    """Return what sends as many messages of *size* as a message asks for, until the end."""

    def serve(pipe: Connection) -> None:
        item = bytes(size)
        while True:
            for _ in range(int(pipe.recv_bytes())):
                pipe.send_bytes(item)

    return serve


@contextmanager
def dealer() -> Generator[str]:
    """Fork a process whose DEALER announces itself and then echoes; yield the address that a ROUTER binds."""
    with TemporaryDirectory() as folder:
        address = f"ipc://{Path(folder, 'socket')}"
        pid = os.fork()
        if pid == 0:
            _echo_zmq(address)
        yield address
        os.waitpid(pid, 0)


def _echo_zmq(address: str) -> None:
    """End at an empty message."""
    sock = zmq.Context().socket(zmq.DEALER)
    sock.connect(address)
    sock.send(b"here")
    while data := sock.recv():
        sock.send(data)
    os._exit(0)


@contextmanager
def executor(count: int) -> Generator[concurrent.futures.ProcessPoolExecutor]:
    """Start a pool of *count* with spawn; it starts no process before it has work."""
    with concurrent.futures.ProcessPoolExecutor(count, mp_context=mp.get_context("spawn")) as pool:
        yield pool


def row_of(opened: Callable[[], Any], make: Callable[[Any], Run]) -> Callable[[], Any]:
    """Return what opens a row: *opened* is a plain context manager, and *make* makes a run of what it yields."""

    @asynccontextmanager
    async def open_row() -> AsyncGenerator[Run]:
        with opened() as thing:
            yield make(thing)

    return open_row
