"""``namespaces``: unprivileged user namespaces, an empty root, no capability, and seccomp.

The strongest backend, and the one that needs nothing installed. Its processes are described in `launch.zygote`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence

import msgspec

from .. import confine
from .. import syscalls as sc
from ..base import Birth, Launch, Started, shares_network
from ..launch.executed import NothingMore
from ..launch.wire import receive_request, send_request
from ..launch.zygote import SEAL_DONE, SEAL_REQUEST
from ..layers import Layer
from ..policy import Policy
from ..steps import StepFailed, step
from ..user import User

_OWN = sc.CLONE_NEWNS | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS | sc.CLONE_NEWCGROUP


class HostSide:
    """Asks a zygote for children."""

    name = "namespaces"
    has_helper = False
    own_pid_only = False
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

    def unable(self, policy: Policy) -> str:
        """Nothing is out of reach."""
        return ""

    def promises(self, policy: Policy) -> Mapping[Layer, str]:
        """Everything but landlock, and but the network namespace when the policy grants the host's network."""
        absent = {Layer.LANDLOCK} | ({Layer.NET_NS} if shares_network(policy) else set())
        return dict.fromkeys(set(Layer) - absent, "")

    def is_warm(self, preload: tuple[str, ...], user: User) -> bool:
        """Whether the zygote for *preload* and *user* runs."""
        from ..launch import client  # here and below: only the host half, not the child's, needs subprocess and more

        return client.warm_zygote(preload, user) is not None

    def warm(self, preload: tuple[str, ...], user: User) -> None:
        """Start the guard and the zygote for *preload* and *user*."""
        from ..launch import client

        client.zygote(preload, user)

    def start(self, launch: Launch) -> Started:
        """Send the launch to its zygote, which forks the child."""
        from ..launch import client

        policy = launch.policy
        view = {"read_only": policy.read_only, "read_write": policy.read_write, "devices": policy.devices}
        share_network = shares_network(policy)
        body = {"birth": msgspec.to_builtins(launch.birth), "view": view, "share_network": share_network}
        fds = [launch.report.fileno(), launch.control.fileno(), launch.stdout, launch.stderr]
        try:
            send_request(client.zygote(launch.preload, launch.user).requests, body, fds)
        except (BrokenPipeError, ConnectionError):  # it ended since it was looked at; a new one is started, once
            client.forget_zygote(launch.preload, launch.user)
            send_request(client.zygote(launch.preload, launch.user).requests, body, fds)
        return NothingMore()

    def explain(self, exit_code: int | None, stderr: Sequence[str]) -> str:
        """The zygote forks the child itself, and reports what fails."""
        return ""

    def child_status(self, status: int) -> int | None:
        """The launched process is the child."""
        return status


class ChildSide:
    """What a child that a zygote forked does to itself."""

    def __init__(self, link_fd: int | None) -> None:
        self.link = socket.socket(fileno=link_fd)
        self.failure: StepFailed | None = None

    def isolate(self, share_network: bool) -> None:
        """The part of stage 3 that needs no birth: namespaces, and every capability given up for good.

        A failure is kept until `confine_early`, when there is somebody to tell.
        """
        try:
            confine.die_with(signal.SIGKILL)
            confine.close_fds_except({self.link.fileno()})
            with step("start a session"):
                os.setsid()
            with step("make the child's namespaces"):
                sc.unshare(_OWN | (0 if share_network else sc.CLONE_NEWNET))
            with step("set the host name"):
                sc.sethostname(b"belljar")
            confine.drop_capabilities()
            confine.forbid_new_privileges()
        except StepFailed as error:
            self.failure = error

    def await_birth(self) -> tuple[Birth, list[int]] | None:
        """Wait for the birth and its fds, which are then the caller's; None if there will be none."""
        received = receive_request(self.link)
        return None if received is None else (msgspec.convert(received[0], Birth), received[1])

    def confine_early(self, birth: Birth) -> None:
        """Take the limits; namespaces and capabilities are done."""
        if self.failure is not None:
            raise self.failure
        confine.set_limits(birth.policy.limits)

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
