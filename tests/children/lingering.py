"""Early-init functions that leave threads in every state over the seal, and the plugin that asks what became of them.

What a thread asked for before the seal and got after it stands in `OUTCOMES`, which function and plugin share.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

OUTCOMES: dict[str, Any] = sys.__dict__.setdefault("lingering", {})  # the plugin is loaded from a file of its own
MANY = 64
SPLICE, FLOCK, OPENAT, READ, CLONE = 275, 73, 257, 0, 56  # of x86_64
_PR_SET_NAME = 15
# clone(2): VM FS FILES SIGHAND THREAD SYSVSEM make a thread, VFORK lets the one that makes it sleep until it ends
_VFORK_THREAD = 0x0000_0100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000 | 0x4000

libc = ctypes.CDLL(None, use_errno=True)


def start(name: str, work: Callable[[], object], number: int | None = None) -> None:
    """Start a thread called *name* that does *work*; come back when it sleeps in the system call *number*, if given."""
    places: queue.SimpleQueue[str] = queue.SimpleQueue()

    def run() -> None:
        libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
        places.put(os.readlink("/proc/thread-self"))  # not by tid: /proc may be that of an outer pid namespace
        OUTCOMES[name] = attempt(work)

    threading.Thread(target=run, daemon=True).start()
    call = Path(f"/proc/{places.get()}/syscall")
    while number is not None and call.read_text().split()[0] != str(number):
        os.sched_yield()


def attempt(work: Callable[[], object]) -> object:
    try:
        return work()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def opens(path: str) -> str:
    os.close(os.open(path, os.O_RDONLY))
    return "opened"


def locks(fd: int) -> str:
    fcntl.flock(fd, fcntl.LOCK_EX)
    return "locked"


def many() -> None:
    """Leave threads that do what they are told, one after the other."""
    tasks: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[int, object]] = queue.SimpleQueue()
    everybody = threading.Barrier(MANY)

    def serve() -> None:
        while True:
            work = tasks.get()
            everybody.wait()  # so that each of them takes one task
            answers.put((threading.get_native_id(), attempt(work)))

    for _ in range(MANY):
        start("many", serve)
    OUTCOMES.update(tasks=tasks, answers=answers)


def in_read() -> None:
    """Leave a thread in read(2) of a pipe."""
    reader, OUTCOMES["writer"] = os.pipe()
    start("read", lambda: os.read(reader, 1).decode(), READ)


def in_open() -> None:
    """Leave a thread in the open(2) of a FIFO beside this file."""
    fifo = f"{__file__}.fifo"
    os.mkfifo(fifo, 0o666)
    start("open", lambda: opens(fifo), OPENAT)


def in_flock() -> None:
    """Leave a thread in flock(2), waiting for a lock that another fd holds."""
    OUTCOMES["holder"] = os.memfd_create("locked")
    waiter = os.open(f"/proc/self/fd/{OUTCOMES['holder']}", os.O_RDWR)
    locks(OUTCOMES["holder"])
    start("flock", lambda: locks(waiter), FLOCK)


def in_splice() -> None:
    """Leave a thread in splice(2), waiting for bytes that it shall move from one pipe into another."""
    source, OUTCOMES["writer"] = os.pipe()
    _, sink = os.pipe()
    start("splice", lambda: os.splice(source, sink, 1), SPLICE)


def in_c() -> None:
    """Leave a thread that computes in C without the interpreter's lock, for hours."""
    start("in_c", lambda: hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1))


def in_c_with_lock() -> None:
    """Leave a thread that spends nearly all its time in C calls that hold the interpreter's lock."""
    numbers = list(range(20_000))

    def compute() -> None:
        while True:
            numbers.sort(reverse=True)
            numbers.sort()

    start("in_c_with_lock", compute)


def in_vfork() -> None:
    """Leave a thread that sleeps as vfork(2) does, uninterruptibly, until a thread that it made has ended."""
    stack = ctypes.create_string_buffer(1 << 16)
    semaphore = ctypes.create_string_buffer(64)  # sem_t, of zeros: nobody may pass
    OUTCOMES["kept"] = stack, semaphore
    top = ctypes.c_void_p((ctypes.addressof(stack) + len(stack)) & ~15)
    start("vfork", lambda: libc.clone(libc.sem_wait, top, _VFORK_THREAD, semaphore), CLONE)


def churn() -> None:
    """Leave a thread that starts others without end; each of them tries to open a file. Come back when it is under way.

    Where no thread can be started any more, it goes on trying.
    """
    born: list[Any] = [0, "none yet"]  # how many have been, and what the last one met
    OUTCOMES["born"] = born
    first = threading.Event()

    def look() -> None:
        born[:] = [born[0] + 1, attempt(lambda: opens("/etc/passwd"))]
        first.set()

    def breed() -> None:
        while True:
            thread = threading.Thread(target=look)
            try:
                thread.start()
            except RuntimeError:
                born[:] = [born[0] + 1, "not born"]
            else:
                thread.join()

    start("churn", breed)
    first.wait()


class Lingering:
    """Asks what the threads got."""

    def outcome(self, name: str) -> str | None:
        """What the call of the thread *name* gave so far."""
        return None if name not in OUTCOMES else str(OUTCOMES[name])

    def give(self) -> None:
        """Write the byte that a thread of `in_read` or `in_splice` waits for."""
        os.write(OUTCOMES["writer"], b"x")

    def unlock(self) -> None:
        """Let go the lock that the thread of `in_flock` waits for."""
        os.close(OUTCOMES["holder"])

    def ask_many(self, path: str) -> dict[int, str]:
        """Let each thread of `many` try to open *path*; return what came of it by tid."""
        for _ in range(MANY):
            OUTCOMES["tasks"].put(lambda: opens(path))
        return {tid: str(result) for tid, result in (OUTCOMES["answers"].get() for _ in range(MANY))}

    def next_born(self) -> str:
        """Return what a thread met that was started after this call."""
        number = OUTCOMES["born"][0] + 2  # the next may have been started before
        while OUTCOMES["born"][0] < number:
            os.sched_yield()
        return str(OUTCOMES["born"][1])
