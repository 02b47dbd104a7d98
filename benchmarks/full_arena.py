"""What does not fit an arena: a sealed memfd for each payload, or pieces of 60 KiB over the socket (decision 0022).

    python -m benchmarks.full_arena

One process sends payloads to another, which copies each to memory of its own and answers with one byte.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from belljar.ipc import datagram
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.frames import Items, Piece, decode_from_child, encode
from belljar.ipc.memory.arena import Arena
from belljar.ipc.payload import make_sealed, read_sealed

CHUNK = 60 << 10
SIZES = {"64 KiB": 64 << 10, "1 MiB": 1 << 20, "33 MiB": 33 << 20}

Send = Callable[[socket.socket, bytes], None]
Receive = Callable[[socket.socket, int], object]


def send_memfd(sock: socket.socket, data: bytes) -> None:
    """A sealed memfd, as `belljar.ipc.peer.store` does it."""
    fd = make_sealed(data)
    datagram.send(sock, b"x", [fd])
    os.close(fd)


def receive_memfd(sock: socket.socket, size: int) -> object:
    """Check its seals and copy it."""
    received = datagram.receive(sock)
    assert received is not None
    return read_sealed(received.take_fd(), size)


def send_chunks(sock: socket.socket, data: bytes) -> None:
    """One datagram after the other; the kernel holds three or so."""
    view = memoryview(data)
    for start in range(0, len(data), CHUNK):
        sock.send(view[start : start + CHUNK])


def receive_chunks(sock: socket.socket, size: int) -> object:
    """Into memory of the right size."""
    view = memoryview(bytearray(size))
    start = 0
    while start < size:
        start += sock.recv_into(view[start:])
    return view


def send_frames(sock: socket.socket, data: bytes) -> None:
    """The same in frames, as a channel would have them."""
    channel = SocketChannel(sock)
    view = memoryview(data)
    for start in range(0, len(data), CHUNK):
        channel.wait_send(encode([Items(1, 1, (bytes(view[start : start + CHUNK]),))]), (), None)


def receive_frames(sock: socket.socket, size: int) -> object:
    """Each frame is decoded and checked, and its bytes put where they belong."""
    channel = SocketChannel(sock)
    memory, start = bytearray(size), 0
    while start < size:
        received = channel.wait_receive(None)
        assert received is not None
        for frame in decode_from_child(received.data):
            assert isinstance(frame, Items)
            for payload in frame.payloads:
                memory[start : start + len(payload)] = payload
                start += len(payload)
    return memory


class ByArena:
    """What both stand in for: one mapping for all payloads, which the receiver copies from."""

    def __init__(self) -> None:
        self.writer = Arena.create(64 << 20, written_by="host", generation=1)
        self.reader = Arena.attach(self.writer.take_fd(), self.writer.size, writable=False, generation=1)
        self.memory = bytearray(max(SIZES.values()))

    def send(self, sock: socket.socket, data: bytes) -> None:
        """Copy into a piece, always the first."""
        piece = self.writer.put(data)
        assert piece is not None
        sock.send(b"x")
        self.writer.free(piece)

    def receive(self, sock: socket.socket, size: int) -> object:
        """Copy to memory that is used again, as `belljar.ipc.memory.recycle` has it."""
        sock.recv(1)
        self.memory[:size] = self.reader.view(Piece(1, 0, size))
        return self.memory


def measure(send: Send, receive: Receive, data: bytes) -> float:
    """Return the seconds of processor time that one payload takes at both ends; others may be busy beside."""
    ours, theirs = datagram.control_pair()
    rounds = max(10, min(1000, (1 << 30) // len(data)))
    pid = os.fork()
    if pid == 0:
        for _ in range(rounds):
            receive(theirs, len(data))
            theirs.send(b"x")
        os._exit(0)
    began = time.process_time()
    for _ in range(rounds):
        send(ours, data)
        ours.recv(1)
    own = time.process_time() - began
    _, _, usage = os.wait4(pid, 0)
    ours.close()
    theirs.close()
    return (own + usage.ru_utime + usage.ru_stime) / rounds


def main() -> None:
    """Print a table."""
    arena = ByArena()
    ways: dict[str, tuple[Send, Receive]] = {
        "sealed memfd": (send_memfd, receive_memfd),
        "bytes in chunks": (send_chunks, receive_chunks),
        "frames in chunks": (send_frames, receive_frames),
        "arena": (arena.send, arena.receive),
    }
    for name, size in SIZES.items():
        data = os.urandom(size)
        for way, (send, receive) in ways.items():
            seconds = min(measure(send, receive, data) for _ in range(5))
            print(f"{name:>7} {way:16} {seconds * 1e3:9.3f} ms")


if __name__ == "__main__":
    main()
