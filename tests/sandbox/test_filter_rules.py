"""The compiled program against the rules it was made of, call by call and bit by bit, without a kernel."""

from __future__ import annotations

import ctypes
import errno
import functools
from collections import Counter
from collections.abc import Sequence

import pyseccomp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.sandbox.danger import COVERT_CHANNELS, DEVICES, EXECUTABLE_MEMORY, NETWORK, SYSCALLS
from belljar.sandbox.errors import SandboxError
from belljar.sandbox.policy import CovertChannel, Family, Policy
from belljar.sandbox.seccomp import drm, groups
from belljar.sandbox.seccomp.answers import Answer, Choice, Rights, Rules
from belljar.sandbox.seccomp.compile import build, compile_policy
from belljar.sandbox.seccomp.grantable import GRANTABLE
from belljar.sandbox.seccomp.rules import rules_for

from . import bpf

HERE = pyseccomp.system_arch()
MOST = (1 << 64) - 1
FAMILIES: tuple[Family, ...] = ("inet", "inet6", "netlink", "unix")
CHANNELS: tuple[CovertChannel, ...] = ("keys", "locks", "posix-queues", "sysv-ipc", "vsock")
POLICIES = {
    "least": Policy(),
    "media": Policy.media(),
    "compute": Policy.compute(),
    "reading": Policy(read_only=("/usr",), executable_memory=True, danger=(EXECUTABLE_MEMORY,)),
    "writing": Policy(read_write=("/srv",), subprocesses=True),
    "gpu": Policy.graphics(jit=False),
    "most": Policy(
        read_write=("/srv",),
        devices=("/dev/dri/renderD128",),
        network=FAMILIES,
        subprocesses=True,
        threads=True,
        local_channels=True,
        covert_channels=CHANNELS,
        syscalls=tuple(sorted(GRANTABLE)),
        danger=(DEVICES, NETWORK, COVERT_CHANNELS, SYSCALLS),
    ),
}

words = st.integers(0, MOST)
rights = st.builds(
    Rights,
    families=st.lists(st.sampled_from(FAMILIES), unique=True).map(lambda names: tuple(sorted(names))),
    covert_channels=st.lists(st.sampled_from(CHANNELS), unique=True).map(lambda names: tuple(sorted(names))),
    syscalls=st.sampled_from([(), tuple(sorted(GRANTABLE))]),
    **dict.fromkeys(
        (
            *("reads", "writes", "devices", "gpu"),
            *("subprocesses", "threads", "executable_memory", "local_channels", "own_pid_only"),
            *("own_pid_but_signals", "keeps_attributes"),
        ),
        st.booleans(),
    ),
)


@functools.cache
def program(of: Rights, listener: bool) -> bytes:
    return build(rules_for(of), listener=listener)


@functools.cache
def number(name: str) -> int:
    return pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)


def meant(rules: Rules, name: str, arguments: Sequence[int]) -> Answer:
    """Read *rules* as a person does."""
    rule = rules.get(name, Answer.ENOSYS)
    if isinstance(rule, Answer):
        return rule
    fits = any(all(arguments[bits.arg] & bits.mask == bits.value for bits in case) for case in rule.cases)
    return rule.then if fits else rule.otherwise


def action(answer: Answer, listener: bool) -> int:
    if answer is Answer.REPORT:
        return pyseccomp.NOTIFY if listener else pyseccomp.ERRNO(errno.EACCES)
    if answer is Answer.ALLOW:
        return pyseccomp.ALLOW
    return pyseccomp.ERRNO(getattr(errno, answer.value))


@st.composite
def near_misses(draw: st.DrawFn, rules: Rules) -> tuple[str, list[int]]:
    """Draw a call whose arguments count, and arguments that just meet or just miss one of its cases."""
    name = draw(st.sampled_from(sorted(name for name, rule in rules.items() if isinstance(rule, Choice))))
    arguments = draw(st.lists(st.one_of(st.just(0), words), min_size=6, max_size=6))
    rule = rules[name]
    assert isinstance(rule, Choice)
    for bits in draw(st.sampled_from(rule.cases)):
        outside = draw(st.one_of(st.just(0), words)) & ~bits.mask
        flipped = draw(st.sampled_from([0, 0, 0, 1 << draw(st.integers(0, 63))]))
        arguments[bits.arg] = bits.value | outside ^ flipped
    return name, arguments


@settings(deadline=None)
@given(st.data(), rights, st.booleans())
def test_program_answers_as_the_rules_say(data: st.DataObject, of: Rights, listener: bool) -> None:
    """For all rights, the program's answer is that of the rules, at and beside each case, with any bits elsewhere."""
    rules = rules_for(of)
    for _ in range(10):
        name, arguments = data.draw(near_misses(rules))
        if number(name) >= 0:
            verdict = bpf.run(program(of, listener), number(name), arguments, architecture=HERE)
            assert verdict.action == action(meant(rules, name, arguments), listener), (name, arguments)


@pytest.mark.parametrize("listener", [False, True])
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_constant_rules_stay_constant(policy: Policy, listener: bool) -> None:
    """A call with one answer gets it without a look at its arguments, so that the kernel can answer from its bitmap."""
    rules = rules_for(Rights.of(policy))
    names = {number(name): name for name in rules}
    for each in range(700):
        name = names.get(each, "")
        verdict = bpf.run(program(Rights.of(policy), listener), each, architecture=HERE)
        if isinstance(rules.get(name, Answer.ENOSYS), Answer):
            assert verdict == (action(meant(rules, name, ()), listener), False), (each, name)
        else:
            assert verdict.looked_at_arguments, name


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@settings(deadline=None)
@given(call=st.integers(0, (1 << 32) - 1), arguments=st.lists(words, max_size=6))
def test_other_architecture_kills(policy: Policy, call: int, arguments: list[int]) -> None:
    """A call of another architecture ends the process, whatever it is; so does one with the x32 bit on x86_64."""
    of = program(Rights.of(policy), listener=True)
    for other in {pyseccomp.Arch.X86, pyseccomp.Arch.ARM, pyseccomp.Arch.AARCH64, pyseccomp.Arch.X86_64} - {HERE}:
        assert bpf.run(of, call, arguments, architecture=other).action == pyseccomp.KILL_PROCESS
    if pyseccomp.Arch.X86_64 == HERE:
        x32 = 0x4000_0000 | call & 0x3FFF_FFFF
        assert bpf.run(of, x32, arguments, architecture=HERE).action == pyseccomp.KILL_PROCESS


@settings(deadline=None)
@given(rights, words.filter(lambda word: not 0 <= word & 0xFFFF_FFFF < 600), st.booleans())
def test_unknown_call_is_never_allowed(of: Rights, call: int, listener: bool) -> None:
    """A number that no table has is ENOSYS or death, never allowed."""
    verdict = bpf.run(program(of, listener), call, architecture=HERE)
    assert verdict.action in (pyseccomp.ERRNO(errno.ENOSYS), pyseccomp.KILL_PROCESS)


@given(rights)
def test_no_right_reaches_what_is_never_granted(of: Rights) -> None:
    """No combination of rights allows a forbidden, absent or never granted call."""
    rules = rules_for(of)
    for name in groups.FORBIDDEN + groups.ABSENT + groups.FILE_NEVER:
        assert rules[name] in (Answer.EPERM, Answer.ENOSYS, Answer.EACCES)


def test_groups_do_not_overlap() -> None:
    """Each call stands in one group, so its answer does not hang on an order."""
    every = Counter(name for names in groups.INTENTIONS.values() for name in names)
    assert [name for name, count in every.items() if count > 1] == []
    rules = rules_for(Rights.of(Policy.compute()))
    assert set(every) == set(rules)
    assert {name for name, rule in rules.items() if isinstance(rule, Choice)} <= set(groups.ARGUED)


def test_every_call_that_libseccomp_knows_has_a_group() -> None:
    """No call is unknown, so that to grant one by name is to have thought about it."""
    ask = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_num_arch
    ask.restype = ctypes.c_char_p
    for architecture in (pyseccomp.Arch.X86_64, pyseccomp.Arch.AARCH64, pyseccomp.Arch.RISCV64):
        named = {ask(ctypes.c_uint32(architecture), each) for each in range(462)} - {None}
        assert {name.decode() for name in named} <= {name for names in groups.INTENTIONS.values() for name in names}
    assert GRANTABLE.isdisjoint(groups.NEWER)


def test_misspelt_call_is_an_error() -> None:
    """A name that libseccomp does not know is refused by name, unless it is listed as newer."""
    with pytest.raises(SandboxError, match="libseccomp does not know the call 'opne'"):
        build({"opne": Answer.EPERM}, listener=False)
    assert build(dict.fromkeys(groups.NEWER, Answer.EPERM), listener=False)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_program_is_small(policy: Policy) -> None:
    """A filter stays well below the kernel's 4096 instructions."""
    assert len(compile_policy(policy, listener=True)) < 1000 * 8


def test_policies_that_differ_in_paths_share_a_filter() -> None:
    """What seccomp cannot see, paths and limits, makes no new filter."""
    one, two = Policy(read_only=("/srv/a",)), Policy(read_only=("/srv/b",), limits=Policy.media().limits)
    assert compile_policy(one, listener=False) is compile_policy(two, listener=False)


DRM_NEVER = {
    **{
        "GET_UNIQUE": 0x01,
        "GET_MAGIC": 0x02,
        "IRQ_BUSID": 0x03,
        "GET_MAP": 0x04,
        "GET_CLIENT": 0x05,
        "SET_VERSION": 0x07,
    },
    **{"GEM_FLINK": 0x0A, "GEM_OPEN": 0x0B, "SET_CLIENT_CAP": 0x0D, "SET_UNIQUE": 0x10, "AUTH_MAGIC": 0x11},
    **{"SET_MASTER": 0x1E, "DROP_MASTER": 0x1F, "AGP_ACQUIRE": 0x30, "SG_ALLOC": 0x38, "WAIT_VBLANK": 0x3A},
    **{"CRTC_GET_SEQUENCE": 0x3B, "UPDATE_DRAW": 0x3F, "MODE_GETRESOURCES": 0xA0, "MODE_SETCRTC": 0xA2},
    **{"MODE_CREATE_DUMB": 0xB2, "MODE_ATOMIC": 0xBC, "MODE_CREATEPROPBLOB": 0xBD, "MODE_CREATE_LEASE": 0xC6},
    **{"MODE_REVOKE_LEASE": 0xC9, "MODE_GETFB2": 0xCE, "MODE_CLOSEFB": 0xD0},
}
"""Numbers of drm.h that no rendering child needs: modes, master, authentication, names for all, and what was before."""


def test_only_rendering_ioctls_reach_a_gpu() -> None:
    """Of type 'd' pass the generic calls of a render node and the driver's own range, with any size and direction."""
    of = program(Rights.of(Policy.graphics(jit=False)), False)
    allowed = {drm_number for drm_number in range(256) if _ioctl(of, 0x6400 | drm_number)}
    assert allowed == {*drm.GENERIC.values(), *range(0x40, 0xA0)}
    assert allowed.isdisjoint(DRM_NEVER.values())


@settings(deadline=None)
@given(above=st.integers(0, (1 << 48) - 1), drm_number=st.integers(0, 255))
def test_nothing_above_type_and_number_changes_an_answer(above: int, drm_number: int) -> None:
    """Size, direction and garbage in the upper half of the word are no way past the list, and none into it."""
    for policy in (Policy.graphics(jit=False), Policy.graphics()):
        of = program(Rights.of(policy), False)
        assert _ioctl(of, above << 16 | 0x6400 | drm_number) == _ioctl(of, 0x6400 | drm_number)


@settings(deadline=None)
@given(st.integers(0, (1 << 32) - 1).filter(lambda command: command >> 8 & 0xFF != 0x64))
def test_a_gpu_brings_no_other_ioctl(command: int) -> None:
    """An ioctl of another type is answered as it is without a GPU."""
    with_gpu, without = (program(Rights.of(Policy.graphics(jit=jit)), False) for jit in (False, True))
    assert _ioctl(with_gpu, command) == _ioctl(without, command)


@pytest.mark.parametrize("policy", [Policy.compute(), Policy.media(), Policy.graphics()])
def test_no_ioctl_of_a_gpu_without_one(policy: Policy) -> None:
    """A policy without ``gpu`` and without a node below /dev/dri allows no ioctl of type 'd'."""
    assert not any(_ioctl(program(Rights.of(policy), False), 0x6400 | drm_number) for drm_number in range(256))


def _ioctl(of: bytes, command: int) -> bool:
    return bpf.run(of, number("ioctl"), [3, command, 0], architecture=HERE).action == pyseccomp.ALLOW
