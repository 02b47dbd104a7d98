"""Other processes: to signal them, to see them, to take hold of them."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket
import struct
import time

from .book import Kept, Target, attack, in_fork
from .calls import buffer, call, libc, reach

SIGNAL, SEE, PTRACE = "signal outside", "see processes", "ptrace"
_ATTACH, _DETACH, _SEIZE = 16, 17, 0x4206
_SIGINFO, _WALL = 128, 0x4000_0000


def _siginfo(number: int) -> ctypes.Array[ctypes.c_char]:
    return buffer(struct.pack("iii", number, 0, -1) + bytes(_SIGINFO - 12))  # SI_QUEUE


# ---- signals: each its own number, so that the victim can say which came (witness.py has the same numbers) ----

BY_KILL, BY_TGKILL, BY_TKILL, BY_SIGIO = (signal.SIGRTMIN + n for n in range(1, 5))
BY_QUEUE, BY_THREAD_QUEUE, BY_PIDFD, BY_GROUP = (signal.SIGRTMIN + n for n in range(5, 9))
EVERYBODY = signal.SIGURG  # all processes of this user get it where the attack succeeds: by default it is ignored


@attack("signal a process", SIGNAL)
def kill(target: Target) -> None:
    os.kill(target.victim_pid, BY_KILL)


@attack("signal a thread, tgkill", SIGNAL)
def tgkill(target: Target) -> None:
    call("tgkill", target.victim_pid, target.victim_pid, BY_TGKILL)


@attack("signal a thread, tkill", SIGNAL)
def tkill(target: Target) -> None:
    call("tkill", target.victim_pid, BY_TKILL)


@attack("queue a signal with a forged origin", SIGNAL)
def queue(target: Target) -> None:
    call("rt_sigqueueinfo", target.victim_pid, BY_QUEUE, _siginfo(BY_QUEUE))


@attack("queue a signal to a thread", SIGNAL)
def queue_thread(target: Target) -> None:
    call("rt_tgsigqueueinfo", target.victim_pid, target.victim_pid, BY_THREAD_QUEUE, _siginfo(BY_THREAD_QUEUE))


@attack("signal by pidfd", SIGNAL)
def by_pidfd(target: Target) -> None:
    pidfd = os.pidfd_open(target.victim_pid)
    try:
        signal.pidfd_send_signal(pidfd, BY_PIDFD)
    finally:
        os.close(pidfd)


@attack("signal a process group", SIGNAL)
def group(target: Target) -> None:
    os.kill(-target.victim_pid, BY_GROUP)


@attack("signal everybody", SIGNAL)
def everybody(target: Target) -> str:
    """The kernel says 0 also where each single process is out of reach, so the victim is asked too."""
    os.kill(-1, EVERYBODY)
    return "sent"


@attack("signal the host", SIGNAL, needs_root=True)
def the_host(target: Target) -> None:
    os.kill(target.host_pid, 0)


@attack("signal what launched it", SIGNAL, needs_root=True)
def the_launcher(target: Target) -> None:
    if (launcher := os.getppid()) == 0:
        raise Kept("not seen")
    os.kill(launcher, 0)


@attack("signal its own process group, which the launcher may share", SIGNAL, apart=True, proof="careless")
def own_group(target: Target) -> None:
    """The host looks whether anybody else felt it."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.kill(0, signal.SIGUSR1)


@attack("have a signal sent by a descriptor, F_SETOWN", SIGNAL)
def by_descriptor(target: Target) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        fcntl.fcntl(ours, 10, BY_SIGIO)  # F_SETSIG
        fcntl.fcntl(ours, fcntl.F_SETOWN, target.victim_pid)
        fcntl.fcntl(ours, fcntl.F_SETFL, fcntl.fcntl(ours, fcntl.F_GETFL) | os.O_ASYNC)
        theirs.send(b"x")


@attack("aim a timer at another's thread", SIGNAL, proof="the kernel takes a thread of one's own only, timer_create(2)")
def timer(target: Target) -> None:
    event = buffer(struct.pack("QiiI", 0, BY_KILL, 4, target.victim_pid) + bytes(44))  # SIGEV_THREAD_ID
    call("timer_create", time.CLOCK_MONOTONIC, event, buffer(bytes(4)))


# ---- seeing ----


@attack("list processes", SEE)
def list_processes(target: Target) -> None:
    if str(target.victim_pid) not in os.listdir("/proc"):
        raise Kept("not there")


@attack("see a process by the metadata of /proc", SEE)
def stat_process(target: Target) -> None:
    os.stat(f"/proc/{target.victim_pid}")


@attack("see a process by newfstatat with AT_EMPTY_PATH", SEE)
def stat_process_empty_path(target: Target) -> None:
    call("newfstatat", -100, f"/proc/{target.victim_pid}".encode(), buffer(bytes(144)), 0x1000)


@attack("see a process by kill 0", SEE)
def kill_nothing(target: Target) -> None:
    os.kill(target.victim_pid, 0)


@attack("see a process by getpgid", SEE)
def ask_group(target: Target) -> str:
    return str(os.getpgid(target.victim_pid))


@attack("see a process by getsid", SEE)
def ask_session(target: Target) -> str:
    return str(os.getsid(target.victim_pid))


@attack("see a process by its affinity", SEE)
def ask_affinity(target: Target) -> None:
    os.sched_getaffinity(target.victim_pid)


@attack("change the affinity of a process", SEE)
def set_affinity(target: Target) -> None:
    os.sched_setaffinity(target.victim_pid, {0})


@attack("see a process by its scheduling", SEE)
def ask_scheduler(target: Target) -> None:
    os.sched_getscheduler(target.victim_pid)


@attack("see a process by its scheduling parameters", SEE)
def ask_parameters(target: Target) -> None:
    os.sched_getparam(target.victim_pid)


@attack("see a process by sched_getattr", SEE)
def ask_attributes(target: Target) -> None:
    call("sched_getattr", target.victim_pid, buffer(bytes(56)), 56, 0)


@attack("see a process by its time slice", SEE)
def ask_interval(target: Target) -> None:
    call(148, target.victim_pid, buffer(bytes(16)))


@attack("see a process by its priority", SEE)
def ask_priority(target: Target) -> None:
    os.getpriority(os.PRIO_PROCESS, target.victim_pid)


@attack("change the priority of a process", SEE)
def set_priority(target: Target) -> None:
    os.setpriority(os.PRIO_PROCESS, target.victim_pid, 1)


@attack("see a process by its I/O priority", SEE)
def ask_io_priority(target: Target) -> None:
    call("ioprio_get", 1, target.victim_pid)


@attack("see a process by its limits", SEE)
def ask_limits(target: Target) -> None:
    resource.prlimit(target.victim_pid, resource.RLIMIT_NOFILE)


@attack("change the limits of a process", SEE)
def set_limits(target: Target) -> None:
    resource.prlimit(target.victim_pid, resource.RLIMIT_NOFILE, (77, 77))


@attack("see a process by a lock that it would have, futex", SEE)
def ask_futex(target: Target) -> None:
    """FUTEX_LOCK_PI looks for the owner whose tid stands in the lock: ESRCH, or it waits, here until the year 1970."""
    lock, begin = buffer(target.victim_pid.to_bytes(8, "little")), buffer(struct.pack("QQ", 1, 0))
    try:
        call(202, lock, 6, 0, begin, 0, 0)
    except TimeoutError:
        return


@attack("see a process by its clock", SEE)
def ask_clock(target: Target) -> None:
    """The clocks of processes have numbers made of their pids, clock_getcpuclockid(3)."""
    time.clock_gettime(~target.victim_pid << 3 | 2)


@attack("see a process by pidfd_open", SEE)
def ask_pidfd(target: Target) -> None:
    os.close(os.pidfd_open(target.victim_pid))


@attack("see a process by its robust list", SEE)
def ask_robust_list(target: Target) -> None:
    call("get_robust_list", target.victim_pid, buffer(bytes(8)), buffer(bytes(8)))


@attack("compare two processes, kcmp", SEE)
def compare(target: Target) -> None:
    call("kcmp", os.getpid(), target.victim_pid, 1, 0, 0)


# ---- taking hold ----


@attack("attach to a process", PTRACE)
def attach(target: Target) -> None:
    call("ptrace", _ATTACH, target.victim_pid, 0, 0)
    while os.WSTOPSIG(status := os.waitpid(target.victim_pid, _WALL)[1]) != signal.SIGSTOP:
        call("ptrace", 7, target.victim_pid, 0, os.WSTOPSIG(status))  # PTRACE_CONT: another signal came first
    call("ptrace", _DETACH, target.victim_pid, 0, 0)


@attack("seize a process", PTRACE)
def seize(target: Target) -> None:
    call("ptrace", _SEIZE, target.victim_pid, 0, 0)
    call("ptrace", 0x4207, target.victim_pid, 0, 0)  # PTRACE_INTERRUPT
    status = os.waitpid(target.victim_pid, _WALL)[1]
    was_interrupted = status >> 16 == 128  # PTRACE_EVENT_STOP; else a signal came first, and must not be lost
    call("ptrace", _DETACH, target.victim_pid, 0, 0 if was_interrupted else os.WSTOPSIG(status))


@attack("read another's memory by process_vm_readv", PTRACE)
def read_memory(target: Target) -> str:
    found = buffer(bytes(target.length))
    local = struct.pack("QQ", ctypes.addressof(found), target.length)
    remote = struct.pack("QQ", target.address, target.length)
    call("process_vm_readv", target.victim_pid, local, 1, remote, 1, 0)
    return found.raw.decode(errors="replace")


@attack("write another's memory by process_vm_writev", PTRACE)
def write_memory(target: Target) -> None:
    """Write behind the secret, where the victim has room for it."""
    source = buffer(b"written!")
    local = struct.pack("QQ", ctypes.addressof(source), 8)
    remote = struct.pack("QQ", target.address + target.length, 8)
    call("process_vm_writev", target.victim_pid, local, 1, remote, 1, 0)


@attack("read another's memory through /proc", PTRACE)
def read_proc_memory(target: Target) -> str:
    fd = os.open(f"/proc/{target.victim_pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, target.length, target.address).decode(errors="replace")
    finally:
        os.close(fd)


@attack("take an fd of another process, pidfd_getfd", PTRACE)
def take_fd(target: Target) -> str:
    pidfd = os.pidfd_open(target.victim_pid)
    try:
        fd = call("pidfd_getfd", pidfd, 0, 0)
    finally:
        os.close(pidfd)
    try:
        return os.pread(fd, 4096, 0).decode(errors="replace")
    finally:
        os.close(fd)


@attack("advise another's memory away, process_madvise", PTRACE, needs_root=True)
def advise(target: Target) -> None:
    pidfd = os.pidfd_open(target.victim_pid)
    page = struct.pack("QQ", target.address & ~0xFFF, 4096)
    try:
        call("process_madvise", pidfd, page, 1, 20, 0)  # MADV_COLD: harmless
    finally:
        os.close(pidfd)


# ---- what holds this process itself ----


@attack("become dumpable")
def dumpable(target: Target) -> None:
    call("prctl", 4, 1, 0, 0, 0)


@attack("become dumpable, high bits")
def dumpable_high(target: Target) -> None:
    call("prctl", 4 | 1 << 32, 1, 0, 0, 0)


@attack("outlive the launcher, PR_SET_PDEATHSIG")
def outlive(target: Target) -> None:
    had = buffer(bytes(4))
    call("prctl", 2, had, 0, 0, 0)
    call("prctl", 1, 0, 0, 0, 0)
    call("prctl", 1, int.from_bytes(had.raw, "little"), 0, 0, 0)


@attack("adopt orphans, PR_SET_CHILD_SUBREAPER")
def adopt(target: Target) -> None:
    call("prctl", 36, 1, 0, 0, 0)
    call("prctl", 36, 0, 0, 0, 0)


@attack("have its own calls handed back to it, PR_SET_SYSCALL_USER_DISPATCH")
def dispatch(target: Target) -> None:
    call("prctl", 59, 0, 0, 0, 0)  # PR_SYS_DISPATCH_OFF, which it is


@attack("let anybody trace this process, PR_SET_PTRACER", proof="only a kernel with Yama has it, prctl(2)")
def be_traced(target: Target) -> None:
    call("prctl", 0x59616D61, 2**64 - 1, 0, 0, 0)


@attack("install a filter of its own, with a listener")
def own_listener(target: Target) -> None:
    """Who holds the listener decides over the calls: a child that answers itself has no filter."""
    allow = buffer(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000))  # return SECCOMP_RET_ALLOW
    program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(allow))
    # EACCES is the kernel's own: without no_new_privs it takes root, but the call came that far.
    in_fork(lambda: reach("seccomp", 1, 1 << 3, program, own=() if _is_filtered() else (errno.EACCES,)))


def _is_filtered() -> bool:
    return call("prctl", 21, 0, 0, 0, 0) == 2  # PR_GET_SECCOMP


@attack("answer as one's own listener", proof="careless")
def answer_itself(target: Target) -> None:
    """Look for a listener among all fds, and try to receive from it."""
    for fd in range(3, 256):
        try:
            if "seccomp notify" in os.readlink(f"/proc/self/fd/{fd}"):
                return
        except OSError:
            pass
        if libc.ioctl(fd, 0x80082102, buffer(bytes(8))) == 0 or ctypes.get_errno() == 2:  # ID_VALID: ENOENT is its own
            return
    raise Kept("none there")


@attack("start a session")
def start_session(target: Target) -> None:
    in_fork(os.setsid)


@attack("move to another process group")
def change_group(target: Target) -> None:
    in_fork(lambda: os.setpgid(0, 0))
