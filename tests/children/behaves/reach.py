"""Attempts that the test describes: a verb and its arguments, for policies that grant something."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

# mov eax, 42; ret    and    mov w0, 42; ret
_FORTY_TWO = {"x86_64": b"\xb8\x2a\x00\x00\x00\xc3", "aarch64": b"\x40\x05\x80\x52\xc0\x03\x5f\xd6"}


def read(path: str) -> str:
    return Path(path).read_text()


def read_bytes(path: str, size: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(size)


def write(path: str, text: str) -> int:
    """Into a file that exists."""
    fd = os.open(path, os.O_WRONLY)
    try:
        return os.write(fd, text.encode())
    finally:
        os.close(fd)


def create(path: str, text: str, mode: int = 0o666) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        return os.write(fd, text.encode())
    finally:
        os.close(fd)


def truncate_while_reading(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))


def listing(path: str) -> list[str]:
    return sorted(os.listdir(path))


def size(path: str) -> int:
    return os.stat(path).st_size


def link_and_read(target: str, link: str) -> str:
    os.symlink(target, link)
    return Path(link).read_text()


def hard_link_and_read(target: str, link: str) -> str:
    os.link(target, link)
    return Path(link).read_text()


def connect(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        return sock.recv(16).decode()


def talk_to_itself(name: str) -> str:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as sock:
        listener.bind(f"\0{name}")
        listener.listen()
        sock.connect(f"\0{name}")
        sock.sendall(b"hello")
        return listener.accept()[0].recv(16).decode()


def fork(code: int) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(path: str, *arguments: str) -> int:
    pid = os.posix_spawn(path, [path, *arguments], {})
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_own_code() -> int:
    """Write machine code and call it."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=protection)
    memory.write(_FORTY_TWO[os.uname().machine])
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))())


def start_a_thread() -> bool:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    return True


def make_a_channel(kind: str) -> str:
    made: tuple[int, ...]
    if kind == "pipe":
        made = os.pipe()
    elif kind == "socket pair":
        made = tuple(sock.detach() for sock in socket.socketpair())
    else:
        made = (os.eventfd(0),)
    for fd in made:
        os.close(fd)
    return kind


def copy_fds_without_end() -> int:
    """How many there can be."""
    made: list[int] = []
    try:
        while True:
            made.append(os.dup(0))
    except OSError:
        return max(made) + 1
    finally:
        for fd in made:
            os.close(fd)


def fill_a_memfd(size: int) -> int:
    fd = os.memfd_create("filled")
    try:
        return sum(os.write(fd, bytes(1 << 16)) for _ in range(size >> 16))
    finally:
        os.close(fd)


_ALL: tuple[Callable[..., Any], ...] = (
    *(read, read_bytes, write, create, truncate_while_reading, listing, size, link_and_read, hard_link_and_read),
    *(connect, talk_to_itself, fork, run, run_own_code, start_a_thread, make_a_channel, copy_fds_without_end),
    *(fill_a_memfd, os.mkdir, os.unlink, os.rename, os.chmod),
)
VERBS = {verb.__name__: verb for verb in _ALL}
