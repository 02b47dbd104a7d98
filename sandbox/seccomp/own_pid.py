"""A child without a pid namespace sees the numbers of all processes: its filter then lets it name its own only.

When a filter is compiled its child does not exist, and filters are kept to be used again. So the rules compare with a
placeholder, and `bind_pid` puts the pid in its place, in the compiled program, for each child. No pid is that large
(PID_MAX_LIMIT is 2**22), and no other comparison of a filter is with that number.

A number for a thread of its own, other than the first, is refused as a stranger's is, since a filter cannot know which
it is. That costs little: glibc's pthread_kill() is tgkill(2), which names the process too, and pthread_getattr_np()
takes ENOSYS from sched_getaffinity(2) for "unknown", but EPERM for a failure.

What stays: futex(2) with priority inheritance takes a tid from memory, which no filter sees, and tells whether there is
such a thread. It answers by waiting or by ESRCH, never by doing anything to a process of another.
"""

from __future__ import annotations

import struct
from collections.abc import Container
from typing import Final

from .answers import Answer, Bits, Choice, Rules

PLACEHOLDER: Final = 0x7EAD_BE11
"""Stands for the pid of the child; positive as a C int, so that nothing extends its sign."""

_INT: Final = 0xFFFF_FFFF
_POINTER: Final = 0xFFFF_FFFF_FFFF_FFFF
_MAX_PID: Final = 1 << 22
_INSTRUCTION: Final = struct.Struct("=HBBI")  # struct sock_filter: code, jump if true, jump if false, operand
_OPERAND: Final = struct.Struct("=I")
_OPERAND_AT: Final = 4
_JUMP_IF_EQUAL: Final = 0x15

# clockid_t: negative numbers are the clocks of processes and threads, by pid, and of files, by fd. clock_getres(2).
_OF_A_PROCESS: Final = 0x8000_0000

_QUESTIONS: Final = (
    *("getpgid", "getsid", "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval"),
    *("sched_setattr", "sched_setparam", "sched_setscheduler"),
)
_BY_KIND: Final = {"getpriority": 0, "setpriority": 0, "ioprio_get": 1, "ioprio_set": 1}
"""Calls that say what their number is -> the kind that is a process: PRIO_PROCESS, IOPRIO_WHO_PROCESS."""


_OF_FAMILY: Final = ("kill", "tgkill", "tkill", "getpgid", "getsid")
"""What a child that starts processes does to them. Whom it signals is then for landlock's scope."""


def own_pid_rules(allowed: Container[str], *, but_signals: bool = False) -> Rules:
    """Return the rules of those *allowed* calls that name a process: only this one, or 0, which means it too.

    With *but_signals*, calls that a child makes on processes which it has started have no rule.
    """
    itself = _own_or_zero(0)
    clocks = Choice(((Bits(0, _OF_A_PROCESS, 0),),), Answer.EPERM)
    reads_limits = tuple((*case, Bits(2, _POINTER, 0)) for case in itself)
    rules: dict[str, Answer | Choice] = {
        "kill": Choice(itself, Answer.EPERM),
        "tgkill": Choice(((Bits(0, _INT, PLACEHOLDER),),), Answer.EPERM),
        "tkill": Answer.EPERM,  # it names a thread alone
        "capget": Answer.EPERM,  # the pid lies behind a pointer, and nothing needs this call after the seal
        "prlimit64": Choice(reads_limits, Answer.EPERM),
        **dict.fromkeys(("sched_getaffinity", "sched_setaffinity"), Choice(itself, Answer.ENOSYS)),
        **dict.fromkeys(("clock_getres", "clock_gettime", "clock_nanosleep", "timer_create"), clocks),
        **dict.fromkeys(_QUESTIONS, Choice(itself, Answer.EPERM)),
        **{name: Choice(_of_kind(kind), Answer.EPERM) for name, kind in _BY_KIND.items()},
    }
    free = _OF_FAMILY if but_signals else ()
    return {name: rule for name, rule in rules.items() if name in allowed and name not in free}


def _own_or_zero(arg: int) -> tuple[tuple[Bits, ...], ...]:
    return (Bits(arg, _INT, 0),), (Bits(arg, _INT, PLACEHOLDER),)


def _of_kind(kind: int) -> tuple[tuple[Bits, ...], ...]:
    return tuple((Bits(0, _INT, kind), *case) for case in _own_or_zero(1))


def bind_pid(program: bytes, own_pid: int) -> bytes:
    """Return *program* for the process that knows itself as *own_pid*; unchanged if it was compiled for any process.

    Raises:
        ValueError: *own_pid* is no pid.
    """
    if not 0 < own_pid <= _MAX_PID:
        raise ValueError(f"{own_pid} is no pid")
    bound, wanted = bytearray(program), _OPERAND.pack(PLACEHOLDER)
    at = program.find(wanted)
    while at >= 0:
        code, _, _, _ = _INSTRUCTION.unpack_from(program, at - at % _INSTRUCTION.size)
        if at % _INSTRUCTION.size == _OPERAND_AT and code == _JUMP_IF_EQUAL:
            _OPERAND.pack_into(bound, at, own_pid)
        at = program.find(wanted, at + 1)
    return bytes(bound)
