"""Install a filter on this process, do one task, print what came of it as JSON: ``under_filter.py PROGRAM TASK``.

PROGRAM is a file of BPF. Whatever a task imports or prepares, it does before the filter is on, as a child's early init.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import json
import mmap
import os
import random
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures.thread import ThreadPoolExecutor
from pathlib import Path

from belljar.sandbox import syscalls as sc
from belljar.sandbox.confine import forbid_new_privileges
from belljar.sandbox.seccomp.own_pid import bind_pid

# int 0x80 with the number in edi: push rbx; mov eax, edi; xor ebx, ebx; int 0x80; pop rbx; ret
_I386 = bytes.fromhex("53 89f8 31db cd80 5b c3")
_I386_GETPID = 20
_NOTIF = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_SO_PEERPIDFD = 77

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def install(flags: int = 0) -> int:
    """Put the filter on the calling thread, or as *flags* say."""
    forbid_new_privileges()
    return sc.seccomp_set_filter(bind_pid(Path(sys.argv[1]).read_bytes(), os.getpid()), flags)


def call(number: int, *arguments: int | str) -> int:
    """Make a raw system call and return its errno, 0 for success.

    "@own" and "@host" are the pids of this process and of the one that started it; another text is passed as a pointer
    to a page with it.
    """
    pids = {"@own": os.getpid(), "@host": os.getppid()}
    arguments = tuple(pids.get(a, a) if isinstance(a, str) else a for a in arguments)
    pages = [ctypes.create_string_buffer(a.encode(), 4096) if isinstance(a, str) else None for a in arguments]
    words = [
        ctypes.c_uint64(ctypes.addressof(page) if page else int(argument))
        for page, argument in zip(pages, arguments, strict=True)
    ]
    ctypes.set_errno(0)
    return ctypes.get_errno() if _libc.syscall(ctypes.c_long(number), *words) == -1 else 0


def calls() -> object:
    """Make the calls that stand on stdin, each ``[number, argument, ...]``."""
    todo = json.load(sys.stdin)
    install()
    return [call(*each) for each in todo]


def outcomes(**attempts: Callable[[], object]) -> dict[str, object]:
    """Try each; the errno of what failed, else what it returned."""
    found: dict[str, object] = {}
    for name, attempt in attempts.items():
        try:
            found[name] = attempt()
        except OSError as error:
            found[name] = errno.errorcode[error.errno or 0]
    return found


def ordinary() -> object:
    """Do what any pure computation does."""
    now = time.time()
    install()
    values = [random.random() for _ in range(1000)]
    assert json.loads(json.dumps(sorted(values))) == sorted(values)
    assert time.time() >= now
    time.sleep(0.001)
    big = mmap.mmap(-1, 1 << 20)
    big[:5] = b"hello"
    return {"random": len(os.urandom(8)), "map": big[:5].decode(), "tty": os.isatty(0), "size": os.fstat(0).st_size}


def threads() -> object:
    """Start threads after the seal."""
    install()
    done: list[int] = []
    started = [threading.Thread(target=done.append, args=(n,)) for n in range(4)]
    try:
        for thread in started:
            thread.start()
    except RuntimeError:
        return "refused"
    for thread in started:
        thread.join()
    return sorted(done)


def executable() -> object:
    """Try to make memory executable."""
    plain = mmap.mmap(-1, mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(plain))
    everything = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    install()

    def protect() -> str:
        failed = _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), ctypes.c_int(everything))
        return errno.errorcode[ctypes.get_errno()] if failed else "done"

    return outcomes(
        map=lambda: len(mmap.mmap(-1, 4096, prot=everything)), mprotect=protect, plain=lambda: len(mmap.mmap(-1, 4096))
    )


def itself() -> object:
    """Signal and ask about itself, from a second thread too, as libraries do."""
    arrived: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: arrived.append(number))
    found: dict[str, object] = {}
    attributes = ctypes.create_string_buffer(256)
    _libc.pthread_self.restype = ctypes.c_void_p
    main = threading.get_ident()

    def second() -> None:
        own = ctypes.c_void_p(_libc.pthread_self())
        found["getattr"] = _libc.pthread_getattr_np(own, attributes)
        signal.pthread_kill(main, signal.SIGUSR1)
        found.update(outcomes(affinity=lambda: bool(os.sched_getaffinity(0)), group=lambda: os.getpgid(0) > 0))

    install()
    thread = threading.Thread(target=second)
    thread.start()
    thread.join()
    signal.raise_signal(signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    return {**found, "cpu": time.process_time() > 0, "thread_cpu": time.thread_time() > 0, "signals": arrived}


def locks() -> object:
    """Lock a file that is open, in each way, and take a lease on it."""
    with tempfile.NamedTemporaryFile() as file:
        install()
        open_file_lock = struct.pack("hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)
        found = outcomes(
            flock=lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB),
            lockf=lambda: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB),
            open_file=lambda: len(fcntl.fcntl(file, fcntl.F_OFD_SETLK, open_file_lock)),
            lease=lambda: fcntl.fcntl(file, fcntl.F_GETLEASE),
        )
        print(json.dumps(found), flush=True)
        os._exit(0)  # to remove the file is refused


def memfd() -> object:
    """Make a sealed memfd, as a large result."""
    install()
    fd = os.memfd_create("result", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, 4096)
    os.pwrite(fd, b"result", 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return {"seals": fcntl.fcntl(fd, fcntl.F_GET_SEALS), **outcomes(write=lambda: os.write(fd, b"x"))}


async def _asyncio_work() -> int:
    with ThreadPoolExecutor() as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, sum, [1, 2, 3])


def loops() -> object:
    """Run both event loops, with their threads, after the seal."""
    import trio  # here, because no other task is worth its time

    async def trio_work() -> int:
        return await trio.to_thread.run_sync(sum, [1, 2, 3])

    install()
    return outcomes(asyncio=lambda: asyncio.run(_asyncio_work()), trio=lambda: trio.run(trio_work))


def _close(*made: socket.socket) -> str:
    for each in made:
        each.close()
    return "made"


def sockets() -> object:
    """Make and use sockets."""
    old, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    install()
    old.send(b"ping")

    def family(number: int, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> Callable[[], str]:
        return lambda: _close(socket.socket(number, kind, protocol))

    def pair(kind: int) -> Callable[[], str]:
        return lambda: _close(*socket.socketpair(socket.AF_UNIX, kind))

    return outcomes(
        old=lambda: other.recv(10).decode(),
        buffer=lambda: old.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16),
        passcred=lambda: old.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1),
        kind=lambda: old.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE),
        peer_pidfd=lambda: old.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD),
        unix=family(socket.AF_UNIX),
        inet=family(socket.AF_INET),
        udp=family(socket.AF_INET, socket.SOCK_DGRAM),
        inet6=family(socket.AF_INET6),
        raw=family(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        sctp=family(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
        netlink=family(socket.AF_NETLINK, socket.SOCK_RAW),
        audit=family(socket.AF_NETLINK, socket.SOCK_RAW, 9),
        packet=family(socket.AF_PACKET, socket.SOCK_RAW),
        vsock=family(socket.AF_VSOCK),
        alg=family(socket.AF_ALG, socket.SOCK_SEQPACKET),
        stream_pair=pair(socket.SOCK_STREAM),
        datagram_pair=pair(socket.SOCK_DGRAM),
    )


def files() -> object:
    """Read, write, create and run files in a folder of its own."""
    folder = Path(tempfile.mkdtemp())
    there = folder / "there"
    there.write_text("content")
    attempts = _file_attempts(folder, there)
    install()
    return outcomes(**attempts)


def _open(path: Path, flags: int, mode: int = 0) -> str:
    os.close(os.open(path, flags, mode))
    return "done"


def _file_attempts(folder: Path, there: Path) -> dict[str, Callable[[], object]]:
    """Return the attempts on *folder*, in which *there* is."""
    return {
        "read": there.read_text,
        "list": lambda: os.listdir(folder),
        "stat": lambda: there.stat().st_size,
        "write": lambda: _open(there, os.O_WRONLY),
        "truncate": lambda: _open(there, os.O_RDONLY | os.O_TRUNC),
        "create": lambda: _open(folder / "made", os.O_CREAT | os.O_WRONLY, 0o600),
        "create_set_id": lambda: _open(folder / "set-id", os.O_CREAT | os.O_WRONLY, 0o4755),
        "chmod": lambda: there.chmod(0o644),
        "chmod_set_id": lambda: there.chmod(0o4755),
        "rename": lambda: there.rename(folder / "moved").name,
        "device": lambda: _open(Path("/dev/null"), os.O_RDWR),
    }


def processes() -> object:
    """Fork, and execute a program."""
    install()

    def exit_code(pid: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def fork() -> int:
        if (pid := os.fork()) == 0:
            os._exit(7)
        return exit_code(pid)

    return outcomes(fork=fork, execute=lambda: exit_code(os.posix_spawn("/bin/true", ["true"], {})))


def i386() -> object:
    """Make an i386 call through code that was prepared before the seal."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(_I386)
    enter = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    install()
    return enter(_I386_GETPID)


def abort() -> object:
    """Die by a signal to itself."""
    install()
    signal.raise_signal(signal.SIGUSR1)
    return None


def reported() -> object:
    """Be filtered in one thread and listen in another, which records and refuses."""
    listener: list[int] = []
    ready = threading.Event()
    found: dict[str, object] = {}

    def execute() -> str:  # not os.execv: it holds the interpreter's lock, which the other thread needs
        _libc.execv(b"/bin/true", None)
        return errno.errorcode[ctypes.get_errno()]

    def confined() -> None:
        listener.append(install(sc.SECCOMP_FILTER_FLAG_NEW_LISTENER))
        ready.set()
        found.update(
            outcomes(
                open=lambda: os.open("/etc/passwd", os.O_RDONLY),
                socket=lambda: socket.socket(socket.AF_INET),
                execute=execute,
                stat=lambda: os.stat("/etc/passwd"),
            )
        )

    thread = threading.Thread(target=confined, daemon=True)
    thread.start()
    ready.wait()
    found["seen"] = [_refuse_next(listener[0]) for _ in range(3)]
    thread.join()
    return found


def _refuse_next(listener: int) -> int:
    """Answer one call with EACCES and return its number. See seccomp_unotify(2)."""
    select.select([listener], [], [])
    request = bytearray(_NOTIF.size)
    fcntl.ioctl(listener, 0xC0502100, request)
    cookie, _, _, number, *_ = _NOTIF.unpack(request)
    fcntl.ioctl(listener, 0xC0182101, _RESPONSE.pack(cookie, 0, -errno.EACCES, 0))
    return int(number)


_ALL = (
    abort,
    calls,
    executable,
    files,
    i386,
    itself,
    locks,
    loops,
    memfd,
    ordinary,
    processes,
    reported,
    sockets,
    threads,
)
TASKS: dict[str, Callable[[], object]] = {task.__name__: task for task in _ALL}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[2]]()), flush=True)
