"""Doors into the kernel that a plugin has no business with: keys, rings, programs, mounts, namespaces, objects."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from .book import Kept, Target, attack, in_fork
from .calls import AT_FDCWD, buffer, call, libc, open_fd, reach, reaches

KEYS, RING, TOOLS = "keyctl", "io_uring", "bpf, perf, userfaultfd"
MOUNT, USERNS, IPC, TIME = "mount", "new user namespace", "ipc objects", "set time or host name"
_SESSION_KEYRING = 2**64 - 3
_NEWUSER, _NEWNS, _NEWPID, _NEWNET = 0x1000_0000, 0x0002_0000, 0x2000_0000, 0x4000_0000
_FS = 0x200

attack("look at the session keyring", KEYS)(reaches("keyctl", 0, _SESSION_KEYRING, 0, 0, 0))
attack("leave a key for others", KEYS)(reaches("add_key", b"user", b"belljar", b"x", 1, _SESSION_KEYRING))
attack("find a key of others", KEYS)(reaches("request_key", b"user", b"belljar", 0, _SESSION_KEYRING, own=(126,)))
attack("join a keyring by name", KEYS)(lambda target: in_fork(lambda: call("keyctl", 1, b"belljar", 0, 0, 0)))


@attack("give the session keyring to the launcher", KEYS)
def key_to_parent(target: Target) -> None:
    """KEYCTL_SESSION_TO_PARENT, in a fork of a fork: the kernel wants a launcher with one thread."""
    in_fork(lambda: in_fork(lambda: reach("keyctl", 18, 0, 0, 0, 0)))


@attack("make a ring, io_uring_setup", RING)
def ring(target: Target) -> None:
    os.close(call("io_uring_setup", 4, buffer(bytes(120))))


attack("enter a ring", RING)(reaches("io_uring_enter", 1 << 20, 0, 0, 0, 0, 0, own=(errno.EBADF,)))
attack("register with a ring", RING)(reaches("io_uring_register", 1 << 20, 0, 0, 0, own=(errno.EBADF,)))
attack("load a program into the kernel, bpf", TOOLS, needs_root=True)(
    reaches("bpf", 5, bytes(128), 128, own=(errno.E2BIG, errno.EINVAL))
)
attack("take faults of memory, userfaultfd", TOOLS)(open_fd("userfaultfd", 1 | os.O_CLOEXEC))


@attack("measure another process, perf_event_open", TOOLS, needs_root=True)
def measure(target: Target) -> None:
    attributes = struct.pack("IIQ", 1, 128, 0) + bytes(112)  # a software event: cpu clock
    os.close(call("perf_event_open", attributes, target.victim_pid, 2**64 - 1, 2**64 - 1, 0))


# ---- mounts ----

attack("mount a file system", MOUNT, needs_root=True)(
    reaches("mount", b"x", b"/", b"nosuchfs", 0, 0, own=(errno.ENODEV,))
)
attack("open a file system, fsopen", MOUNT, needs_root=True)(open_fd("fsopen", b"tmpfs", 1))
attack("copy a tree of mounts, open_tree", MOUNT, needs_root=True)(open_fd("open_tree", AT_FDCWD, b"/", 1))
attack("unmount a file system", MOUNT, needs_root=True)(reaches("umount2", b"/", 1 << 20, own=(errno.EINVAL,)))
attack("change the attributes of a mount", MOUNT, needs_root=True)(
    reaches("mount_setattr", AT_FDCWD, b"/", 0, bytes(32), 32, own=(0,))
)
attack("change the root, pivot_root", MOUNT, needs_root=True)(
    reaches("pivot_root", b"/", b"/", own=(errno.EBUSY, errno.EINVAL))
)
attack("change the root, chroot", MOUNT, needs_root=True)(reaches("chroot", b"/"))


@attack("mount in namespaces of one's own", MOUNT)
def mount_inside(target: Target) -> None:
    def mount() -> None:
        call("unshare", _NEWUSER | _NEWNS)
        call("mount", b"x", target.folder.encode(), b"tmpfs", 0, 0)

    in_fork(mount)


@attack("overlay a folder in namespaces of one's own", MOUNT)
def overlay_inside(target: Target) -> None:
    def mount() -> None:
        ids = os.getuid(), os.getgid()
        call("unshare", _NEWUSER | _NEWNS)
        for table, text in ("setgroups", "deny"), ("uid_map", f"0 {ids[0]} 1"), ("gid_map", f"0 {ids[1]} 1"):
            with open(f"/proc/self/{table}", "w") as file:
                file.write(text)
        folder = target.folder.encode()
        call("mount", b"x", folder, b"tmpfs", 0, 0)
        for name in (b"lower", b"upper", b"work", b"merged"):
            os.mkdir(folder + b"/" + name)
        options = b"lowerdir=%b/lower,upperdir=%b/upper,workdir=%b/work,userxattr" % (folder, folder, folder)
        call("mount", b"x", folder + b"/merged", b"overlay", 0, options)

    in_fork(mount)


# ---- namespaces ----


@attack("make a user namespace", USERNS)
def own_userns(target: Target) -> None:
    in_fork(lambda: call("unshare", _NEWUSER))


@attack("make a user and a network namespace", USERNS)
def own_netns(target: Target) -> None:
    in_fork(lambda: call("unshare", _NEWUSER | _NEWNET))


@attack("make a process in a user namespace of its own", USERNS)
def clone_userns(target: Target) -> None:
    pid = call("clone", _NEWUSER | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@attack("make a process in a user namespace by clone3", USERNS)
def clone3_userns(target: Target) -> None:
    pid = call("clone3", buffer(struct.pack("8Q", _NEWUSER, 0, 0, 0, 17, 0, 0, 0)), 64)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@attack("join a namespace of another process", USERNS, needs_root=True)
def join(target: Target) -> None:
    def enter() -> None:
        fd = os.open(f"/proc/{target.victim_pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        call("setns", fd, _NEWNET)

    in_fork(enter)


@attack("join the namespaces of another process by pidfd", USERNS, needs_root=True)
def join_by_pidfd(target: Target) -> None:
    in_fork(lambda: call("setns", os.pidfd_open(target.victim_pid), _NEWNET))


# ---- objects that have names, or numbers, for all ----


@attack("leave shared memory for others", IPC)
def shared_memory(target: Target) -> None:
    call("shmget", target.key, 4096, 0o1666)


@attack("leave a semaphore for others", IPC)
def semaphore(target: Target) -> None:
    call("semget", target.key, 1, 0o1666)


@attack("leave a message queue for others", IPC)
def message_queue(target: Target) -> None:
    call("msgget", target.key, 0o1666)


@attack("leave a POSIX message queue for others", IPC)
def posix_queue(target: Target) -> None:
    os.close(call("mq_open", target.word.encode(), os.O_CREAT | os.O_RDWR, 0o666, 0))


# ---- the machine's time and names ----


@attack("set the time zone of the kernel, settimeofday", TIME, needs_root=True)
def time_zone(target: Target) -> None:
    """To what it is already."""
    zone = buffer(bytes(8))
    libc.gettimeofday(None, zone)
    call("settimeofday", 0, zone)


@attack("set the clock, adjtimex", TIME, needs_root=True)
def clock(target: Target) -> None:
    """Its tick, to what it is already."""
    timex = buffer(bytes(208))
    if libc.adjtimex(timex) < 0:
        raise OSError(ctypes.get_errno(), "adjtimex")
    changed = buffer(struct.pack("Q", 0x4000) + timex.raw[8:])  # ADJ_TICK
    call("adjtimex", changed)


@attack("set the clock, clock_adjtime", TIME, needs_root=True)
def clock_adjtime(target: Target) -> None:
    timex = buffer(bytes(208))
    call("clock_adjtime", 0, timex)
    call("clock_adjtime", 0, buffer(struct.pack("Q", 0x4000) + timex.raw[8:]))


@attack("set the host name", TIME, needs_root=True)
def host_name(target: Target) -> None:
    """To what it is already."""
    name = os.uname().nodename.encode()
    call("sethostname", name, len(name))


@attack("set the domain name", TIME, needs_root=True)
def domain_name(target: Target) -> None:
    if libc.getdomainname(found := buffer(bytes(65)), 65) < 0:
        raise Kept("no name")
    name = found.raw.split(b"\0")[0]
    call("setdomainname", name, len(name))
