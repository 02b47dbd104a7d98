"""System calls by their numbers on x86_64, for what the C library does not offer or would do in another way."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Final

from .book import Target

NUMBERS: Final = {
    "mprotect": 10, "ioctl": 16, "shmget": 29, "getpid": 39, "socket": 41, "clone": 56, "semget": 64, "msgget": 68,
    "fcntl": 72, "ptrace": 101, "syslog": 103, "rt_sigqueueinfo": 129, "personality": 135, "getpriority": 140,
    "sched_getparam": 143, "sched_getscheduler": 145, "modify_ldt": 154, "pivot_root": 155, "prctl": 157,
    "adjtimex": 159, "chroot": 161, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "reboot": 169,
    "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "init_module": 175, "delete_module": 176,
    "quotactl": 179, "tkill": 200, "timer_create": 222, "clock_settime": 227, "tgkill": 234, "mq_open": 240,
    "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "ioprio_set": 251, "ioprio_get": 252,
    "inotify_init1": 294, "newfstatat": 262, "unshare": 272, "get_robust_list": 274, "vmsplice": 278,
    "rt_tgsigqueueinfo": 297, "perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311,
    "kcmp": 312, "finit_module": 313, "sched_getattr": 315, "seccomp": 317, "memfd_create": 319, "bpf": 321,
    "execveat": 322, "userfaultfd": 323, "statx": 332, "pidfd_send_signal": 424, "io_uring_setup": 425,
    "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "fsopen": 430, "pidfd_open": 434, "clone3": 435, "openat2": 437, "pidfd_getfd": 438,
    "process_madvise": 440, "mount_setattr": 442, "landlock_create_ruleset": 444, "memfd_secret": 447,
}  # fmt: skip

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000

libc: Final = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def call(name: str | int, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Make a system call; `OSError` with its errno. An int fills a whole word; bytes and buffers go by address."""
    words = [ctypes.c_ulong(argument) if isinstance(argument, int) else argument for argument in arguments]
    number = NUMBERS[name] if isinstance(name, str) else name
    result = int(libc.syscall(ctypes.c_long(number), *words))
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def reach(name: str, *arguments: int | bytes, own: tuple[int, ...] = ()) -> None:
    """Make a system call whose success is to reach the kernel's own code: that returns, or says an errno of *own*."""
    try:
        call(name, *arguments)
    except OSError as error:
        if error.errno not in own:
            raise


def reaches(name: str, *arguments: int | bytes, own: tuple[int, ...] = ()) -> Callable[[Target], None]:
    """Return `reach` as an attack that needs nothing of its target."""
    return lambda target: reach(name, *arguments, own=own)


def open_fd(name: str, *arguments: int | bytes, own: tuple[int, ...] = ()) -> Callable[[Target], None]:
    """Return an attack whose success is a new fd, which is closed."""

    def act(target: Target) -> None:
        os.close(call(name, *arguments))

    return act


def buffer(data: bytes) -> ctypes.Array[ctypes.c_char]:
    """Return memory that holds *data*, to be read and written by a call."""
    return ctypes.create_string_buffer(data, len(data))
