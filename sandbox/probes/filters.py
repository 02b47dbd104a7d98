"""Try the filters: no_new_privs, seccomp in its three forms, landlock. All are one-way.

Each seccomp probe filters sched_yield(2), a call that takes nothing, never fails, and that nothing else here makes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import socket
import struct
import threading

from .. import confine
from .. import landlock as rules
from .. import syscalls as sc
from ..errors import SandboxError
from ..policy import Policy
from ..seccomp.install import install
from ..steps import StepFailed, step
from .forked import result_of, start
from .processes import status_field

_SCHED_YIELD = 24 if platform.machine() == "x86_64" else 124
_RET_ERRNO, _RET_USER_NOTIF, _RET_ALLOW = 0x00050000, 0x7FC00000, 0x7FFF0000
_ANSWER = errno.EOWNERDEAD  # no kernel answers this to sched_yield by itself

# linux/seccomp.h: _IOWR('!', 0, struct seccomp_notif), _IOWR('!', 1, struct seccomp_notif_resp)
_NOTIF_RECV, _NOTIF_SEND = 0xC0502100, 0xC0182101
_NOTIF_SIZE, _RESPONSE = 80, struct.Struct("QqiI")


def no_new_privs() -> str:
    """Set it and read it back."""
    confine.forbid_new_privileges()
    if status_field("NoNewPrivs") != "1":
        raise SandboxError("NoNewPrivs is not 1 in /proc/self/status although prctl succeeded")
    return ""


def seccomp() -> str:
    """Install a filter that answers for one call, and see that answer."""
    _expect_yield(0)
    confine.forbid_new_privileges()
    with step("install a seccomp filter"):
        sc.seccomp_set_filter(_program(_RET_ERRNO | _ANSWER), 0)
    _expect_yield(_ANSWER)
    return ""


def seccomp_tsync() -> str:
    """Install a filter from one thread and see its answer in another that ran before."""
    confine.forbid_new_privileges()
    thread = _Yielder()
    install(_program(_RET_ERRNO | _ANSWER), listener=False)
    thread.expect(_ANSWER)
    _expect_yield(_ANSWER)
    return ""


def seccomp_listener() -> str:
    """Let another process answer a call of this filter's thread over the listener's fd, beside a second thread."""
    answerer, asker = socket.socketpair()
    forked = start(lambda: _ask(answerer, asker), 10)
    asker.close()
    with step("receive the listener"):
        _, fds, _, _ = socket.recv_fds(answerer, 1, 1)
    if fds:
        _answer_once(fds[0])
    return result_of(forked)


def _ask(answerer: socket.socket, asker: socket.socket) -> str:
    answerer.close()
    confine.forbid_new_privileges()
    thread = _Yielder()
    listener = install(_program(_RET_USER_NOTIF), listener=True)
    if listener is None:
        raise SandboxError("the kernel returned no listener")
    socket.send_fds(asker, [b"L"], [listener])
    os.close(listener)
    asker.close()
    thread.expect(_ANSWER)
    return ""


def _answer_once(listener: int) -> None:
    notification = bytearray(_NOTIF_SIZE)
    with step("receive a seccomp notification"):
        fcntl.ioctl(listener, _NOTIF_RECV, notification)
    (identity,) = struct.unpack_from("Q", notification)
    with step("answer a seccomp notification"):
        fcntl.ioctl(listener, _NOTIF_SEND, bytearray(_RESPONSE.pack(identity, 0, -_ANSWER, 0)))


def landlock() -> str:
    """Forbid this process all files, and see one refused. The detail is the ABI's number."""
    with step("ask for landlock's ABI"):
        abi = sc.landlock_abi()
    confine.forbid_new_privileges()
    rules.restrict(rules.inner(Policy()), abi)
    try:
        os.close(os.open("/proc/self/status", os.O_RDONLY))
    except PermissionError:
        return f"ABI {abi}"
    raise SandboxError("landlock let a forbidden file be opened")


def _program(action: int) -> bytes:
    """Return classic BPF: *action* for sched_yield, allow for all else. See seccomp(2), struct sock_filter."""
    load, jump, end = 0x20, 0x15, 0x06
    code = ((load, 0, 0, 0), (jump, 0, 1, _SCHED_YIELD), (end, 0, 0, action), (end, 0, 0, _RET_ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def _yield() -> int:
    try:
        os.sched_yield()
    except OSError as error:
        return error.errno or 0
    return 0


def _expect_yield(expected: int, seen: int | None = None) -> None:
    answer = _yield() if seen is None else seen
    if answer != expected:
        raise SandboxError(
            f"a filtered call answered {errno.errorcode.get(answer, answer)} instead of the filter's own"
        )


class _Yielder:
    """A thread that runs from now on and makes the filtered call when asked."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self._answers: list[int] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # its only reason; the errno is lost on the way
            raise StepFailed("start a thread", errno.EAGAIN, os.strerror(errno.EAGAIN)) from error

    def _run(self) -> None:
        self._go.wait()
        self._answers.append(_yield())

    def expect(self, expected: int) -> None:
        """Make the call over there and compare its errno."""
        self._go.set()
        self._thread.join()
        _expect_yield(expected, self._answers[0])
