"""Attacks on what a filter alone does not see: fds on their way, shared descriptions, metadata, other processes."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

NATIVE = b"".join(
    (
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00\x01\x00\x00\x00\x78\x00\x40\x00\x00\x00\x00\x00",
        b"\x40" + bytes(7) + bytes(8) + bytes(4) + b"\x40\x00\x38\x00\x01\x00\x00\x00\x00\x00\x00\x00",
        b"\x01\x00\x00\x00\x05\x00\x00\x00" + bytes(8) + b"\x00\x00\x40\x00\x00\x00\x00\x00" * 2,
        b"\x82\x00\x00\x00\x00\x00\x00\x00" * 2 + b"\x00\x10" + bytes(6),
        b"\x31\xff\xb0\x3c\x40\xb7\x07\x0f\x05\x90",  # exit(7), for x86_64
    )
)
"""A program of one page that the kernel maps as executable without asking the filter."""

_SESSION, _SEARCH, _READ, _LINK, _USER_KEYRING = -3, 10, 11, 8, -4
_libc = ctypes.CDLL(None, use_errno=True)


def outcome(action: Callable[[], object]) -> str:
    """Return "done", or the name of the error."""
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


class LooseEnds:
    """One method an attack."""

    def __init__(self) -> None:
        self.kept: list[socket.socket] = []

    def fill_the_way(self) -> str:
        """Send fds over a pair of its own and never receive them, until the kernel refuses; return the refusal."""
        rights = array.array("i", [0] * 250)
        while True:
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.kept += pair
            while (came := outcome(lambda: pair[0].sendmsg([b"x"], [_rights(rights)], socket.MSG_DONTWAIT))) == "done":  # noqa: B023
                pass
            if came != "EAGAIN":
                return came

    def blob(self, size: int) -> bytes:
        return b"x" * size

    def signal_by_flag(self, flag: int) -> None:
        fcntl.fcntl(0, fcntl.F_SETFL, os.O_RDWR | flag)

    def seen_flags(self) -> int:
        return fcntl.fcntl(0, fcntl.F_GETFL) & (os.O_APPEND | os.O_NONBLOCK)

    def change(self, foreign: str, readable: str) -> dict[str, str]:
        """Change modes and times of a file that the policy does not name, and of one that it lets be read."""
        attempts: dict[str, Callable[[], object]] = {
            "chmod": lambda: os.chmod(foreign, 0o606),
            "utime": lambda: os.utime(foreign, (1, 1)),
            "open for neither": lambda: os.open(foreign, os.O_WRONLY | os.O_RDWR),
            "chmod of a readable one": lambda: os.chmod(readable, 0o606),
            "fchmod": lambda: os.fchmod(os.open(readable, os.O_RDONLY), 0o606),
            "futimens": lambda: os.utime(os.open(readable, os.O_RDONLY), (1, 1)),
            "truncate": lambda: os.truncate(foreign, 1),
        }
        return {name: outcome(attempt) for name, attempt in attempts.items()}

    def move(self, pid: int) -> str:
        return outcome(lambda: os.sched_setaffinity(pid, os.sched_getaffinity(0)))

    def run_native(self, folder: str) -> dict[str, int]:
        """Execute a program of its own making, from memory and from a file; return the exit codes."""
        fd = os.memfd_create("native", 0)
        os.write(fd, NATIVE)
        path = f"{folder}/native"
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o700), "wb") as file:
            file.write(NATIVE)
        return {"memory": _execute(f"/proc/self/fd/{fd}"), "file": _execute(path)}

    def read_key(self, name: str) -> str:
        """Look for a key of the host's session and of its user."""

        def read() -> None:
            key = _keyctl(_SEARCH, _SESSION, b"user", name.encode(), 0)
            _keyctl(_READ, key, ctypes.create_string_buffer(64), 64, 0)

        with suppress(OSError):
            _keyctl(_LINK, _USER_KEYRING, _SESSION, 0, 0)
        return outcome(read)

    def leave_daemons(self) -> None:
        """Start processes that nobody waits for, in sessions of their own, and a plain one."""
        for _ in range(2):
            pid = os.fork()
            if pid == 0:
                os.setsid()
                if os.fork() == 0:
                    os.setsid()
                    _wait_for_ever()
                os._exit(0)
            os.waitpid(pid, 0)
        if os.fork() == 0:
            _wait_for_ever()

    def hang_up(self) -> None:
        """Close the control channel and live on."""
        os.closerange(3, 64)
        _wait_for_ever()

    def bomb(self) -> None:
        """Start a process that forks without end, as do all that it starts."""
        if os.fork():
            return
        os.setsid()
        while True:
            with suppress(OSError):
                os.fork()


def _rights(rights: array.array[int]) -> tuple[int, int, array.array[int]]:
    return socket.SOL_SOCKET, socket.SCM_RIGHTS, rights


def _wait_for_ever() -> None:
    while True:
        signal.pause()


def _execute(path: str) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.execve(path, ["native"], {})
        except OSError as error:
            os._exit(100 + (error.errno or 0))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _keyctl(*arguments: object) -> int:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = int(_libc.syscall(ctypes.c_long(250), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
