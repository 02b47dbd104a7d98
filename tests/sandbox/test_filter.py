"""The filter on the real kernel: each test installs it in a process of its own, which then tries things."""

from __future__ import annotations

import os
import platform
import signal
from pathlib import Path
from typing import Any

import pytest

from belljar.sandbox import danger
from belljar.sandbox.policy import Policy
from belljar.sandbox.seccomp import groups

from .filtered import answers, number, run

MEDIA = Policy.media()
COMPUTE = Policy.compute()
READING = Policy(read_only=("/usr",))
WRITING = Policy(read_write=("/srv",))
DEVICES = Policy().allow_devices("/dev/null", danger.DEVICES)
EXECUTABLE = Policy().allow_executable_memory(danger.EXECUTABLE_MEMORY)
PROCESSES = EXECUTABLE.allow_subprocesses().allow_files("/usr")
ONLINE = Policy().allow_network(("inet", "inet6"), danger.NETWORK)

GARBAGE = 1 << 40
MINUS_ONE = (1 << 64) - 1
TCGETS, FIONREAD, TIOCSTI, TIOCLINUX, TIOCSCTTY = 0x5401, 0x541B, 0x5412, 0x541C, 0x540E
F_GETFL, F_SETFL, F_SETLK, F_SETOWN, F_SETSIG, F_SETLEASE = 3, 4, 6, 8, 10, 1024
O_ASYNC = 0o20000
CLONE_THREAD, CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_PARENT = 0x10000, 0x10000000, 0x20000, 0x40000000, 0x8000
AT_EMPTY_PATH, AT_FDCWD = 0x1000, MINUS_ONE - 99
PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_GET_SECCOMP = 1, 3, 4, 22, 21
PROT_RW, PROT_RX, PRIVATE = 3, 5, 0x22


def names_here(group: tuple[str, ...]) -> list[tuple[str, int, int, int]]:
    """Return a call of each of *group* that this architecture has, with arguments that no kernel code likes."""
    return [(name, MINUS_ONE, MINUS_ONE, MINUS_ONE) for name in group if number(name) >= 0]


@pytest.mark.parametrize(
    ("group", "answer"),
    [
        (groups.FORBIDDEN, "EPERM"),
        (groups.KEYS + groups.SYSV_IPC + groups.POSIX_QUEUES, "EPERM"),
        (groups.KERNEL_COPIES + groups.PRIORITY + groups.RISKY, "EPERM"),
        (groups.UNUSED, "ENOSYS"),
        (groups.WATCHING + groups.LOCKS, "EACCES"),
        (groups.PROCESSES, "EPERM"),
        (groups.ABSENT, "ENOSYS"),
        (groups.FILE_READS, "EACCES"),
        (groups.FILE_WRITES, "EACCES"),
        (groups.FILE_NEVER, "EACCES"),
        (groups.CHANNELS, "EACCES"),
        (groups.NETWORK, "EACCES"),
        (("open", "openat", "openat2", "creat", "execve", "execveat", "socket", "socketpair", "pipe2"), "EACCES"),
    ],
    ids=[
        "forbidden",
        "named",
        "rare",
        "unused",
        "watching",
        "processes",
        "absent",
        "reads",
        "writes",
        "never",
        "channels",
        "network",
        "argued",
    ],
)
def test_media_refuses_each_call_of_a_group(group: tuple[str, ...], answer: str, tmp_path: Path) -> None:
    """Each refused call gets the answer of its group, whatever its arguments are."""
    calls = names_here(group)
    assert dict(zip([name for name, *_ in calls], answers(MEDIA, [*calls], tmp_path), strict=True)) == dict.fromkeys(
        [name for name, *_ in calls], answer
    )


MEDIA_ANSWERS: list[tuple[tuple[Any, ...], str]] = [
    # nothing refuses in the name of the kernel: EBADF, EINVAL and ENOTTY are its own words, so the call went through
    (("ioctl", MINUS_ONE, TCGETS), "EBADF"),
    (("ioctl", MINUS_ONE, FIONREAD | GARBAGE), "EBADF"),
    (("ioctl", 0, TIOCSTI, "x"), "EACCES"),
    (("ioctl", 0, TIOCSTI | GARBAGE, "x"), "EACCES"),
    (("ioctl", 0, TIOCLINUX | GARBAGE, "x"), "EACCES"),
    (("ioctl", 0, TIOCSCTTY), "EACCES"),
    (("ioctl", 0, TCGETS << 32), "EACCES"),
    (("fcntl", MINUS_ONE, F_GETFL | GARBAGE), "EBADF"),
    (("fcntl", MINUS_ONE, F_SETFL, os.O_NONBLOCK), "EBADF"),
    (("fcntl", 0, F_SETFL, O_ASYNC), "EACCES"),
    (("fcntl", 0, F_SETFL | GARBAGE, O_ASYNC | GARBAGE), "EACCES"),
    (("fcntl", 0, F_SETOWN, 1), "EACCES"),
    (("fcntl", 0, F_SETSIG, 9), "EACCES"),
    (("fcntl", 0, F_SETLK, ""), "EACCES"),
    (("fcntl", 0, F_SETLEASE, 0), "EACCES"),
    (("clone", CLONE_THREAD), "EINVAL"),
    (("clone", CLONE_THREAD | GARBAGE), "EINVAL"),
    (("clone", signal.SIGCHLD), "EPERM"),
    (("clone", signal.SIGCHLD | GARBAGE), "EPERM"),
    (("clone", CLONE_THREAD << 32), "EPERM"),
    (("clone", CLONE_THREAD | CLONE_NEWUSER), "EPERM"),
    (("clone", CLONE_THREAD | CLONE_NEWNS | GARBAGE), "EPERM"),
    (("clone", CLONE_NEWNET | signal.SIGCHLD), "EPERM"),
    (("prctl", PR_GET_DUMPABLE), "done"),
    (("prctl", PR_GET_SECCOMP | GARBAGE), "done"),
    (("prctl", PR_SET_DUMPABLE, 0), "EPERM"),
    (("prctl", PR_SET_DUMPABLE | GARBAGE, 1), "EPERM"),
    (("prctl", PR_SET_PDEATHSIG, 0), "EPERM"),
    (("prctl", PR_SET_SECCOMP, 2), "EPERM"),
    (("prlimit64", 0, 7, 0, ""), "done"),
    (("prlimit64", 0, 7, "", 0), "EPERM"),
    (("mmap", 0, 4096, PROT_RW, PRIVATE, MINUS_ONE, 0), "done"),
    (("mmap", 0, 4096, PROT_RX, PRIVATE, MINUS_ONE, 0), "EACCES"),
    (("mmap", 0, 4096, PROT_RX | GARBAGE, PRIVATE, MINUS_ONE, 0), "EACCES"),
    (("mprotect", 0, 0, PROT_RX), "EACCES"),
    (("pkey_mprotect", 0, 0, PROT_RX, MINUS_ONE), "EACCES"),
    (("newfstatat", 0, "", "", AT_EMPTY_PATH), "done"),
    (("newfstatat", 0, "", "", AT_EMPTY_PATH | GARBAGE), "done"),
    (("newfstatat", AT_FDCWD, "/etc/passwd", "", 0), "EACCES"),
    (("newfstatat", AT_FDCWD, "/etc/passwd", "", AT_EMPTY_PATH << 32), "EACCES"),
    (("socket", 2 | GARBAGE, 1, 0), "EACCES"),
    (("socket", 40, 1, 0), "EACCES"),
    (("sendto", MINUS_ONE, "", 1, 0, 0, 0), "EBADF"),
    (("sendto", MINUS_ONE, "", 1, 0, "", 16), "EACCES"),
    (("setsockopt", MINUS_ONE, 1, 7, "", 4), "EBADF"),
    (("setsockopt", MINUS_ONE, 1 | GARBAGE, 16 | GARBAGE, "", 4), "EACCES"),
    (("setsockopt", MINUS_ONE, 0, 7, "", 4), "EACCES"),
    (("getsockopt", MINUS_ONE, 1, 3, "", ""), "EBADF"),
    (("getsockopt", MINUS_ONE, 1 | GARBAGE, 77 | GARBAGE, "", ""), "EACCES"),
    (("memfd_create", "result", 3), "done"),
    (("epoll_wait", MINUS_ONE, "", 1, 0), "EBADF"),
    (("sched_yield",), "done"),
    (("sched_getparam", 0, ""), "done"),
    (("getpriority", 0, 0), "done"),
    (("uname", ""), "done"),
    ((4000,), "ENOSYS"),
    ((463,), "ENOSYS"),
]


def test_media_answers_by_argument(tmp_path: Path) -> None:
    """Of the arguments that count the low 32 bits decide, and garbage above them changes nothing."""
    calls = [call for call, _ in MEDIA_ANSWERS if not isinstance(call[0], str) or number(call[0]) >= 0]
    found = list(zip(calls, answers(MEDIA, calls, tmp_path), strict=True))
    assert found == [(call, answer) for call, answer in MEDIA_ANSWERS if call in calls]


@pytest.mark.parametrize("policy", [MEDIA, PROCESSES, WRITING], ids=["media", "processes", "writing"])
@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is a matter of x86_64")
@pytest.mark.parametrize("call", [0x4000_0000 + 39, 0x4000_0000 + 520, 0x7FFF_FFFF])
def test_x32_call_kills(policy: Policy, call: int, tmp_path: Path) -> None:
    """A number with the x32 bit ends the process, even one whose plain form is allowed."""
    assert run(policy, "calls", tmp_path, calls=[(call,)]) == "SIGSYS"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 is a matter of x86_64")
def test_i386_call_kills(tmp_path: Path) -> None:
    """An i386 call through int 0x80 ends the process; where the kernel has no i386 at all, by a fault."""
    assert run(MEDIA, "i386", tmp_path) in ("SIGSYS", "SIGSEGV")


@pytest.mark.parametrize("policy", [Policy(), MEDIA, COMPUTE], ids=["least", "media", "compute"])
def test_ordinary_computation_works(policy: Policy, tmp_path: Path) -> None:
    """Time, sleep, random numbers, JSON, anonymous memory and fstat work under every policy."""
    assert run(policy, "ordinary", tmp_path) == {"random": 8, "map": "hello", "tty": False, "size": 0}


def test_threads_start_if_the_policy_says_so(tmp_path: Path) -> None:
    """Threads still start, for glibc falls back from clone3; without the right they are refused."""
    assert run(MEDIA, "threads", tmp_path) == [0, 1, 2, 3]
    assert run(Policy(), "threads", tmp_path) == "refused"


def test_signal_to_itself_arrives(tmp_path: Path) -> None:
    """A child can end itself by a signal."""
    assert run(MEDIA, "abort", tmp_path) == "SIGUSR1"


def test_executable_memory_only_by_policy(tmp_path: Path) -> None:
    """Memory becomes executable neither by mmap nor by mprotect, unless the policy says so."""
    assert run(MEDIA, "executable", tmp_path) == {"map": "EACCES", "mprotect": "EACCES", "plain": 4096}
    assert run(EXECUTABLE, "executable", tmp_path) == {"map": 4096, "mprotect": "done", "plain": 4096}


DRM_VERSION, DRM_GEM_CLOSE, DRM_DRIVER_LAST = 0xC0406400, 0x40086409, 0xC010649F
DRM_SET_MASTER, DRM_GEM_OPEN, DRM_MODE_SETCRTC = 0x641E, 0xC010640B, 0xC06864A2


def test_only_rendering_commands_reach_a_gpu(tmp_path: Path) -> None:
    """Commands of rendering come to the kernel, which finds no such fd; modes, master and shared names do not."""
    passed, stopped = (DRM_VERSION, DRM_GEM_CLOSE, DRM_DRIVER_LAST), (DRM_SET_MASTER, DRM_GEM_OPEN, DRM_MODE_SETCRTC)
    calls = [("ioctl", MINUS_ONE, command | garbage) for command in passed + stopped for garbage in (0, GARBAGE)]
    assert answers(Policy.graphics(jit=False), calls, tmp_path) == ["EBADF"] * 6 + ["EACCES"] * 6
    assert answers(Policy.graphics(), calls, tmp_path) == ["EACCES"] * 12


def test_sealed_memfd_can_be_made(tmp_path: Path) -> None:
    """A result can travel in a memfd that its maker can no longer change."""
    assert run(MEDIA, "memfd", tmp_path) == {"seals": 0b1110, "write": "EPERM"}


def test_event_loops_need_local_channels(tmp_path: Path) -> None:
    """asyncio and trio run with local channels, and are refused without."""
    assert run(COMPUTE, "loops", tmp_path) == {"asyncio": 6, "trio": 6}
    assert run(MEDIA, "loops", tmp_path) == {"asyncio": "EACCES", "trio": "EACCES"}


REFUSED_FAMILIES = ["unix", "inet", "udp", "inet6", "raw", "sctp", "netlink", "audit", "packet", "vsock", "alg"]


@pytest.mark.parametrize(
    ("policy", "made"),
    [
        (MEDIA, set[str]()),
        (COMPUTE, {"stream_pair"}),
        (ONLINE, {"inet", "udp", "inet6"}),
        (Policy().allow_network("netlink", danger.NETWORK), {"netlink"}),
        (Policy().allow_local_sockets(), {"unix"}),
    ],
    ids=["media", "compute", "online", "netlink", "unix"],
)
def test_sockets_are_of_listed_families(policy: Policy, made: set[str], tmp_path: Path) -> None:
    """New sockets are of the families listed and of known protocols; no pair carries datagrams; old sockets work."""
    found = run(policy, "sockets", tmp_path)
    assert {name for name, answer in found.items() if answer == "made"} == made
    refused = {*REFUSED_FAMILIES, "stream_pair", "datagram_pair"} - made
    assert {name: found[name] for name in refused} == dict.fromkeys(refused, "EACCES")
    assert (found["old"], found["buffer"], found["kind"], found["peer_pidfd"]) == ("ping", None, 5, "EACCES")
    assert found["passcred"] == (None if policy.network else "EACCES")


FILE_ANSWERS: list[tuple[str, Policy, dict[str, Any]]] = [
    ("reading", READING, {"read": "content", "list": ["there"], "stat": 7}),
    (
        "writing",
        WRITING,
        {
            **{"read": "content", "stat": 7, "list": ["there"]},
            **dict.fromkeys(("write", "truncate", "create", "device"), "done"),
            **{"chmod": None, "rename": "moved"},
        },
    ),
    ("devices", DEVICES, {"read": "content", "list": ["there"], "stat": 7, "write": "done", "device": "done"}),
]


@pytest.mark.parametrize(
    ("policy", "works"), [case[1:] for case in FILE_ANSWERS], ids=[case[0] for case in FILE_ANSWERS]
)
def test_files_are_used_as_the_policy_says(policy: Policy, works: dict[str, Any], tmp_path: Path) -> None:
    """Reading, writing and devices open what they must; none of them makes a set-id file."""
    found = run(policy, "files", tmp_path)
    assert found == {**dict.fromkeys(found, "EACCES"), **works}


@pytest.mark.parametrize("policy", [READING, WRITING, DEVICES], ids=["reading", "writing", "devices"])
def test_openat2_and_statx_are_absent_with_files(policy: Policy, tmp_path: Path) -> None:
    """Where files are allowed, calls whose flags hide behind a pointer are absent, so that libraries fall back."""
    calls = [("openat2", AT_FDCWD, "/", "", 24), ("statx", AT_FDCWD, "/", 0, 0, "")]
    assert answers(policy, [*calls], tmp_path) == ["ENOSYS", "ENOSYS"]


def test_processes_only_by_policy(tmp_path: Path) -> None:
    """Forking needs sub-processes; executing needs files as well, and a program's own code executable memory."""
    assert run(MEDIA, "processes", tmp_path) == {"fork": "EPERM", "execute": "EPERM"}
    assert run(Policy(subprocesses=True), "processes", tmp_path) == {"fork": 7, "execute": "EACCES"}
    assert run(PROCESSES, "processes", tmp_path) == {"fork": 7, "execute": 0}


def test_subprocesses_get_no_namespace_and_no_sibling(tmp_path: Path) -> None:
    """With sub-processes allowed, clone still makes no namespace, no sibling and, without threads, no thread."""
    flags = [CLONE_NEWUSER | 17, CLONE_NEWNS | GARBAGE, CLONE_PARENT | 17, CLONE_THREAD]
    calls = [*(("clone", flag) for flag in flags), ("unshare", 0), ("setns", 0, 0), ("clone3", 0, 0), ("ptrace", 0)]
    expected = ["EPERM"] * 4 + ["EPERM", "EPERM", "ENOSYS", "EPERM"]
    assert answers(PROCESSES, [*calls], tmp_path) == expected


def test_pipe_of_notifications_is_refused(tmp_path: Path) -> None:
    """With local channels a pipe can be made, but not one through which the kernel reports of keys."""
    assert answers(COMPUTE, [("pipe2", "", 0), ("pipe2", "", os.O_EXCL | GARBAGE)], tmp_path) == ["done", "EACCES"]


def test_listener_is_told_of_opens_executions_and_sockets(tmp_path: Path) -> None:
    """With a listener, each refused open, socket and execution is seen, and answered with EACCES all the same."""
    found = run(MEDIA, "reported", tmp_path, listener=True)
    assert found.pop("seen") == [number(name) for name in ("openat", "socket", "execve")]
    assert found == dict.fromkeys(("open", "socket", "execute", "stat"), "EACCES")
