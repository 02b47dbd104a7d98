"""``landlock``: what `seccomp` does, and landlock's rules for files, TCP, sockets and signals.

For machines without user namespaces, and inside containers. There is no namespace: the child sees that other
processes exist, and the metadata of files whose names it knows, since landlock knows no access for stat(2).

Two rulesets. The outer one comes in stage 3, while there is one thread, and so holds for every thread: no signal
leaves. The inner one comes at the seal, after early init opened its files. Before ABI 8 it does not reach threads that
early init started; for those the filter, which reaches all, refuses every call with a name in it. That leaves a hole
where the policy grants some files, for then the filter must let such calls pass: there the host sees the older threads
in stage 8 and gives the child up (`promises`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ...ipc.messages import Landlock
from .. import landlock
from ..base import Birth
from ..layers import Layer
from ..policy import Policy
from ..probe import Machine
from . import seccomp

OLDER_THREADS = "threads that early init started are not reached before ABI 8; the filter refuses them all files"


class HostSide(seccomp.HostSide):
    """Promises landlock beside what the filter does."""

    name = "landlock"
    requires: ClassVar[tuple[str, ...]] = (*seccomp.HostSide.requires, "landlock")

    def unable(self, policy: Policy, machine: Machine) -> str:
        """Paths are what landlock is for; truncate(2), sockets and signals came later."""
        if beyond := seccomp.beyond_the_child(policy):
            return beyond
        if policy.read_write and machine.landlock_abi < 3:
            return "landlock cannot keep truncate(2) within read_write before ABI 3 (Linux 6.2)"
        if "unix" in policy.network and machine.landlock_abi < 9:
            return (
                "landlock cannot tell the child's own unix sockets from those of the machine before ABI 9 (Linux 7.1)"
            )
        if policy.subprocesses and machine.landlock_abi < 6:
            return "landlock cannot keep signals among the child's sub-processes before ABI 6 (Linux 6.12)"
        return ""

    def promises(self, policy: Policy) -> Mapping[Layer, str]:
        """Landlock on every thread where the policy grants files; else the filter covers the older ones."""
        named = policy.read_only or policy.read_write or policy.devices
        return {**super().promises(policy), Layer.LANDLOCK: "" if named else OLDER_THREADS}


class ChildSide(seccomp.ChildSide):
    """What a forked child does to itself."""

    def confine_early(self, birth: Birth) -> None:
        """The outer ruleset after the rest: it needs no_new_privs."""
        super().confine_early(birth)
        self.birth = birth
        landlock.restrict(landlock.outer(), birth.landlock_abi)

    def take_files(self) -> Landlock:
        """The inner ruleset."""
        super().take_files()
        return landlock.restrict(landlock.inner(self.birth.policy, self.birth.real_paths), self.birth.landlock_abi)
