"""``seccomp``: a filter on all threads, no_new_privs, no capability, limits; and nothing else.

It works wherever a process may filter itself, in every container, and it is the weakest of the backends that confine.
A filter sees the words of a call and never what they point to, so it cannot tell one path from another: a policy that
names files or devices is refused here instead of being widened to all files. Without a pid namespace the filter also
limits whom a child can signal or ask about to the child itself (`seccomp.rules`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ...ipc.messages import Landlock
from .. import confine
from ..base import Birth, first_path
from ..launch.executed import CONTROL_FD, ExecutedHost
from ..layers import Layer
from ..policy import Policy

BOUNDING_SET = (
    "the bounding set stays as it was, which only a process with CAP_SETPCAP can change; no_new_privs makes it idle"
)


class HostSide(ExecutedHost):
    """Promises what a process can do to itself without any privilege."""

    name = "seccomp"
    requires: ClassVar[tuple[str, ...]] = (
        "no-new-privs",
        "seccomp",
        "seccomp-tsync",
        "pidfd",
        "memfd-seal",
        "proc",
        "rlimits",
    )

    def unable(self, policy: Policy) -> str:
        """A filter cannot tell one path from another."""
        named = first_path(policy)
        return f"a filter cannot tell the path of {named} from any other" if named else ""

    def promises(self, policy: Policy) -> Mapping[Layer, str]:
        """What needs no help from outside."""
        return {
            Layer.CAPABILITIES: BOUNDING_SET,
            Layer.NO_NEW_PRIVS: "",
            Layer.SECCOMP: "",
            Layer.RLIMITS: "",
        }


class ChildSide:
    """What an executed child does to itself."""

    def __init__(self, link_fd: int | None) -> None:
        """There is no link."""

    def confine_early(self, birth: Birth) -> None:
        """Close foreign fds, drop what can be dropped, take the limits."""
        confine.close_fds_except({CONTROL_FD})
        confine.drop_own_capabilities()
        confine.forbid_new_privileges()
        confine.set_limits(birth.policy.limits)

    def take_files(self) -> Landlock | None:
        """The filter refuses files; there is nothing else to do."""
        return None
