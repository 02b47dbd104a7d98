"""New processes, new threads, and other programs."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import threading
from collections.abc import Callable

from .book import Kept, Target, attack, in_fork
from .calls import AT_EMPTY_PATH, AT_FDCWD, buffer, call

PROCESS, THREAD, EXECUTE = "make a process", "make a thread", "execute a program"
_CLONE_PARENT, _CLONE_PTRACE, _CLONE_UNTRACED, _CLONE_PIDFD = 0x8000, 0x2000, 0x0080_0000, 0x1000

# A whole program for x86_64: exit(42). An ELF header, one program header, and twelve bytes of code.
_CODE = bytes.fromhex("b83c000000 bf2a000000 0f05")
_BASE = 0x40_0000
TINY_PROGRAM = (
    b"\x7fELF\x02\x01\x01" + bytes(9)
    + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _BASE + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    + struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, 120 + len(_CODE), 120 + len(_CODE), 4096)
    + _CODE
)  # fmt: skip


def _reap(pid: int) -> None:
    os.waitpid(pid, 0)


def _clone(flags: int) -> None:
    pid = call("clone", flags, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    _reap(pid)


@attack("fork", PROCESS)
def fork(target: Target) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    _reap(pid)


@attack("make a process by clone", PROCESS)
def clone(target: Target) -> None:
    _clone(signal.SIGCHLD)


@attack("make a process by clone3", PROCESS)
def clone3(target: Target) -> None:
    pid = call("clone3", buffer(struct.pack("8Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)), 64)
    if pid == 0:
        os._exit(0)
    _reap(pid)


@attack("make a process that shares all memory", PROCESS)
def clone_vfork(target: Target) -> None:
    _clone(0x4000 | signal.SIGCHLD)  # CLONE_VFORK; with CLONE_VM the two would share this very stack


@attack("make a process that no tracer follows", layers=("seccomp",), policy="forks")
def clone_untraced(target: Target) -> None:
    _clone(_CLONE_UNTRACED | signal.SIGCHLD)


@attack("make a process with a pidfd", layers=("seccomp",), policy="forks")
def clone_pidfd(target: Target) -> None:
    pidfd = buffer(bytes(4))
    pid = call("clone", _CLONE_PIDFD | signal.SIGCHLD, 0, pidfd, 0, 0)
    if pid == 0:
        os._exit(0)
    _reap(pid)
    os.close(int.from_bytes(pidfd.raw, "little"))


@attack("make a brother instead of a child", layers=("seccomp",), policy="forks")
def clone_parent(target: Target) -> None:
    in_fork(lambda: call("clone", _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0) or os._exit(0))


@attack("start a thread", THREAD)
def start_thread(target: Target) -> None:
    ran = threading.Event()
    try:
        thread = threading.Thread(target=ran.set)
        thread.start()
    except RuntimeError as error:
        raise Kept("RuntimeError") from error
    thread.join()


def _expect(wanted: int, execute: Callable[[], object]) -> None:
    """Execute in a fork and compare the exit code; without forks execute here: then its failure is all that is left."""
    pid = 0
    try:
        pid = os.fork()
    except OSError:
        execute()
    if pid == 0:
        code = 199
        try:
            execute()
        except OSError as error:
            code = 100 + (error.errno or 99)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != wanted:
        raise OSError(code - 100, os.strerror(code - 100)) if code >= 100 else Kept(f"ended with {code}")


@attack("execute /bin/true", EXECUTE, granted=("programs",))
def execute_true(target: Target) -> None:
    _expect(0, lambda: os.execv(target.program, ["true"]))


@attack("execute the interpreter", EXECUTE, granted=("programs",))
def execute_interpreter(target: Target) -> None:
    _expect(0, lambda: os.execv(target.interpreter, ["python", "-I", "-S", "-c", ""]))


@attack("execute a file of the host", EXECUTE)
def execute_host_file(target: Target) -> None:
    _expect(42, lambda: os.execv(f"{target.folder}/program", ["program"]))


@attack("execute a program through the loader", EXECUTE, granted=("programs",))
def execute_by_loader(target: Target) -> None:
    _expect(0, lambda: os.execv(target.loader, ["ld.so", target.program]))


def _memfd_program() -> int:
    fd = os.memfd_create("program", os.MFD_CLOEXEC)
    os.write(fd, TINY_PROGRAM)
    return fd


@attack("execute a memfd by execveat", EXECUTE)
def execute_memfd(target: Target) -> None:
    fd = _memfd_program()
    try:
        _expect(42, lambda: call("execveat", fd, b"", _vector(b"program"), 0, AT_EMPTY_PATH))
    finally:
        os.close(fd)


@attack("execute a memfd through /proc/self/fd", EXECUTE)
def execute_memfd_path(target: Target) -> None:
    fd = _memfd_program()
    try:
        _expect(42, lambda: os.execv(f"/proc/self/fd/{fd}", ["program"]))
    finally:
        os.close(fd)


@attack("execute a program by execveat and its name", EXECUTE)
def execute_at(target: Target) -> None:
    _expect(0, lambda: call("execveat", AT_FDCWD, target.program.encode(), _vector(b"true"), 0, 0))


def _vector(word: bytes) -> ctypes.Array[ctypes.c_char]:
    """Return ``char *argv[] = {word, NULL}``, whose word stays alive with this module."""
    _KEPT_ALIVE.append(buffer(word + b"\0"))
    return buffer(struct.pack("QQ", ctypes.addressof(_KEPT_ALIVE[-1]), 0))


_KEPT_ALIVE: list[ctypes.Array[ctypes.c_char]] = []


@attack("bring code along in a program of one's own", "new executable memory")
def own_program(target: Target) -> None:
    """Write a program where the policy lets this child write, and execute it: W^X without mprotect."""
    path = f"{target.shared}/program-{os.getpid()}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o755)
    os.write(fd, TINY_PROGRAM)
    os.close(fd)
    _expect(42, lambda: os.execv(path, ["program"]))


@attack("bring code along in a memfd", "new executable memory")
def own_memfd_program(target: Target) -> None:
    fd = _memfd_program()
    try:
        _expect(42, lambda: os.execv(f"/proc/self/fd/{fd}", ["program"]))
    finally:
        os.close(fd)
