"""``namespaces``: unprivileged user namespaces, an empty root, no capability, and seccomp.

The strongest backend, and the one that needs nothing installed. Its processes are described in `launch.zygote`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Mapping

import msgspec

from .. import confine
from .. import syscalls as sc
from ..base import Birth, Launch
from ..layers import Layer
from ..policy import Policy
from ..steps import StepFailed, step

_OWN = sc.CLONE_NEWNS | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS | sc.CLONE_NEWCGROUP


class HostSide:
    """Asks a zygote for children."""

    name = "namespaces"
    has_helper = False
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
        "no-new-privs",
        "seccomp",
        "seccomp-tsync",
        "pidfd",
        "memfd-seal",
        "proc",
        "rlimits",
    )

    def promises(self, policy: Policy) -> frozenset[Layer]:
        """Everything but landlock, and but the network namespace when the policy grants the host's network."""
        absent = {Layer.LANDLOCK} | ({Layer.NET_NS} if shares_network(policy) else set())
        return frozenset(Layer) - absent

    def is_warm(self, preload: tuple[str, ...]) -> bool:
        """Whether the zygote for *preload* runs."""
        from ..launch import client  # here and below: only the host half, not the child's, needs subprocess and more

        return client.warm_zygote(preload) is not None

    def warm(self, preload: tuple[str, ...]) -> None:
        """Start the guard and the zygote for *preload*."""
        from ..launch import client

        client.zygote(preload)

    def start(self, launch: Launch) -> None:
        """Send the launch to its zygote, which forks the child."""
        from ..launch import client
        from ..launch.wire import send_request

        policy = launch.policy
        view = {"read_only": policy.read_only, "read_write": policy.read_write, "devices": policy.devices}
        body = {"birth": msgspec.to_builtins(launch.birth), "view": view}
        fds = [launch.report.fileno(), launch.control.fileno(), launch.stdout, launch.stderr]
        try:
            send_request(client.zygote(launch.preload).requests, body, fds)
        except (BrokenPipeError, ConnectionError):  # it ended since it was looked at; a new one is started, once
            send_request(client.zygote(launch.preload).requests, body, fds)


class ChildSide:
    """What a child that a zygote forked does to itself."""

    def __init__(self, sealer_fd: int | None) -> None:
        self.sealer = socket.socket(fileno=sealer_fd)

    def confine_early(self, birth: Birth, keep_fds: Mapping[str, int]) -> None:
        """Join namespaces of its own, then give up every capability for good."""
        with step("start a session"):
            os.setsid()
        confine.die_with(signal.SIGKILL)
        with step("make the child's namespaces"):
            sc.unshare(_OWN | (0 if birth.share_network else sc.CLONE_NEWNET))
        with step("set the host name"):
            sc.sethostname(b"belljar")
        confine.close_fds_except({*keep_fds.values(), self.sealer.fileno()})
        confine.reset_signals()
        confine.set_limits(birth.limits)
        confine.drop_capabilities()
        confine.forbid_new_privileges()

    def empty_root(self) -> None:
        """Ask the zygote to empty the root of this process, all threads of it."""
        from ..launch.zygote import SEAL_DONE, SEAL_REQUEST

        with step("leave the working directory"):
            os.chdir("/")
        with self.sealer, step("ask the zygote for the empty root"):
            self.sealer.send(SEAL_REQUEST, socket.MSG_NOSIGNAL)
            answer = self.sealer.recv(4096)
        if answer != SEAL_DONE:
            failure = json.loads(answer) if answer else {"errno": 0, "step": "reach the zygote, which has ended"}
            raise StepFailed(failure["step"], failure["errno"], os.strerror(failure["errno"]))


def shares_network(policy: Policy) -> bool:
    """Whether *policy* needs the host's network namespace, because it allows more than local sockets."""
    return bool({"inet", "inet6", "netlink"} & set(policy.network))
