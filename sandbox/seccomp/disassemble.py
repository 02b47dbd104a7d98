"""Read a filter as text: classic BPF as seccomp knows it, with the names of calls, fields and answers.

One line an instruction, jumps by the number of the line they lead to::

       3  ld nr
       4  jeq mmap, 5, 6        to line 5 if equal, else to 6
      35  ret KILL_PROCESS

Classic BPF only jumps forward, so one pass knows for each line which field was loaded on the way there, and so whether
a number is that of a call, an architecture or an argument. See seccomp(2), bpf(4) and linux/bpf_common.h.
"""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Mapping
from typing import Final

from .own_pid import PLACEHOLDER

_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD, _AND, _JUMP, _RETURN = 0x20, 0x54, 0x05, 0x06
_BRANCHES: Final = {0x15: "jeq", 0x25: "jgt", 0x35: "jge", 0x45: "jset"}
_HALVES: Final = ("low", "high") if sys.byteorder == "little" else ("high", "low")
# struct seccomp_data: by offset
_FIELDS: Final = {0: "nr", 4: "arch"} | {
    8 + 8 * word + 4 * half: f"{'ip' if word == 0 else f'arg{word - 1}'}.{_HALVES[half]}"
    for word in range(7)
    for half in range(2)
}
_ARCHITECTURES: Final = {0xC000_003E: "x86_64", 0xC000_00B7: "aarch64", 0xC000_00F3: "riscv64", 0x4000_0003: "i386"}
_ACTIONS: Final = {
    0x8000_0000: "KILL_PROCESS",
    0x7FC0_0000: "USER_NOTIF",
    0x7FFF_0000: "ALLOW",
}
_ERRNO, _ACTION, _DATA = 0x0005_0000, 0xFFFF_0000, 0xFFFF


def disassemble(program: bytes, calls: Mapping[int, str]) -> list[str]:
    """Return *program* as text, a line an instruction; *calls* gives the names of numbers.

    Raises:
        ValueError: The bytes are no array of ``struct sock_filter``.
    """
    if len(program) % _INSTRUCTION.size:
        raise ValueError(f"{len(program)} bytes are no whole number of instructions")
    loaded: dict[int, str] = {}
    lines: list[str] = []
    for at, (code, if_true, if_false, operand) in enumerate(_INSTRUCTION.iter_unpack(program)):
        field = loaded.get(at, "")
        ends: tuple[int, ...] = (at + 1,)
        if code == _LOAD:
            field = _FIELDS.get(operand, f"[{operand}]")
            text = f"ld {field}"
        elif code == _AND:
            text = f"and {operand:#x}"
        elif code == _JUMP:
            ends = (at + 1 + operand,)
            text = f"ja {ends[0]}"
        elif code == _RETURN:
            ends = ()
            text = f"ret {action_name(operand)}"
        elif code in _BRANCHES:
            ends = (at + 1 + if_true, at + 1 + if_false)
            text = f"{_BRANCHES[code]} {_operand(field, operand, calls)}, {ends[0]}, {ends[1]}"
        else:
            text = f"code {code:#x} {if_true} {if_false} {operand:#x}"
        loaded |= dict.fromkeys(ends, field)
        lines.append(f"{at:4}  {text}")
    return lines


def action_name(action: int) -> str:
    """Return an answer of a filter as linux/seccomp.h names it, an errno by its name."""
    if action & _ACTION == _ERRNO:
        return f"ERRNO({errno.errorcode.get(action & _DATA, action & _DATA)})"
    return _ACTIONS.get(action, f"{action:#x}")


def _operand(field: str, operand: int, calls: Mapping[int, str]) -> str:
    if operand == PLACEHOLDER:
        return "OWN_PID"
    names = {"nr": calls, "arch": _ARCHITECTURES}.get(field, {})
    return names.get(operand, f"{operand:#x}")
