"""A filter read as text says the same as the filter, and rules in words what the rules say."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.sandbox.policy import Policy
from belljar.sandbox.seccomp.answers import Answer, Choice, Rights
from belljar.sandbox.seccomp.compile import compile_policy, number_names
from belljar.sandbox.seccomp.disassemble import action_name, disassemble
from belljar.sandbox.seccomp.explain import rule_in_words
from belljar.sandbox.seccomp.grantable import GRANTABLE
from belljar.sandbox.seccomp.own_pid import PLACEHOLDER, bind_pid
from belljar.sandbox.seccomp.rules import rules_for

from . import bpf

EVERYTHING = Rights(
    **dict.fromkeys(("reads", "writes", "devices", "gpu"), True),
    families=("inet", "inet6", "netlink", "unix"),
    **dict.fromkeys(("subprocesses", "threads", "executable_memory", "local_channels"), True),
    covert_channels=("keys", "locks", "posix-queues", "sysv-ipc", "vsock"),
    syscalls=tuple(sorted(GRANTABLE)),
    own_pid_only=True,
)


def follow(lines: list[str], nr: str, arch: str) -> str:
    """Run a listing by its text alone, for a call whose arguments are all 0; return the answer."""
    at, loaded, zero = 0, "", "0x0"
    while True:
        what, *operands = lines[at].split(maxsplit=1)[1].replace(",", "").split()
        if what == "ret":
            return operands[0]
        if what == "ld":
            loaded = {"nr": nr, "arch": arch}.get(operands[0], zero)
        elif what == "ja":
            at = int(operands[0]) - 1
        elif what in ("jgt", "jge", "jset"):
            names = {name: number for number, name in number_names().items()}
            value, other = (names.get(each) if each in names else int(each, 0) for each in (loaded, operands[0]))
            holds = {"jgt": value > other, "jge": value >= other, "jset": bool(value & other)}[what]  # type: ignore[operator]  # pyright: ignore
            at = int(operands[1 if holds else 2]) - 1
        elif what == "jeq":
            at = int(operands[1 if operands[0] == loaded else 2]) - 1
        at += 1


@pytest.mark.parametrize("policy", [Policy(), Policy.media(), Policy.compute()], ids=["least", "media", "compute"])
def test_listing_answers_as_the_filter_does(policy: Policy) -> None:
    """Who follows the lines by hand arrives where the kernel does, for every call."""
    program = compile_policy(policy, listener=True)
    names = number_names()
    lines = disassemble(program, names)
    arch = lines[1].split()[2].rstrip(",")
    machine = struct.unpack_from("=HBBI", program, 8)[3]
    for number, name in names.items():
        assert follow(lines, name, arch) == action_name(bpf.run(program, number, architecture=machine).action)
    assert follow(lines, names[0], "0x1") == "KILL_PROCESS"


def test_listing_names_what_it_compares() -> None:
    """Calls, architectures, arguments and answers have names; what the child's pid will replace is called so."""
    template = compile_policy(Policy(), listener=True, own_pid_only=True)
    lines = disassemble(template, number_names())
    assert [line.split()[0] for line in lines] == [str(at) for at in range(len(lines))]
    text = "\n".join(lines)
    for word in (
        "ld nr",
        "ld arch",
        "ld arg0.low",
        "jeq kill, ",
        "jeq OWN_PID, ",
        "ret USER_NOTIF",
        "ret ERRNO(EPERM)",
    ):
        assert word in text
    assert f"{PLACEHOLDER:#x}" not in text
    assert "OWN_PID" not in "\n".join(disassemble(bind_pid(template, 7), number_names()))


@given(st.binary(max_size=64).map(lambda data: data[: len(data) // 8 * 8]))
def test_any_program_can_be_read(program: bytes) -> None:
    """What is no filter of ours is listed all the same, a line an instruction."""
    assert len(disassemble(program, {})) == len(program) // 8


def test_half_an_instruction_is_refused() -> None:
    """Bytes that are no whole number of instructions are an error."""
    with pytest.raises(ValueError, match="no whole number"):
        disassemble(bytes(9), {})


def test_rules_have_words() -> None:
    """Each condition names the argument and the value that it compares, with no number where there is a name."""
    rules = {**rules_for(EVERYTHING), **rules_for(Rights.of(Policy.compute()))}
    for name, rule in rules.items():
        text = rule_in_words(name, rule)
        assert "arg" not in text, text
        assert isinstance(rule, Answer) or "; else " in text
    assert rule_in_words("mmap", rules["mmap"]) == "allowed if prot has no PROT_EXEC; else EACCES"
    assert rule_in_words("open", rules["open"]) == "EACCES, and the host is told"
    own = rules_for(Rights.of(Policy(), own_pid_only=True))
    assert rule_in_words("kill", own["kill"]) == "allowed if pid is one of 0 own pid; else EPERM"
    assert isinstance(own["kill"], Choice)
