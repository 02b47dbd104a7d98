"""The values that rules are made of, and what a filter can know of a policy."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, TypeAlias

from ..policy import CovertChannel, Family, Policy


class Answer(Enum):
    """What the kernel does with a call. REPORT is EACCES, after the host has been told if it listens."""

    ALLOW = "allow"
    ENOSYS = "ENOSYS"
    EACCES = "EACCES"
    EPERM = "EPERM"
    REPORT = "report"


class Bits(NamedTuple):
    """One comparison: the *mask* bits of argument *arg*, counted from 0, equal *value*."""

    arg: int
    mask: int
    value: int


class Choice(NamedTuple):
    """*then* if all comparisons of at least one of *cases* hold, else *otherwise*."""

    cases: tuple[tuple[Bits, ...], ...]
    otherwise: Answer
    then: Answer = Answer.ALLOW


class Rights(NamedTuple):
    """What a filter can know of a policy. Not the paths: those are for the mount namespace and landlock."""

    reads: bool
    writes: bool
    devices: bool
    gpu: bool
    families: tuple[Family, ...]
    subprocesses: bool
    threads: bool
    executable_memory: bool
    local_channels: bool
    covert_channels: tuple[CovertChannel, ...] = ()
    syscalls: tuple[str, ...] = ()
    own_pid_only: bool = False
    own_pid_but_signals: bool = False
    keeps_attributes: bool = False

    @classmethod
    def of(cls, policy: Policy, *, own_pid_only: bool = False) -> Rights:
        """Reduce *policy*, so that policies that differ in paths and limits only share one filter.

        With *own_pid_only*, for a child without namespaces, the filter lets it name no process but itself. A child
        that may start processes must signal them, and no filter knows their pids: then it stays false, and only
        what is no signal keeps to the own pid. Nor can it change modes and times of files then: no other layer
        limits these to the paths of the policy.
        """
        return cls(
            reads=bool(policy.read_only or policy.read_write or policy.devices),
            writes=bool(policy.read_write),
            devices=bool(policy.devices),
            gpu=policy.grants("gpu"),
            families=tuple(sorted(set(policy.network))),
            subprocesses=policy.subprocesses,
            threads=policy.threads,
            executable_memory=policy.executable_memory,
            local_channels=policy.local_channels,
            covert_channels=tuple(sorted(set(policy.covert_channels))),
            syscalls=tuple(sorted(set(policy.syscalls))),
            own_pid_only=own_pid_only and not policy.subprocesses,
            own_pid_but_signals=own_pid_only and policy.subprocesses,
            keeps_attributes=own_pid_only,
        )


Rules: TypeAlias = Mapping[str, Answer | Choice]
