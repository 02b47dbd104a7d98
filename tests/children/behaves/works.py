"""What a sealed child must be able to do. Each returns what the test expects, and raises if it cannot."""

from __future__ import annotations

import asyncio
import base64
import ctypes
import datetime
import decimal
import fcntl
import gc
import hashlib
import json
import locale
import math
import os
import random
import re
import resource
import secrets
import select
import signal
import socket
import ssl
import statistics
import struct
import sys
import tempfile
import threading
import time
import traceback
import uuid
import zlib
import zoneinfo
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .raw import checked, libc, raw

GARBAGE = 0xDEADBEEF << 32
_PR_SET_NAME, _PR_GET_NAME, _PR_GET_SPECULATION_CTRL = 15, 16, 52


def threads() -> list[int]:
    found: list[int] = []
    started = [threading.Thread(target=found.append, args=(number,)) for number in range(8)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return sorted(found)


def thread_pool() -> int:
    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(int, range(100)))


def thread_ids() -> list[bool]:
    other: list[int] = []
    thread = threading.Thread(target=lambda: other.append(threading.get_native_id()))
    thread.start()
    thread.join()
    return [threading.get_native_id() == os.getpid(), other[0] == os.getpid()]


def thread_name() -> str:
    name = ctypes.create_string_buffer(16)
    checked(libc.prctl(_PR_SET_NAME, b"renamed", 0, 0, 0))
    checked(libc.prctl(_PR_GET_NAME, name, 0, 0, 0))
    return name.value.decode()


def large_block() -> int:
    block = bytearray(96 << 20)
    block[-1] = 1
    return len(block)


def growing_block() -> int:
    block = bytearray()
    for _ in range(64):
        block += bytes(1 << 18)
    return len(block)


def collected() -> bool:
    return gc.collect() >= 0


def clocks() -> list[bool]:
    names = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_PROCESS_CPUTIME_ID)
    return [time.clock_gettime(name) > 0 for name in (*names, time.CLOCK_THREAD_CPUTIME_ID)]


def clock_with_garbage() -> int:
    return raw("clock_gettime", time.CLOCK_MONOTONIC | GARBAGE, ctypes.create_string_buffer(16))


def fcntl_with_garbage() -> bool:
    return raw("fcntl", 1, fcntl.F_GETFL | GARBAGE, 0) == fcntl.fcntl(1, fcntl.F_GETFL)


def sleep() -> bool:
    began = time.monotonic()
    time.sleep(0.002)
    return time.monotonic() - began >= 0.002


def randomness() -> list[int]:
    return [len(os.getrandom(16)), len(os.urandom(16)), len(secrets.token_bytes(16)), len(uuid.uuid4().bytes)]


def random_numbers() -> bool:
    return random.random() != random.SystemRandom().random()


def sealed_memfd() -> list[int]:
    fd = os.memfd_create("result", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, b"result")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK)
    try:
        return [os.fstat(fd).st_size, fcntl.fcntl(fd, fcntl.F_GET_SEALS)]
    finally:
        os.close(fd)


def sized_memfd() -> int:
    fd = os.memfd_create("sized")
    os.ftruncate(fd, 1 << 20)
    os.posix_fallocate(fd, 0, 1 << 16)
    size = os.lseek(fd, 0, os.SEEK_END)
    os.close(fd)
    return size


def interval_timer() -> str:
    """Blocked before it is set, so that it cannot come too early to be waited for."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        return signal.Signals(signal.sigwait({signal.SIGALRM})).name
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def thread_timer() -> bool:
    rang = threading.Event()
    timer = threading.Timer(0.001, rang.set)
    timer.start()
    timer.join()
    return rang.is_set()


def signal_to_itself() -> list[int]:
    got: list[int] = []
    old = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, old)
    return got


def arithmetic() -> list[float]:
    ratio = decimal.Decimal(1) / decimal.Decimal(8)
    return [statistics.fmean(range(101)), float(ratio), math.fsum([0.1] * 10), struct.unpack("<d", bytes(8))[0]]


def text() -> list[str]:
    packed = base64.b64encode(zlib.compress(b"x" * 1000)).decode()
    return [
        json.dumps({"ä": [1, None]}),
        re.sub(r"\d+", "#", "a1b22"),
        zlib.decompress(base64.b64decode(packed))[:2].decode(),
    ]


def hashes() -> list[str]:
    derived = hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 1)
    return [hashlib.sha256().hexdigest()[:8], hashlib.blake2b(digest_size=4).hexdigest(), derived.hex()[:8]]


def tls() -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls_object = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="example.org")
    try:
        tls_object.do_handshake()
    except ssl.SSLWantReadError:
        return True
    return False


def dates() -> list[str]:
    moment = datetime.datetime(2000, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC"))
    parsed = datetime.datetime.strptime("2000-02-29", "%Y-%m-%d")
    return [moment.isoformat(), parsed.strftime("%A"), time.strftime("%Y", time.localtime(86400 * 30))]


def codecs() -> list[str]:
    return ["bücher".encode("idna").decode(), b"\x81".decode("cp437"), "ä".encode("utf-16-le").hex()]


def languages() -> str:
    return locale.format_string("%.2f", 1.5) + str(locale.getlocale()[1])


def recent_traceback() -> bool:
    try:
        raise RuntimeError("recent")
    except RuntimeError:
        return 'raise RuntimeError("recent")' in traceback.format_exc()


def event_loop() -> list[object]:
    async def work() -> list[object]:
        return [await asyncio.sleep(0.001, "slept"), await asyncio.to_thread(math.factorial, 5)]

    return asyncio.run(work())


def pipe() -> str:
    reader, writer = os.pipe()
    os.write(writer, b"through")
    os.close(writer)
    with open(reader, "rb") as file:
        return file.read().decode()


def socket_pair() -> str:
    first, second = socket.socketpair()
    with first, second:
        first.sendall(b"hello")
        return second.recv(16).decode()


def polls() -> list[int]:
    first, second = socket.socketpair()
    with first, second, select.epoll() as epoll:
        first.send(b"x")
        epoll.register(second, select.EPOLLIN)
        poll = select.poll()
        poll.register(second, select.POLLIN)
        return [len(epoll.poll(1)), len(poll.poll(1000)), len(select.select([second], [], [], 1)[0])]


def copied_fds() -> bool:
    fd = os.dup(1)
    same = os.fstat(fd).st_ino == os.fstat(1).st_ino
    os.close(fd)
    os.closerange(900, 1000)
    return same


def open_fds() -> list[int]:
    found: list[int] = []
    for fd in range(1024):
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:
            continue
        found.append(fd)
    return found


def inherited_fds() -> list[int]:
    """Those that an exec would keep."""
    return [fd for fd in open_fds() if fd > 2 and os.get_inheritable(fd)]


def blocked_signals() -> list[int]:
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def signal_actions() -> dict[str, str]:
    """Those that are not the default."""
    found: dict[str, str] = {}
    for number in signal.valid_signals():
        action = signal.getsignal(number)
        if action not in (signal.SIG_DFL, None):
            found[signal.Signals(number).name] = "ignored" if action == signal.SIG_IGN else "handled"
    return found


def environment() -> dict[str, str]:
    return dict(os.environ)


def standard_input() -> int:
    return len(os.read(0, 16))


def terminals() -> list[bool]:
    return [os.isatty(fd) for fd in range(3)]


def import_path() -> list[str]:
    return sys.path


def core_size() -> list[int]:
    return list(resource.getrlimit(resource.RLIMIT_CORE))


def all_limits() -> dict[str, list[int]]:
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {name: list(resource.getrlimit(getattr(resource, name))) for name in names}


def speculation() -> bool:
    return libc.prctl(_PR_GET_SPECULATION_CTRL, 0, 0, 0, 0) >= 0 or ctypes.get_errno() in (19, 22)


def host_name() -> str:
    return os.uname().nodename


def cpus() -> list[int]:
    return [os.cpu_count() or 0, len(os.sched_getaffinity(0))]


def usage() -> bool:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0 and os.times().elapsed > 0


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def scheduler() -> bool:
    os.sched_yield()
    return os.sched_getscheduler(0) == os.SCHED_OTHER


def temporary_names() -> bool:
    return tempfile.gettempprefix() == "tmp"


def who() -> list[int]:
    return [*os.getresuid(), *os.getresgid(), *sorted(os.getgroups())]


_ALL: tuple[Callable[[], Any], ...] = (
    *(threads, thread_pool, thread_ids, thread_name, large_block, growing_block, collected, clocks),
    *(clock_with_garbage, fcntl_with_garbage, sleep, randomness, random_numbers, sealed_memfd, sized_memfd),
    *(interval_timer, thread_timer, signal_to_itself, arithmetic, text, hashes, tls, dates, codecs, languages),
    *(recent_traceback, event_loop, pipe, socket_pair, polls, copied_fds, open_fds, inherited_fds, blocked_signals),
    *(signal_actions, environment, standard_input, terminals, import_path, core_size, all_limits, speculation),
    *(host_name, cpus, usage, priority, scheduler, temporary_names, who),
)
WORKS = {work.__name__: work for work in _ALL}
