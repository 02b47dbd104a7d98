"""Turn rules into BPF with libseccomp. Import it late: pyseccomp runs ldconfig when it is imported, which costs 75 ms.

libseccomp has one default action: a call that no rule names and a call whose arguments match no rule get the same
answer. We need more: an unknown call is ENOSYS, an unknown ioctl EACCES, a refused clone EPERM, a refused socket goes
to the host. So each default gets a libseccomp filter of its own, and they are put one behind the other. Classic BPF
jumps forward by relative distances only, so programs can be joined as they are:

    prologue   if the architecture is ours: each call whose arguments count jumps to the section of its default
    main       constant answers, by number; default ENOSYS
    sections   rules on arguments; one section a default

Every section begins with libseccomp's own check of the architecture and, on x86_64, of the x32 bit, and kills the
process where either is wrong. The prologue only compares numbers and decides nothing, so the kernel can still prove
that most calls are always allowed and answer them from its bitmap, without running the filter (Linux 5.11).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Iterator
from typing import Final

import pyseccomp

from ..errors import SandboxError
from .answers import Answer, Bits, Choice, Rules
from .groups import NEWER

_ARCHITECTURES: Final = (pyseccomp.Arch.X86_64, pyseccomp.Arch.AARCH64, pyseccomp.Arch.RISCV64)
_INSTRUCTION: Final = struct.Struct("=HBBI")  # struct sock_filter: code, jump if true, jump if false, operand
_LOAD, _JUMP, _JUMP_IF_EQUAL = 0x20, 0x05, 0x15  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JA, BPF_JMP|BPF_JEQ|BPF_K
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_UNKNOWN: Final = -1  # __NR_SCMP_ERROR; other negative numbers are calls that this architecture does not have
_OFTEN: Final = ("sendto", "fcntl", "mmap", "mprotect", "newfstatat", "ioctl")
"""Calls with rules that programs make often, in this order: compared first."""

_MOST_URGENT: Final = 255  # of seccomp_syscall_priority(3)
_BINARY_TREE: Final = 2  # for SCMP_FLTATR_CTL_OPTIMIZE: find a number by halving instead of by walking


def assemble(rules: Rules, *, listener: bool) -> bytes:
    """Return the program for *rules*; with *listener*, REPORT asks it, else REPORT is EACCES.

    Raises:
        OSError: libseccomp refused a rule.
        SandboxError: A call that libseccomp does not know, or an architecture that belljar has no rules for.
    """
    if pyseccomp.system_arch() not in _ARCHITECTURES:
        raise SandboxError(f"there is no filter for {os.uname().machine} (only for x86_64, aarch64 and riscv64)")
    often = [name for name in _OFTEN if name in rules]
    numbers = {name: number for name in (*often, *rules) if (number := number_of(name)) is not None}
    constants = {numbers[name]: rule for name, rule in rules.items() if name in numbers and isinstance(rule, Answer)}
    choices = {number: rule for name, number in numbers.items() if isinstance(rule := rules[name], Choice)}
    defaults = sorted({choice.otherwise for choice in choices.values()}, key=lambda answer: answer.value)
    sections = [_section(choices, default, listener) for default in defaults]
    jumps = [(number, defaults.index(choice.otherwise)) for number, choice in choices.items()]
    return _join(jumps, [_main(constants, listener), *sections])


def number_of(name: str) -> int | None:
    """Return the number of a call here, None if this architecture does not have it; `SandboxError` if unknown."""
    number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
    if number == _UNKNOWN and name not in NEWER:
        raise SandboxError(f"libseccomp does not know the call {name!r} (it must be 2.5.4 or newer)")
    return number if number >= 0 else None


def _main(constants: dict[int, Answer], listener: bool) -> bytes:
    section = _new_filter(Answer.ENOSYS, listener)
    section.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, _BINARY_TREE)
    for number, answer in constants.items():
        if answer is not Answer.ENOSYS:  # libseccomp refuses a rule that says what the default says
            section.add_rule_exactly(_action(answer, listener), number)
    return _export(section)


def _section(choices: dict[int, Choice], default: Answer, listener: bool) -> bytes:
    section = _new_filter(default, listener)
    for place, (number, choice) in enumerate(choices.items()):
        if choice.otherwise is default:
            section.syscall_priority(number, max(_MOST_URGENT - place, 0))
            for case in choice.cases:
                section.add_rule_exactly(_action(choice.then, listener), number, *_compare(case))
    return _export(section)


def _new_filter(default: Answer, listener: bool) -> pyseccomp.SyscallFilter:
    made = pyseccomp.SyscallFilter(_action(default, listener))
    made.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
    return made


def _compare(case: Iterable[Bits]) -> Iterator[pyseccomp.Arg]:
    for bits in case:
        yield pyseccomp.Arg(bits.arg, pyseccomp.MASKED_EQ, bits.mask, bits.value)


def _action(answer: Answer, listener: bool) -> int:
    if answer is Answer.REPORT and listener:
        return pyseccomp.NOTIFY
    if answer is Answer.ALLOW:
        return pyseccomp.ALLOW
    number = {Answer.ENOSYS: errno.ENOSYS, Answer.EPERM: errno.EPERM}.get(answer, errno.EACCES)
    return pyseccomp.ERRNO(number)


def _export(section: pyseccomp.SyscallFilter) -> bytes:
    with open(os.memfd_create("belljar-filter", os.MFD_CLOEXEC), "w+b") as file:
        section.export_bpf(file)
        file.seek(0)
        return file.read()


def _join(jumps: list[tuple[int, int]], programs: list[bytes]) -> bytes:
    """Put the prologue before *programs*; a jump is (number of the call, index of its section behind main)."""
    starts = [sum(map(len, programs[: index + 1])) // _INSTRUCTION.size for index in range(len(programs) - 1)]
    prologue = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, pyseccomp.system_arch()),
        (_JUMP, 0, 0, 1 + 2 * len(jumps)),  # to main, which kills
        (_LOAD, 0, 0, _NUMBER),
    ]
    for index, (number, section) in enumerate(jumps):
        left = 2 * (len(jumps) - index - 1)
        prologue.append((_JUMP_IF_EQUAL, 0, 1, number))
        prologue.append((_JUMP, 0, 0, left + starts[section]))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in prologue) + b"".join(programs)
