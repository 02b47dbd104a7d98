"""What a sealed child must not do. Each attempt is harmless where nothing stops it: it asks for nothing that stays."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from .raw import checked, libc, raw
from .works import GARBAGE

_TIOCSTI = 0x5412
_PR_SET_DUMPABLE = 4
_AF_VSOCK, _AF_ALG = 40, 38
_NO_SUCH_KEY = 0x62656C6C


def attempts(folder: str, host_pid: int) -> dict[str, Callable[[], object]]:
    """Return all of them by name."""
    return {**_files(Path(folder)), **_sockets(folder), **_processes(host_pid), **_kernel()}


def _files(folder: Path) -> dict[str, Callable[[], object]]:
    there, made = folder / "file", str(folder / "made")
    return {
        "read a file": there.read_text,
        "read a system file": lambda: Path("/etc/passwd").read_text()[:1],
        "read its own maps": lambda: Path("/proc/self/maps").read_text()[:1],
        "read a link": lambda: os.readlink("/proc/self/exe"),
        "ask for the working directory": os.getcwd,
        "change the working directory": lambda: os.chdir("/tmp"),
        "list the root": lambda: len(os.listdir("/")),
        "list a folder": lambda: os.listdir(folder),
        "list its own fds": lambda: len(os.listdir("/proc/self/fd")),
        "stat a file": lambda: there.stat().st_size,
        "write into a file": lambda: there.write_text("x"),
        "make a file": lambda: _close(os.open(made, os.O_CREAT | os.O_WRONLY, 0o600)),
        "make a file without a name": lambda: _close(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)),
        "make a temporary file": lambda: tempfile.TemporaryFile().close(),
        "make a folder": lambda: os.mkdir(made + "-folder"),
        "make a fifo": lambda: os.mkfifo(made + "-fifo"),
        "make a link": lambda: os.symlink("/", made + "-link"),
        "make a hard link": lambda: os.link(there, made + "-hard"),
        "truncate a file": lambda: os.truncate(there, 0),
        "rename a file": lambda: os.rename(folder / "other", folder / "renamed"),
        "remove a file": lambda: os.unlink(folder / "third"),
        "change a mode": lambda: there.chmod(0o600),
        "set times": lambda: os.utime(there),
        "execute a file": lambda: os.execve(folder / "no such program", ["x"], {}),
        "execute a memfd": _execute_memfd,
    }


def _close(fd: int) -> str:
    os.close(fd)
    return "done"


def _execute_memfd() -> None:
    fd = os.memfd_create("program")
    try:
        os.write(fd, b"not a program")
        os.execve(fd, ["x"], {})
    finally:
        os.close(fd)


def _sockets(folder: str) -> dict[str, Callable[[], object]]:
    def made(family: int, kind: int = socket.SOCK_STREAM) -> Callable[[], object]:
        return lambda: socket.socket(family, kind).close()

    return {
        "make a tcp socket": made(socket.AF_INET),
        "make a udp socket": made(socket.AF_INET, socket.SOCK_DGRAM),
        "make an ipv6 socket": made(socket.AF_INET6),
        "make a netlink socket": made(socket.AF_NETLINK, socket.SOCK_RAW),
        "make a packet socket": made(socket.AF_PACKET, socket.SOCK_RAW),
        "make a vsock socket": made(_AF_VSOCK),
        "make a crypto socket": made(_AF_ALG, socket.SOCK_SEQPACKET),
        "look a name up": lambda: len(socket.getaddrinfo("localhost", 80)),
        "connect to a path": lambda: _connect(f"{folder}/socket"),
        "connect to an abstract name": lambda: _connect(b"\0belljar-conformance"),
        "make a datagram pair": lambda: _close_all(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)),
    }


def _connect(address: str | bytes) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(address)
    return "connected"


def _close_all(sockets: tuple[socket.socket, ...]) -> None:
    for sock in sockets:
        sock.close()


def _processes(host_pid: int) -> dict[str, Callable[[], object]]:
    return {
        "fork": _fork,
        "start a thread after that": _thread,
        "spawn": lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1],
        "run a program": lambda: subprocess.run(["/bin/true"], check=False).returncode,
        "signal the host": lambda: os.kill(host_pid, 0),
        "see the host": lambda: os.getsid(host_pid),
        "open a pidfd of the host": lambda: _close(os.pidfd_open(host_pid)),
        "queue a signal to the host": lambda: checked(libc.sigqueue(host_pid, 0, None)),
        "read the host's memory": lambda: checked(libc.process_vm_readv(host_pid, None, 0, None, 0, 0)),
        "trace": lambda: raw("ptrace", 0x4206, 0, 0, 0),  # PTRACE_SEIZE of nobody, ESRCH where it is allowed
    }


def _fork() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def _thread() -> bool:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    return True


def _kernel() -> dict[str, Callable[[], object]]:
    return {
        "map executable memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC).close(),
        "make memory executable": _mprotect,
        "type on the terminal": lambda: raw("ioctl", 0, _TIOCSTI, 0),
        "type with garbage above": lambda: raw("ioctl", 0, _TIOCSTI | GARBAGE, 0),
        "use the keyring": lambda: raw("keyctl", 0, 2**64 - 3, 0),  # KEYCTL_GET_KEYRING_ID of the session
        "use io_uring": lambda: raw("io_uring_setup", 0, 0),
        "load a bpf program": lambda: raw("bpf", 5, 0, 0),
        "open a perf event": lambda: raw("perf_event_open", 0, 0, 0, 0, 0),
        "handle page faults": lambda: raw("userfaultfd", 2**32 - 1),
        "use clone3": lambda: raw("clone3", 0, 0),
        "unshare": lambda: checked(libc.unshare(0)),
        "join a namespace": lambda: checked(libc.setns(-1, 0)),
        "mount": lambda: checked(libc.mount(None, None, None, 0, None)),
        "change the root": lambda: checked(libc.chroot(None)),
        "set the host name": lambda: checked(libc.sethostname(None, 1)),
        "set the time": lambda: raw("clock_settime", 999, 0),
        "find shared memory": lambda: checked(libc.shmget(_NO_SUCH_KEY, 1, 0)),
        "find a message queue": lambda: checked(libc.msgget(_NO_SUCH_KEY, 0)),
        "find semaphores": lambda: checked(libc.semget(_NO_SUCH_KEY, 1, 0)),
        "open a posix queue": lambda: checked(libc.mq_open(b"/belljar-conformance", 0)),
        "become another user": lambda: os.setresuid(*os.getresuid()),
        "change its groups": lambda: os.setgroups(os.getgroups()),
        "change its personality": lambda: checked(libc.personality(0xFFFFFFFF)),
        "filter itself": lambda: raw("seccomp", 1, 0, 0),
        "hide from the host": lambda: checked(libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)),
        "raise its priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0)),
        "raise a limit": _raise_a_limit,
    }


def _mprotect() -> int:
    with mmap.mmap(-1, 4096) as memory:
        view = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(view)
        del view
        return checked(libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4096), 5))


def _raise_a_limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
