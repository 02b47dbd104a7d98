"""Say in words what the rules answer: which call is allowed, and under which condition on its arguments."""

from __future__ import annotations

from typing import Final

from . import drm
from .answers import Answer, Bits, Choice
from .own_pid import PLACEHOLDER

_WORDS: Final = {Answer.ALLOW: "allowed", Answer.REPORT: "EACCES, and the host is told"}
_WHOLE: Final = (0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)
_FIELDS: Final = (0xF, *drm.MASKS)
"""Masks that cut a number out of a word, where others ask for single bits."""

# The names of arguments are the kernel's, from its SYSCALL_DEFINE lines, or plainer ones.
_ARGUMENTS: Final = {
    **dict.fromkeys(("mmap", "mprotect", "pkey_mprotect"), "address length prot"),
    **{
        "open": "path flags mode",
        "creat": "path mode",
        "openat": "dirfd path flags mode",
        "newfstatat": "dirfd path buffer flag",
    },
    **{"chmod": "path mode", "fchmod": "fd mode", "fchmodat": "dirfd path mode"},
    **{
        "clone": "clone_flags",
        "prctl": "option",
        "arch_prctl": "code",
        "prlimit64": "pid resource new_limit old_limit",
    },
    **{"fcntl": "fd cmd value", "ioctl": "fd request", "pipe2": "fds flags"},
    **dict.fromkeys(("socket", "socketpair"), "family type protocol"),
    **dict.fromkeys(("getsockopt", "setsockopt"), "fd level name"),
    **{"sendto": "fd buffer length flags address", "shmat": "id address shmflg", "keyctl": "operation"},
    **dict.fromkeys(("getpriority", "setpriority"), "which who"),
    **dict.fromkeys(("ioprio_get", "ioprio_set"), "ioprio_which who"),
    **dict.fromkeys(("clock_getres", "clock_gettime", "clock_nanosleep", "timer_create"), "clock"),
    "tgkill": "tgid tid",
}


def _table(text: str) -> dict[int, str]:
    """Read ``NAME=number`` pairs."""
    return {int(number, 0): name for name, _, number in (pair.partition("=") for pair in text.split())}


_VALUES: Final = {
    "prot": _table("PROT_EXEC=4"),
    "flags": _table(
        "O_WRONLY=1 O_RDWR=2 O_CREAT=0o100 O_EXCL=0o200 O_TRUNC=0o1000 O_APPEND=0o2000 O_TMPFILE=0o20000000"
    ),
    "mode": _table("S_ISUID=0o4000 S_ISGID=0o2000"),
    "flag": _table("AT_EMPTY_PATH=0x1000"),
    "shmflg": _table("SHM_EXEC=0o100000"),
    "value": _table("O_ASYNC=0o20000"),
    "operation": _table("KEYCTL_SESSION_TO_PARENT=18"),
    "which": _table("PRIO_PROCESS=0"),
    "ioprio_which": _table("IOPRIO_WHO_PROCESS=1"),
    "family": _table("AF_UNIX=1 AF_INET=2 AF_INET6=10 AF_NETLINK=16 AF_VSOCK=40"),
    "type": _table("SOCK_STREAM=1 SOCK_DGRAM=2 SOCK_SEQPACKET=5"),
    "protocol": _table("TCP=6 UDP=17"),
    "level": _table("SOL_SOCKET=1"),
    "name": _table("""
        SO_SNDBUF=7 SO_RCVBUF=8 SO_RCVTIMEO=20 SO_SNDTIMEO=21 SO_ATTACH_FILTER=26 SO_ATTACH_BPF=50
        SO_ATTACH_REUSEPORT_CBPF=51 SO_ATTACH_REUSEPORT_EBPF=52 SO_RCVTIMEO_NEW=66 SO_SNDTIMEO_NEW=67 SO_PASSPIDFD=76
        SO_PEERPIDFD=77
    """),
    "cmd": _table("""
        F_DUPFD=0 F_GETFD=1 F_SETFD=2 F_GETFL=3 F_SETFL=4 F_GETLK=5 F_SETLK=6 F_SETLKW=7 F_OFD_GETLK=36 F_OFD_SETLK=37
        F_OFD_SETLKW=38 F_SETLEASE=1024 F_GETLEASE=1025 F_DUPFD_CLOEXEC=1030 F_ADD_SEALS=1033 F_GET_SEALS=1034
    """),
    "request": {**_table("TCGETS=0x5401 FIONREAD=0x541B FIONBIO=0x5421 FIONCLEX=0x5450 FIOCLEX=0x5451"), **drm.NAMES},
    "option": _table("""
        PR_GET_PDEATHSIG=2 PR_GET_DUMPABLE=3 PR_SET_NAME=15 PR_GET_NAME=16 PR_GET_SECCOMP=21 PR_CAPBSET_READ=23
        PR_GET_SECUREBITS=27 PR_GET_TIMERSLACK=30 PR_SET_NO_NEW_PRIVS=38 PR_GET_NO_NEW_PRIVS=39 PR_GET_TID_ADDRESS=40
        PR_GET_THP_DISABLE=42 PR_GET_SPECULATION_CTRL=52 PR_SET_VMA=0x53564D41
    """),
    "code": _table("""
        ARCH_SET_FS=0x1002 ARCH_GET_FS=0x1003 ARCH_GET_XCOMP_SUPP=0x1021 ARCH_GET_XCOMP_PERM=0x1022
        ARCH_REQ_XCOMP_PERM=0x1023
    """),
    "clone_flags": _table("""
        CLONE_PIDFD=0x1000 CLONE_PTRACE=0x2000 CLONE_PARENT=0x8000 CLONE_THREAD=0x10000 CLONE_NEWNS=0x20000
        CLONE_UNTRACED=0x800000 CLONE_NEWCGROUP=0x2000000 CLONE_NEWUTS=0x4000000 CLONE_NEWIPC=0x8000000
        CLONE_NEWUSER=0x10000000 CLONE_NEWPID=0x20000000 CLONE_NEWNET=0x40000000
    """),
    "clock": _table("PER_PROCESS=0x80000000"),
}


def answer_in_words(answer: Answer) -> str:
    """Return what becomes of a call."""
    return _WORDS.get(answer, answer.value)


def rule_in_words(call: str, rule: Answer | Choice) -> str:
    """Return what becomes of *call*, with the condition if there is one."""
    if isinstance(rule, Answer):
        return answer_in_words(rule)
    return f"{answer_in_words(rule.then)} if {_condition(call, rule.cases)}; else {answer_in_words(rule.otherwise)}"


def _condition(call: str, cases: tuple[tuple[Bits, ...], ...]) -> str:
    """Join *cases* by "or"; those that differ only in the number that they end with become a list of numbers."""
    lists: dict[tuple[object, ...], list[str]] = {}
    words: dict[tuple[object, ...], list[str]] = {}
    for *first, last in cases:
        parts = [_comparison(call, bits) for bits in first]
        if last.mask in (*_WHOLE, *_FIELDS):
            key = (*first, last[:2])
            lists.setdefault(key, []).append(_value(call, last.arg, last.value))
            parts.append(f"{_argument(call, last.arg)} is {_any_of(lists[key])}")
        else:
            key = (*first, last)
            parts.append(_comparison(call, last))
        words[key] = parts
    return ", or ".join(" and ".join(parts) for parts in words.values())


def _any_of(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"one of {' '.join(values)}"


def _comparison(call: str, bits: Bits) -> str:
    name = _argument(call, bits.arg)
    if bits.mask in (*_WHOLE, *_FIELDS):
        return f"{name} is {_value(call, bits.arg, bits.value)}"
    has, lacks = (_flags(name, part) for part in (bits.mask & bits.value, bits.mask & ~bits.value))
    return f"{name} has " + " and ".join(part for part in (has, lacks and f"no {lacks}") if part)


def _argument(call: str, arg: int) -> str:
    names = _ARGUMENTS.get(call, "pid").split()
    return names[arg] if arg < len(names) else f"arg{arg}"


def _value(call: str, arg: int, value: int) -> str:
    number = str(value) if value < 10 else f"{value:#x}"
    return "own pid" if value == PLACEHOLDER else _VALUES.get(_argument(call, arg), {}).get(value, number)


def _flags(name: str, bits: int) -> str:
    """Return the names of *bits*, those without a name as a number."""
    known = {flag: text for flag, text in _VALUES.get(name, {}).items() if flag and flag & bits == flag}
    rest = bits & ~sum(known)
    return "|".join([*known.values(), *([f"{rest:#x}"] if rest else [])])
