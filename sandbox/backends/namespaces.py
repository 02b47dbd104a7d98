"""``namespaces``: unprivileged user namespaces, an empty root, no capability, and seccomp.

The strongest backend, and it needs nothing installed. `launch.namespace_zygote` describes its processes.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping

from .. import confine
from .. import syscalls as sc
from ..base import FOR_A_SEAL, Birth, empty_root_limit, shares_network
from ..launch.forked import ForkedHost, leave_the_zygote
from ..launch.namespace_zygote import SEAL_DONE, SEAL_REQUEST
from ..layers import Layer
from ..policy import Policy
from ..steps import StepFailed, step

_OWN = sc.CLONE_NEWNS | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS | sc.CLONE_NEWCGROUP


class HostSide(ForkedHost):
    """Asks a zygote for children."""

    name = "namespaces"
    own_pid_only = False
    isolated = True
    requires = (
        "userns",
        "pidns",
        "netns",
        "ipcns",
        "mountns",
        "utsns",
        "cgroupns",
        "empty-root",
        "capabilities",
        *FOR_A_SEAL,
    )

    def promises(self, policy: Policy) -> Mapping[Layer, str]:
        """Everything but landlock, and but the network namespace when the policy grants the host's network."""
        absent = {Layer.LANDLOCK} | ({Layer.NET_NS} if shares_network(policy) else set())
        return {**dict.fromkeys(set(Layer) - absent, ""), Layer.EMPTY_ROOT: empty_root_limit(policy)}


class ChildSide:
    """What a child that a zygote forked does to itself."""

    def __init__(self, link: socket.socket | None) -> None:
        assert link is not None
        self.link = link
        self.failure: StepFailed | None = None

    def isolate(self, share_network: bool) -> None:
        """The part of stage 3 that needs no birth: namespaces, and every capability given up for good.

        A failure is kept until `confine_early`, when there is somebody to tell.
        """
        try:
            leave_the_zygote(self.link.fileno())
            with step("make the child's namespaces"):
                sc.unshare(_OWN | (0 if share_network else sc.CLONE_NEWNET))
            with step("set the host name"):
                sc.sethostname(b"belljar")
            confine.drop_capabilities()
            confine.forbid_new_privileges()
        except StepFailed as error:
            self.failure = error

    def confine_early(self, birth: Birth) -> None:
        """Take the limits; namespaces and capabilities are done."""
        if self.failure is not None:
            raise self.failure
        confine.set_limits(birth.policy.limits)
        confine.leave_keyrings(birth.policy)

    def take_files(self) -> None:
        """Ask the zygote to empty the root of this process, all threads of it."""
        with step("leave the working directory"):
            os.chdir("/")
        with self.link, step("ask the zygote for the empty root"):
            self.link.send(SEAL_REQUEST, socket.MSG_NOSIGNAL)
            answer = self.link.recv(4096)
        if answer != SEAL_DONE:
            if not answer:
                raise StepFailed("ask the zygote for the empty root", 0, "it has ended")
            failure = json.loads(answer)
            raise StepFailed(failure["step"], failure["errno"], os.strerror(failure["errno"]))
