"""``seccomp``: a filter on all threads, no_new_privs, no capability, limits; and nothing else.

It works wherever a process may filter itself, in every container, and it is the weakest of the backends that confine.
A filter sees the words of a call and never what they point to, so it cannot tell one path from another: a policy that
names files or devices is refused here instead of being widened to all files. Without a pid namespace the filter also
limits whom a child can signal or ask about to the child itself (`seccomp.rules`).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import ClassVar

from ...ipc.messages import Landlock
from .. import confine
from ..base import FOR_A_SEAL, Birth, first_path
from ..launch.forked import ForkedHost
from ..layers import Layer
from ..policy import Policy
from ..probe import Machine
from ..seccomp.groups import WATCHING
from ..steps import step

BOUNDING_SET = (
    "the bounding set stays as it was, which only a process with CAP_SETPCAP can change; no_new_privs makes it idle"
)


def beyond_the_child(policy: Policy) -> str:
    """Return what *policy* grants that takes an IPC, user or mount namespace to stay with the child; empty if nothing.

    The keys of a user, and IPC objects, belong to all processes of that user; a watch tells of any folder it can read.
    """
    if shared := sorted({"keys", "sysv-ipc", "posix-queues"} & set(policy.covert_channels)):
        return f"without namespaces, {shared[0]} would reach those of all processes of the child's user"
    if watching := sorted(set(WATCHING) & set(policy.syscalls)):
        return f"nothing but a mount namespace limits which files {watching[0]} watches"
    return ""


class HostSide(ForkedHost):
    """Promises what a process can do to itself without any privilege."""

    name = "seccomp"
    requires: ClassVar[tuple[str, ...]] = FOR_A_SEAL

    def unable(self, policy: Policy, machine: Machine) -> str:
        """A filter cannot tell one path, socket or process from another."""
        if named := first_path(policy):
            return f"a filter cannot tell the path of {named} from any other"
        if "unix" in policy.network:
            return "a filter cannot tell own sockets from those of the machine, which network = ['unix'] would open"
        if policy.subprocesses:
            return "a filter cannot tell the processes of subprocesses = true from others"
        return beyond_the_child(policy)

    def promises(self, policy: Policy) -> Mapping[Layer, str]:
        """What needs no help from outside."""
        return {
            Layer.CAPABILITIES: BOUNDING_SET,
            Layer.NO_NEW_PRIVS: "",
            Layer.SECCOMP: "",
            Layer.RLIMITS: "",
        }


class ChildSide:
    """What a forked child does to itself."""

    def __init__(self, link: socket.socket | None) -> None:
        """Owns *link*."""
        assert link is not None
        self.link = link

    def confine_early(self, birth: Birth) -> None:
        """Drop what can be dropped, take the limits."""
        confine.drop_own_capabilities()
        confine.forbid_new_privileges()
        confine.set_limits(birth.policy.limits)
        confine.leave_keyrings(birth.policy)

    def take_files(self) -> Landlock | None:
        """The filter refuses files. The zygote kills orphans of early init, and then has time for the next child.

        The link is shut down, because closing it says nothing while a process that early init left has a copy.
        """
        with self.link, step("have the zygote kill what early init left to itself"):
            self.link.shutdown(socket.SHUT_WR)
            self.link.recv(1)  # end of file
        return None
