"""The peers of the benchmarks: the start methods and pools of the standard library, and a raw socket.

Functions that a started process imports stand here, at module level, because spawn and forkserver import them again.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing as mp
import os
import socket
from multiprocessing.connection import Connection
from typing import Any


def echo(data: bytes) -> bytes:
    """Return *data*."""
    return data


def serve(connection: Connection) -> None:
    """Echo until told to end."""
    while (data := connection.recv_bytes()) != b"end":
        connection.send_bytes(data)


def start_and_ask(method: str, message: bytes) -> None:
    """Start one process by *method*, ask it once, end it."""
    context: Any = mp.get_context(method)
    ours, theirs = mp.Pipe()
    process = context.Process(target=serve, args=(theirs,))
    process.start()
    ours.send_bytes(message)
    assert ours.recv_bytes() == message
    ours.send_bytes(b"end")
    process.join()
    ours.close()
    theirs.close()


def start_pool_and_ask(message: bytes) -> None:
    """Start a ProcessPoolExecutor of one with spawn, ask it once, end it."""
    context = mp.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(echo, message).result() == message


def raw_seqpacket() -> tuple[socket.socket, int]:
    """Fork a process that echoes over SEQPACKET; return our end and its pid."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        while data := theirs.recv(65_536):
            theirs.send(data)
        os._exit(0)
    theirs.close()
    return ours, pid
