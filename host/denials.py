"""What the seal refused, as the kernel tells it: the host's end of the seccomp listener.

Opening a file, executing one and making a socket are rare in a sealed child, so the filter hands these calls to the
host (seccomp_unotify(2), about 6 us each) instead of refusing them on the spot: that gives a record which no library
can swallow and no child can forge. The answer is always EACCES, and never CONTINUE: the path that is read here for
the record may be changed by another thread of the child right after, so nothing may be decided by it. A child that
floods the host is cut off: once the listener is closed, the kernel answers ENOSYS itself.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import select
import struct

import anyio

from ..ipc.errors import printable

log = logging.getLogger("belljar.host")

MOST = 1000
"""Denials after which the host stops listening."""

_NOTIF = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif with its seccomp_data
_RESPONSE = struct.Struct("=QqiI")
_RECV = 0xC0502100
_SEND = 0xC0182101
_ID_VALID = 0x40082102

_PATH_ARGUMENT = {"open": 0, "openat": 1, "openat2": 1, "execve": 0, "execveat": 1}
_X86_64 = {2: "open", 257: "openat", 437: "openat2", 59: "execve", 322: "execveat", 41: "socket"}
_GENERIC = {56: "openat", 437: "openat2", 221: "execve", 281: "execveat", 198: "socket"}
_NAMES = _X86_64 if os.uname().machine == "x86_64" else _GENERIC


class Denials:
    """The record of one child. Owns *listener*."""

    def __init__(self, listener: int, name: str) -> None:
        os.set_blocking(listener, False)
        self.listener = listener
        self.name = name
        self.count = 0
        self._fresh: dict[str, None] = {}

    async def record(self) -> None:
        """Answer until the child is gone or has asked too often."""
        while self.listener >= 0 and self.count < MOST:
            await anyio.wait_readable(self.listener)
            if not (self._is_asked() and self._answer()):
                break
        if self.count >= MOST:
            log.warning("%s: stopped recording after %d refused calls", self.name, MOST)
        self.close()

    def _is_asked(self) -> bool:
        """Whether a call waits. Old kernels block in the ioctl for ever once all processes of the filter have ended."""
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        return any(events & select.POLLIN for _, events in poll.poll(0))

    def _answer(self) -> bool:
        try:
            request = fcntl.ioctl(self.listener, _RECV, bytes(_NOTIF.size))
        except OSError as error:
            return error.errno in (errno.ENOENT, errno.EINTR)  # ENOENT: the thread was killed while it waited
        cookie, tid, _, number, _, _, *arguments = _NOTIF.unpack(request)
        self.count += 1
        self._note(cookie, number, tid, arguments)
        try:
            fcntl.ioctl(self.listener, _SEND, _RESPONSE.pack(cookie, 0, -errno.EACCES, 0))
        except OSError as error:
            return error.errno == errno.ENOENT
        return True

    def _note(self, cookie: int, number: int, tid: int, arguments: list[int]) -> None:
        call = _NAMES.get(number, f"system call {number}")
        if call in _PATH_ARGUMENT:
            path = _read_path(tid, arguments[_PATH_ARGUMENT[call]])
            if not self._still_waits(cookie):
                return  # it was killed meanwhile, and its number may be that of another process, whose memory this was
            if path.startswith("<"):
                return  # no file: Python looks for the source of "<string>" and the like when it formats a traceback
            what = f"{call} {path}"
        else:
            what = f"{call}({', '.join(str(argument) for argument in arguments[:3])})"
        if what not in self._fresh and len(self._fresh) < 64:
            self._fresh[what] = None
            log.info("%s: the seal refused %s", self.name, what)

    def _still_waits(self, cookie: int) -> bool:
        try:
            fcntl.ioctl(self.listener, _ID_VALID, cookie.to_bytes(8, "little"))
        except OSError:
            return False
        return True

    def take(self) -> tuple[str, ...]:
        """Return what was refused since the last call, each once."""
        if not self._fresh:  # asked after each call
            return ()
        fresh = tuple(self._fresh)
        self._fresh.clear()
        return fresh

    def close(self) -> None:
        """Stop listening; the kernel then answers ENOSYS. Idempotent."""
        listener, self.listener = self.listener, -1
        if listener >= 0:
            os.close(listener)


def _read_path(tid: int, address: int) -> str:
    """Return the string at *address* of the stopped thread, for people only; cut at 256 bytes."""
    try:
        memory = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return "(unreadable)"
    try:
        raw = os.pread(memory, 256, address)
    except (OSError, OverflowError):
        return "(unreadable)"
    finally:
        os.close(memory)
    return printable(raw.split(b"\0")[0].decode("utf-8", "backslashreplace"))
