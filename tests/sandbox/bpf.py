"""Run a filter as the kernel does, without installing it: the part of classic BPF that seccomp knows. See bpf(4)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

_ARGUMENTS_AT = 16  # struct seccomp_data: number, architecture, instruction pointer, six arguments
_TESTS = {0x15: int.__eq__, 0x25: int.__gt__, 0x35: int.__ge__, 0x45: int.__and__}  # BPF_JEQ, JGT, JGE, JSET


class Verdict(NamedTuple):
    """The action that the filter returned, and whether it looked beyond the number and the architecture."""

    action: int
    looked_at_arguments: bool


def run(program: bytes, number: int, arguments: Sequence[int] = (), *, architecture: int) -> Verdict:
    """Return what *program* says of one call."""
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number & 0xFFFF_FFFF, architecture, 0, *words)
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator, at, looked = 0, 0, False
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        if operation == 0x20:  # load a word
            accumulator = struct.unpack_from("=I", data, operand)[0]
            looked = looked or operand >= _ARGUMENTS_AT
        elif operation == 0x54:  # and
            accumulator &= operand
        elif operation == 0x05:  # jump
            at += operand
        elif operation == 0x06:  # return
            return Verdict(operand, looked)
        else:
            at += if_true if _TESTS[operation](accumulator, operand) else if_false
