"""What backends share whose children a zygote forks: the host half asks for them, the child half awaits its birth."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from ...ipc.messages import RunStep
from ...ipc.payload import make_sealed, read_sealed
from .. import confine
from ..base import Birth, Launch, Started, shares_network
from ..layers import Layer
from ..policy import Policy
from ..steps import step
from ..user import User
from .executed import NothingMore
from .wire import receive_request, send_request

if TYPE_CHECKING:
    from ..probe import Machine

MAX_BIRTH = 1 << 20
"""The most bytes of a birth."""


class ForkedHost:
    """The host half of a backend whose children are forked; subclasses say what differs."""

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]]
    has_helper: ClassVar[bool] = False
    own_pid_only: ClassVar[bool] = True
    isolated: ClassVar[bool] = False  # whether the zygote has namespaces, and gives each child its own

    def unable(self, policy: Policy, machine: Machine) -> str:
        """Nothing is out of reach."""
        return ""

    def promises(self, policy: Policy) -> Mapping[Layer, str]:
        """Nothing."""
        return {}

    def is_warm(self, shared: tuple[RunStep, ...], user: User) -> bool:
        """Whether the zygote for *shared* and *user* runs."""
        from . import client  # here and below: only the host half, not the child's, needs subprocess and more

        return client.warm_zygote(shared, user, isolated=self.isolated) is not None

    def warm(self, shared: tuple[RunStep, ...], user: User) -> None:
        """Start the guard and the zygote for *shared* and *user*."""
        from . import client

        client.zygote(shared, user, isolated=self.isolated)

    def start(self, launch: Launch) -> Started:
        """Send the launch to its zygote, which forks the child."""
        policy = launch.policy
        view = {key: getattr(policy, key) for key in ("read_only", "read_write", "devices")}
        view["real_paths"] = launch.birth.real_paths
        body = {"view": view, "share_network": self.isolated and shares_network(policy)}
        # Sealed memory that the zygote passes on unread: what it reads stays in its memory, of which every later child
        # gets a copy, and a birth holds the environment, perhaps with secrets.
        birth = make_sealed(msgspec.json.encode(launch.birth), name="belljar-birth")
        fds = [launch.report.fileno(), launch.control.fileno(), launch.stdout, launch.stderr, birth]
        try:
            self._ask(launch, body, fds)
        finally:
            os.close(birth)
        return NothingMore()

    def _ask(self, launch: Launch, body: Mapping[str, Any], fds: Sequence[int]) -> None:
        from . import client

        key = (launch.shared, launch.user)
        try:
            send_request(client.zygote(*key, isolated=self.isolated).requests, body, fds)
        except (BrokenPipeError, ConnectionError):  # it ended since it was looked at; a new one is started, once
            client.forget_zygote(*key, isolated=self.isolated)
            send_request(client.zygote(*key, isolated=self.isolated).requests, body, fds)

    def explain(self, exit_code: int | None, stderr: Sequence[str]) -> str:
        """The zygote forks the child itself, and reports what fails."""
        return ""

    def child_status(self, status: int) -> int | None:
        """The launched process is the child."""
        return status


def leave_the_zygote(link_fd: int) -> None:
    """Stage 3, as soon as a child is forked: its own session, no fd but the link, and no life without the zygote."""
    confine.die_with(signal.SIGKILL)
    confine.close_fds_except({link_fd})
    with step("open an input of its own"):  # the zygote's would be shared: its flags are a channel between siblings
        nothing, end = os.pipe2(os.O_CLOEXEC)  # and not /dev/null, whose mode its owner could change for all
        os.dup2(nothing, 0)
        for fd in (nothing, end):
            os.close(fd)
    with step("start a session"):
        os.setsid()


def await_birth(link: socket.socket) -> tuple[Birth, list[int]] | None:
    """Wait for the birth and its fds (control, stdout, stderr), which are then the caller's; None if none comes."""
    received = receive_request(link)
    if received is None:
        return None
    *fds, birth = received[1]
    return msgspec.json.decode(read_sealed(birth, MAX_BIRTH), type=Birth), fds
