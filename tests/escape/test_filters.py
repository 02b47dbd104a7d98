"""Attacks that only a filter with an old mistake lets pass: each is shown to pass such a filter, and then ours not."""

from __future__ import annotations

import errno
import json
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from belljar import Policy
from belljar.sandbox.seccomp.compile import compile_policy

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86_64")

PROGRAM = Path(__file__).parent.parent / "children/under_filter.py"
LOAD, EQUAL, RETURN, ALLOW, REFUSE = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000 | errno.EPERM
HIGH = 1 << 32
AF_INET, F_SETLK, PR_SET_DUMPABLE, TIOCSTI, TIOCLINUX = 2, 6, 4, 0x5412, 0x541C
NO_FD = 1 << 20

# number of the call, which argument, what must be refused in it, the others, and what the kernel itself says
WIDE = {
    "TIOCSTI": (16, 1, TIOCSTI, [NO_FD, 0, 0], errno.EBADF),
    "TIOCLINUX": (16, 1, TIOCLINUX, [NO_FD, 0, 0], errno.EBADF),
    "fcntl": (72, 1, F_SETLK, [NO_FD, 0, 0], errno.EBADF),
    "prctl": (157, 0, PR_SET_DUMPABLE, [0, 1, 0, 0, 0], 0),
    "socket": (41, 0, AF_INET, [0, 1, 0], 0),
}


def program(*instructions: tuple[int, int, int, int]) -> bytes:
    """Return classic BPF: code, jump if equal, jump if not, operand."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def compares_64_bits(number: int, argument: int, value: int) -> bytes:
    """Return a filter that refuses a value of an argument by all its 64 bits, and allows the rest: CVE-2019-10063."""
    low = 16 + 8 * argument
    return program(
        (LOAD, 0, 0, 0),
        (EQUAL, 0, 5, number),
        (LOAD, 0, 0, low),
        (EQUAL, 0, 3, value),
        (LOAD, 0, 0, low + 4),
        (EQUAL, 0, 1, 0),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    )


def looks_at_the_number_only(number: int) -> bytes:
    """Return a filter that refuses a call by its number and does not look at the architecture or the bit of x32."""
    return program((LOAD, 0, 0, 0), (EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW))


def call_under(bpf: bytes, folder: Path, *calls: list[int]) -> list[int] | int:
    """Return the errno of each call under a filter, or the signal that ended the process."""
    path = folder / "filter"
    path.write_bytes(bpf)
    argv = [sys.executable, "-I", str(PROGRAM), str(path), "calls"]
    done = subprocess.run(argv, input=json.dumps(calls).encode(), capture_output=True, check=False)
    if done.returncode < 0:
        return -done.returncode
    found: list[int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", WIDE)
def test_high_bits_pass_a_filter_of_64_bits_and_not_ours(case: str, tmp_path: Path) -> None:
    """One bit above the 32 that the kernel looks at passes a filter that compares 64; ours refuses both spellings."""
    number, argument, value, others, own = WIDE[case]
    plain, high = ([number, *others] for _ in range(2))
    plain[1 + argument], high[1 + argument] = value, value | HIGH
    assert call_under(compares_64_bits(number, argument, value), tmp_path, plain, high) == [errno.EPERM, own]
    ours = call_under(compile_policy(Policy.media(), listener=False), tmp_path, plain, high)
    assert isinstance(ours, list)
    assert ours[0] == ours[1]
    assert ours[0] in (errno.EACCES, errno.EPERM)


def test_the_bit_of_x32_passes_a_filter_of_numbers_and_not_ours(tmp_path: Path) -> None:
    """A call with the bit of x32 comes to the kernel past a filter that compares numbers; ours ends the process."""
    getpid, with_bit = [39], [39 | 1 << 30]
    found = call_under(looks_at_the_number_only(39), tmp_path, getpid, with_bit)
    assert isinstance(found, list)
    assert found[0] == errno.EPERM
    assert found[1] in (0, errno.ENOSYS)  # ENOSYS of the kernel itself, where it was built without x32
    assert call_under(compile_policy(Policy.media(), listener=False), tmp_path, with_bit) == 31  # SIGSYS
