"""Which system call gets which answer, as plain values; `compile` turns them into BPF.

What seccomp can see of a call is its number and six 64-bit words. It cannot follow a pointer: whatever hides in memory
(a path, the flags of clone3 and openat2, an address in sendmsg) is not there to be compared, and a check made elsewhere
would look at memory that another thread can change. So a call is allowed only if its words alone make it harmless.

A word is wider than most arguments. The kernel looks at the low 32 bits of an ``int``; a filter that compares all 64
is passed by with one garbage bit above them (CVE-2019-10063: TIOCSTI). So every comparison here is of masked bits, and
each mask stays within what the kernel itself reads. Only pointers are compared whole.

An open question stays with newfstatat: glibc's fstat() is ``newfstatat(fd, "", buf, AT_EMPTY_PATH)``, and that the path
is empty cannot be seen. A child can so ask for the metadata, never the content, of a path. With an empty root there is
none to ask for; a backend without one leaks metadata, and its protection report must say so.

Three answers refuse. EACCES: the policy names no such thing (file, socket, channel, executable memory). EPERM: a child
does not do that (processes, privilege, other people's memory). ENOSYS: treat it as not there, and fall back.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from ..policy import Family
from . import drm, groups
from .answers import Answer, Bits, Choice, Rights, Rules
from .own_pid import own_pid_rules

_INT: Final = 0xFFFF_FFFF
_POINTER: Final = 0xFFFF_FFFF_FFFF_FFFF

# fcntl(2), linux/fcntl.h
_F_SETFL: Final = 4
_F_DESCRIPTOR: Final = (0, 1, 2, 3, 1030, 1033, 1034)  # F_DUPFD F_GETFD F_SETFD F_GETFL F_DUPFD_CLOEXEC F_*_SEALS
_F_LOCKS: Final = (5, 6, 7, 36, 37, 38, 1024, 1025)  # F_*LK F_*LKW, of open file descriptions, F_SETLEASE F_GETLEASE
_O_ASYNC: Final = 0o20000
_O_TMPFILE: Final = 0o20000000  # the kernel's own bit; os.O_TMPFILE has O_DIRECTORY in it too
_O_MAKES: Final = os.O_CREAT | _O_TMPFILE
_O_CHANGES: Final = _O_MAKES | os.O_TRUNC | os.O_APPEND
_SET_ID: Final = 0o6000
_AT_EMPTY_PATH: Final = 0x1000

# ioctl(2): TCGETS (isatty), FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Never TIOCSTI or TIOCLINUX, which type for the user.
_IOCTLS: Final = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)

# socket(2), socket(7), unix(7)
_FAMILIES: Final[dict[Family, int]] = {"unix": 1, "inet": 2, "inet6": 10}
_AF_UNIX, _AF_NETLINK, _AF_VSOCK, _NETLINK_ROUTE = 1, 16, 40, 0
_SOCK_STREAM, _SOCK_DGRAM, _SOCK_SEQPACKET, _SOCK_TYPE = 1, 2, 5, 0xF
_IP_PROTOCOLS: Final = {_SOCK_STREAM: (0, 6), _SOCK_DGRAM: (0, 17)}  # the default, TCP, UDP
_SOL_SOCKET: Final = 1
_SO_HARMLESS: Final = (7, 8, 20, 21, 66, 67)  # SO_SNDBUF SO_RCVBUF, and the two timeouts in their two forms
_SO_LINGER, _SO_PASSPIDFD, _SO_PEERPIDFD = 13, 76, 77
_SO_PROGRAMS: Final = (26, 50, 51, 52)  # SO_ATTACH_FILTER SO_ATTACH_BPF SO_ATTACH_REUSEPORT_CBPF and _EBPF

# shmat(2), keyctl(2): KEYCTL_SESSION_TO_PARENT changes the keys of the process that started the child.
_SHM_EXEC: Final = 0o100000
_KEYCTL_TO_PARENT: Final = 18

# clone(2). A thread has CLONE_THREAD. Never: namespaces, to trace or be traced, a sibling instead of a child, a pidfd.
_CLONE_THREAD: Final = 0x0001_0000
_CLONE_NEVER: Final = 0x7E02_0000 | 0x0080_0000 | 0x8000 | 0x2000 | 0x1000

# prctl(2): names of threads and memory, and questions. Not PR_SET_DUMPABLE: the host reads /proc/PID by it.
_PRCTLS: Final = (
    *(2, 3, 15, 16),  # PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_SET_NAME PR_GET_NAME
    *(21, 23, 27, 30),  # PR_GET_SECCOMP PR_CAPBSET_READ PR_GET_SECUREBITS PR_GET_TIMERSLACK
    *(38, 39, 40, 42),  # PR_SET_NO_NEW_PRIVS PR_GET_NO_NEW_PRIVS PR_GET_TID_ADDRESS PR_GET_THP_DISABLE
    *(52, 0x53564D41),  # PR_GET_SPECULATION_CTRL PR_SET_VMA
)
# arch_prctl(2): ARCH_SET_FS ARCH_GET_FS, and ARCH_*_XCOMP_*, by which libraries ask for wide registers (AMX).
_ARCH_PRCTLS: Final = (0x1002, 0x1003, 0x1021, 0x1022, 0x1023)


def rules_for(rights: Rights) -> Rules:
    """Return the answer to every call that a policy has a say in; a call that is not named gets ENOSYS."""
    rules = {
        **_constants(rights),
        **dict.fromkeys(rights.syscalls, Answer.ALLOW),
        **_memory(rights),
        **_process(rights),
        **_descriptors(rights),
        **_files(rights),
        **_sockets(rights),
        **_covert(rights),
    }
    allowed = {name for name, rule in rules.items() if isinstance(rule, Choice) or rule is Answer.ALLOW}
    if not rights.own_pid_only | rights.own_pid_but_signals:
        return rules
    return {**rules, **own_pid_rules(allowed, but_signals=rights.own_pid_but_signals)}


def _constants(rights: Rights) -> Rules:
    return {
        **dict.fromkeys(groups.ALWAYS, Answer.ALLOW),
        **dict.fromkeys(groups.FILE_READS, _granted(rights.reads, Answer.EACCES)),
        **dict.fromkeys(groups.FILE_WRITES, _granted(rights.writes, Answer.EACCES)),
        **dict.fromkeys(groups.FILE_TIMES, _granted(_sets_attributes(rights), Answer.EACCES)),
        **dict.fromkeys(groups.FILE_NEVER + groups.WATCHING, Answer.EACCES),
        **dict.fromkeys(groups.CHANNELS, _granted(rights.local_channels, Answer.EACCES)),
        **dict.fromkeys(groups.NETWORK, _granted(_makes_sockets(rights), Answer.EACCES)),
        **dict.fromkeys(groups.PROCESSES, _granted(rights.subprocesses, Answer.EPERM)),
        **dict.fromkeys(groups.ABSENT + groups.UNUSED + groups.OBSOLETE, Answer.ENOSYS),
        **dict.fromkeys(groups.KERNEL_COPIES + groups.PRIORITY + groups.RISKY + groups.FORBIDDEN, Answer.EPERM),
    }


def _memory(rights: Rights) -> Rules:
    """W^X: no new executable memory. What sets PROT_EXEC by other means is closed too: shmat(2) has a rule in
    `_covert`, and personality(2) is forbidden to all.
    """
    protected = ("mmap", "mprotect", "pkey_mprotect")
    if rights.executable_memory:
        return dict.fromkeys(protected, Answer.ALLOW)
    return dict.fromkeys(protected, Choice(((Bits(2, mmap.PROT_EXEC, 0),),), Answer.EACCES))


def executes(rights: Rights) -> bool:
    """Tell whether programs can be executed: one brings its own executable memory, from a memfd if need be."""
    return rights.subprocesses and rights.reads and rights.executable_memory


def _process(rights: Rights) -> Rules:
    return {
        "clone": _clone(rights),
        "execve": _granted(executes(rights), Answer.REPORT),
        "execveat": Answer.REPORT,
        "prctl": Choice(_any_of(0, _PRCTLS), Answer.EPERM),
        "arch_prctl": Choice(_any_of(0, _ARCH_PRCTLS), Answer.EPERM),
        "prlimit64": Choice(((Bits(2, _POINTER, 0),),), Answer.EPERM),  # to read; to set it takes a new limit
    }


def _clone(rights: Rights) -> Answer | Choice:
    if not rights.threads and not rights.subprocesses:
        return Answer.EPERM
    if rights.threads and rights.subprocesses:
        return Choice(((Bits(0, _CLONE_NEVER, 0),),), Answer.EPERM)
    kind = _CLONE_THREAD if rights.threads else 0
    return Choice(((Bits(0, _CLONE_THREAD | _CLONE_NEVER, kind),),), Answer.EPERM)


def _descriptors(rights: Rights) -> Rules:
    set_flags = (Bits(1, _INT, _F_SETFL), Bits(2, _O_ASYNC, 0))
    commands = _F_DESCRIPTOR + (_F_LOCKS if "locks" in rights.covert_channels else ())
    # O_EXCL makes a notification pipe, through which the kernel tells of keys: another machine altogether.
    pipe2 = Choice(((Bits(1, os.O_EXCL, 0),),), Answer.EACCES) if rights.local_channels else Answer.EACCES
    return {
        "fcntl": Choice((*_any_of(1, commands), set_flags), Answer.EACCES),
        "ioctl": Choice((*_any_of(1, _IOCTLS), *(drm.CASES if rights.gpu else ())), Answer.EACCES),
        "pipe2": pipe2,
    }


def _files(rights: Rights) -> Rules:
    """Calls that name files: which files is not to be seen here, what for is.

    A mode with set-id bits is refused, because a set-id file outlives the child and its seal. So is an access mode of
    O_WRONLY|O_RDWR, which opens neither to read nor to write, and so passes landlock whatever the path is.
    """
    fstat = Choice(((Bits(3, _AT_EMPTY_PATH, _AT_EMPTY_PATH),),), Answer.EACCES)
    return {
        "open": _open(rights, flags=1),
        "openat": _open(rights, flags=2),
        "openat2": Answer.ENOSYS if rights.reads else Answer.REPORT,  # flags and mode lie behind a pointer
        "newfstatat": Answer.ALLOW if rights.reads else fstat,
        "creat": _mode(rights, 1),
        **{
            name: _mode(rights, arg) if _sets_attributes(rights) else Answer.EACCES
            for name, arg in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2))
        },
    }


def _open(rights: Rights, *, flags: int) -> Answer | Choice:
    not_both = (os.O_WRONLY, os.O_RDWR)
    if rights.writes:
        makes_nothing = tuple((Bits(flags, mode | _O_MAKES, 0),) for mode in not_both)
        without_set_id = tuple((Bits(flags, mode, 0), Bits(flags + 1, _SET_ID, 0)) for mode in not_both)
        return Choice(makes_nothing + without_set_id, Answer.REPORT)
    if rights.devices:
        return Choice(tuple((Bits(flags, mode | _O_CHANGES, 0),) for mode in not_both), Answer.REPORT)
    if rights.reads:
        return Choice(((Bits(flags, _O_CHANGES | os.O_ACCMODE, 0),),), Answer.REPORT)
    return Answer.REPORT


def _mode(rights: Rights, arg: int) -> Answer | Choice:
    return Choice(((Bits(arg, _SET_ID, 0),),), Answer.EACCES) if rights.writes else Answer.EACCES


def _sets_attributes(rights: Rights) -> bool:
    return rights.writes and not rights.keeps_attributes


def _sockets(rights: Rights) -> Rules:
    """Sockets that are there work. New ones are of the families that the policy lists, and of known protocols.

    Pairs are streams or sequences: over half a datagram pair, sendto() reaches any socket that has an address.
    A pidfd of the peer would be a handle on the host: SO_PEERPIDFD and SO_PASSPIDFD are refused to all. So is
    SO_LINGER: a socket that lingers, sent to the host, holds it in close(2) as long as the child has chosen (tried).
    """
    pair = tuple((Bits(0, _INT, _AF_UNIX), Bits(1, _SOCK_TYPE, kind)) for kind in (_SOCK_STREAM, _SOCK_SEQPACKET))
    harmless = Choice(_options(*_SO_HARMLESS), Answer.EACCES)
    risky = Choice(_options(_SO_PASSPIDFD, _SO_LINGER, *_SO_PROGRAMS), Answer.ALLOW, then=Answer.EACCES)
    unaddressed = Choice(((Bits(4, _POINTER, 0),),), Answer.EACCES)
    families = tuple(case for family in rights.families for case in _family(family))
    if "vsock" in rights.covert_channels:
        families += ((Bits(0, _INT, _AF_VSOCK),),)
    return {
        "socket": Choice(families, Answer.REPORT) if families else Answer.REPORT,
        "socketpair": Choice(pair, Answer.EACCES) if rights.local_channels else Answer.EACCES,
        "sendto": Answer.ALLOW if families else unaddressed,
        "getsockopt": Choice(_options(_SO_PEERPIDFD), Answer.ALLOW, then=Answer.EACCES),
        "setsockopt": risky if families else harmless,
    }


def _makes_sockets(rights: Rights) -> bool:
    return bool(rights.families) or "vsock" in rights.covert_channels


def _family(family: Family) -> tuple[tuple[Bits, ...], ...]:
    if family == "netlink":
        return ((Bits(0, _INT, _AF_NETLINK), Bits(2, _INT, _NETLINK_ROUTE)),)
    is_family = Bits(0, _INT, _FAMILIES[family])
    if family == "unix":
        return ((is_family,),)
    return tuple(
        (is_family, Bits(1, _SOCK_TYPE, kind), Bits(2, _INT, protocol))
        for kind, protocols in _IP_PROTOCOLS.items()
        for protocol in protocols
    )


def _covert(rights: Rights) -> Rules:
    """Names and locks that others could share. Even then: no executable segment, and no key for the starter."""
    keys, locks, ipc, queues = (
        channel in rights.covert_channels for channel in ("keys", "locks", "sysv-ipc", "posix-queues")
    )
    rules: dict[str, Answer | Choice] = {
        **dict.fromkeys(groups.KEYS, _granted(keys, Answer.EPERM)),
        **dict.fromkeys(groups.LOCKS, _granted(locks, Answer.EACCES)),
        **dict.fromkeys(groups.SYSV_IPC, _granted(ipc, Answer.EPERM)),
        **dict.fromkeys(groups.POSIX_QUEUES, _granted(queues, Answer.EPERM)),
    }
    if keys:
        rules["keyctl"] = Choice(_any_of(0, (_KEYCTL_TO_PARENT,)), Answer.ALLOW, then=Answer.EPERM)
    if ipc and not rights.executable_memory:
        rules["shmat"] = Choice(((Bits(2, _SHM_EXEC, 0),),), Answer.EACCES)
    return rules


def _options(*names: int) -> tuple[tuple[Bits, ...], ...]:
    return tuple((Bits(1, _INT, _SOL_SOCKET), Bits(2, _INT, name)) for name in names)


def _any_of(arg: int, values: tuple[int, ...]) -> tuple[tuple[Bits, ...], ...]:
    return tuple((Bits(arg, _INT, value),) for value in values)


def _granted(allowed: bool, refusal: Answer) -> Answer:
    return Answer.ALLOW if allowed else refusal
