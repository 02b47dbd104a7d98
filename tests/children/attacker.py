"""A plugin that tries to get out. Each attempt says how far it came; none does harm where it succeeds.

An attempt that the kernel answers with its *own* error (EINVAL to a call with wrong arguments, say) has got past the
sandbox, so it counts as a success: only EACCES, EPERM, ENOSYS, ENOENT, ESRCH and the limits' errors are refusals.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import resource
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path

REFUSALS = {errno.EACCES, errno.EPERM, errno.ENOSYS, errno.ENOENT, errno.ESRCH, errno.ENOMEM, errno.EAFNOSUPPORT}

X86_64 = {
    "ptrace": 101, "personality": 135, "pivot_root": 155, "mount": 165, "reboot": 169, "init_module": 175, "acct": 163,
    "swapon": 167, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "shmget": 29,
    "msgget": 68, "semget": 64, "mq_open": 240, "perf_event_open": 298, "name_to_handle_at": 303, "setns": 308,
    "open_by_handle_at": 304, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313,
    "seccomp": 317, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "open_tree": 428, "fsopen": 430,
    "clone3": 435, "pidfd_open": 434, "pidfd_getfd": 438, "mount_setattr": 442, "landlock_create_ruleset": 444,
    "inotify_init1": 294, "fanotify_init": 300, "quotactl": 179, "chroot": 161, "sethostname": 170, "settimeofday": 164,
    "syslog": 103, "iopl": 172, "ioctl": 16, "prctl": 157, "socket": 41, "clone": 56, "memfd_secret": 447,
    "vmsplice": 278,
    "clock_settime": 227, "lookup_dcookie": 212, "adjtimex": 159, "setpriority": 141, "migrate_pages": 256,
}  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int | bytes) -> int:
    """Make a system call by number; raise OSError with its errno."""
    converted = [argument if isinstance(argument, bytes) else ctypes.c_ulong(argument) for argument in arguments]
    result = _libc.syscall(ctypes.c_long(X86_64[name]), *converted)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def reached(name: str, *arguments: int | bytes) -> Callable[[], object]:
    """Return an attempt that only has to reach the kernel's own code."""
    return lambda: call(name, *arguments)


def reached_with(expected: int, name: str, *arguments: int | bytes) -> Callable[[], object]:
    """Return an attempt whose success is the kernel's own error *expected*."""

    def attempt() -> object:
        try:
            return call(name, *arguments)
        except OSError as error:
            if error.errno == expected:
                return None
            raise

    return attempt


class Attacker:
    """Tries one thing after the other."""

    def __init__(self) -> None:
        self.host_pid = 0
        self.folder = ""
        self.attempts: dict[str, Callable[[], object]] = {
            "read /etc/passwd": lambda: Path("/etc/passwd").read_text(),
            "list /": lambda: os.listdir("/"),
            "stat /etc": lambda: os.stat("/etc/passwd"),
            "read host environment": lambda: Path(f"/proc/{self.host_pid}/environ").read_bytes(),
            "write into host folder": lambda: open(self.folder + "/written", "w").close(),
            "make a directory": lambda: os.mkdir(self.folder + "/made"),
            "connect to host socket": self._connect_path,
            "read a link": lambda: os.readlink("/proc/self/exe"),
            "change directory up": lambda: os.chdir("/tmp"),
            "fork": self._fork,
            "execute": self._execute,
            "signal the host": lambda: os.kill(self.host_pid, 0),
            "signal everybody": lambda: os.kill(-1, 0),
            "signal the host by pidfd": lambda: signal.pidfd_send_signal(os.pidfd_open(self.host_pid), 0),
            "priority of the host": lambda: os.getpriority(os.PRIO_PROCESS, self.host_pid),
            "affinity of the host": lambda: os.sched_getaffinity(self.host_pid),
            "limits of the host": lambda: resource.prlimit(self.host_pid, resource.RLIMIT_NOFILE),
            "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE)),
            "socket inet": lambda: socket.socket(socket.AF_INET).close(),
            "socket inet6": lambda: socket.socket(socket.AF_INET6).close(),
            "socket unix": lambda: socket.socket(socket.AF_UNIX).close(),
            "socket netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
            "socket alg": lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).close(),
            "socket inet, high bits": reached("socket", 2 | 1 << 32, 1, 0),
            "bind an abstract name": self._bind_abstract,
            "forge credentials": self._forge,
            "executable memory": lambda: mmap.mmap(
                -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
            ).close(),
            "make memory executable": self._mprotect,
            "memory bomb": lambda: len(bytearray(3 << 30)),
            "huge file": self._huge_file,
            "TIOCSTI": reached("ioctl", 0, 0x5412, 0),
            "TIOCSTI, high bits": reached("ioctl", 0, 0x5412 | 1 << 32, 0),
            "TIOCLINUX": reached("ioctl", 0, 0x541C, 0),
            "become dumpable": reached("prctl", 4, 1, 0, 0, 0),
            "become dumpable, high bits": reached("prctl", 4 | 1 << 32, 1, 0, 0, 0),
            "clone a namespace": reached("clone", 0x10000000 | 0x200, 0, 0, 0, 0),  # with CLONE_FS: EINVAL, no process
            "ptrace oneself": reached_with(errno.ESRCH, "ptrace", 2, os.getpid(), 0, 0),
            "read own memory by process_vm_readv": self._process_vm_readv,
            "unshare user": reached("unshare", 0),
            "setns": reached("setns", 1 << 20, 0),
            "keyctl": reached("keyctl", 0, 2**64 - 3, 0, 0, 0),
            "add_key": reached("add_key", b"user", b"belljar", b"x", 1, 2**64 - 3),
            "userfaultfd": reached("userfaultfd", 1),
            "io_uring": reached("io_uring_setup", 0, 0),
            "clone3": reached("clone3", 0, 0),
            "pidfd_open": reached("pidfd_open", os.getpid(), 0),
            "pidfd_getfd": reached("pidfd_getfd", 1 << 20, 0, 0),
            "kcmp": reached("kcmp", os.getpid(), os.getpid(), 0, 0, 0),
            "personality": reached("personality", 0xFFFFFFFF),
            "seccomp": reached("seccomp", 2, 0, 0),
            "landlock": reached("landlock_create_ruleset", 0, 0, 1),
            "inotify": reached("inotify_init1", 0),
            "shmget": reached("shmget", 0, 4096, 0),
            "msgget": reached("msgget", 0, 0),
            "semget": reached("semget", 0, 1, 0),
            "mq_open": reached_with(errno.ENOENT, "mq_open", b"belljar-none", 0, 0, 0),
            "name_to_handle_at": reached("name_to_handle_at", 2**64 - 100, b"/etc", 0, 0, 0),
            "open_tree": reached("open_tree", 2**64 - 100, b"/", 0),
            "vmsplice": reached("vmsplice", 1 << 20, 0, 0, 0),
        }
        self.root_attempts: dict[str, Callable[[], object]] = {
            "bpf": reached("bpf", 0, 0, 0),
            "perf_event_open": reached("perf_event_open", 0, 0, 0, 0, 0),
            "mount": reached("mount", b"x", b"/", b"nosuchfs", 0, 0),
            "fsopen": reached("fsopen", b"nosuchfs", 0),
            "chroot": reached("chroot", b"/"),
            "pivot_root": reached("pivot_root", b"/", b"/"),
            "reboot": reached("reboot", 0, 0, 0, 0),
            "init_module": reached("init_module", 0, 0, 0),
            "finit_module": reached("finit_module", 1 << 20, 0, 0),
            "kexec_load": reached("kexec_load", 0, 1 << 20, 0, 0),
            "fanotify": reached("fanotify_init", 1 << 20, 0),
            "open_by_handle_at": reached("open_by_handle_at", 1 << 20, 0, 0),
            "sethostname": lambda: call("sethostname", os.uname().nodename.encode(), len(os.uname().nodename)),
            "clock_settime": reached("clock_settime", 999, 0),
            "syslog": reached("syslog", 10, 0, 0),
            "socket packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
            "socket inet raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
        }

    def try_all(self, host_pid: int, folder: str) -> dict[str, str]:
        """Try everything; return "" for each success and the refusal's text for the rest."""
        self.host_pid, self.folder = host_pid, folder
        return {name: self._try(action) for name, action in (self.attempts | self.root_attempts).items()}

    def names(self) -> tuple[list[str], list[str]]:
        """Return the attempts that anybody can make, and those that need root even without a sandbox."""
        return list(self.attempts), list(self.root_attempts)

    def _try(self, action: Callable[[], object]) -> str:
        try:
            action()
        except OSError as error:
            return f"{errno.errorcode[error.errno or 0]}: {error.strerror}" if error.errno in REFUSALS else ""
        except (MemoryError, ValueError) as error:  # setrlimit makes a ValueError of EPERM
            return f"{type(error).__name__}: {error}"
        return ""

    def _fork(self) -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    def _execute(self) -> None:
        """Replace this process only if nothing stops that: by a fork where one is possible."""
        try:
            pid = os.fork()
        except OSError:
            os.execv("/bin/true", ["true"])
        else:
            if pid == 0:
                os.execv("/bin/true", ["true"])
            os.waitpid(pid, 0)

    def _connect_path(self) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(self.folder + "/socket")

    def _bind_abstract(self) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(b"\0belljar-attacker-%d" % os.getpid())

    def _forge(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            creds = struct.pack("iII", os.getpid(), os.getuid(), os.getgid())
            ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, creds)])

    def _mprotect(self) -> None:
        memory = mmap.mmap(-1, 4096)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4096), 7) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def _huge_file(self) -> None:
        fd = os.memfd_create("huge")
        try:
            os.ftruncate(fd, 1 << 40)
        except OSError as error:
            raise OSError(errno.ENOMEM, "the file size limit") from error
        finally:
            os.close(fd)

    def _process_vm_readv(self) -> None:
        source, target = ctypes.create_string_buffer(b"secret"), ctypes.create_string_buffer(8)
        local = struct.pack("QQ", ctypes.addressof(target), 6)
        remote = struct.pack("QQ", ctypes.addressof(source), 6)
        call("process_vm_readv", os.getpid(), local, 1, remote, 1, 0)


IS_SUPPORTED = platform.machine() == "x86_64"
