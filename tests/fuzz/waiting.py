"""A channel for peers that block: whenever they wait, the script goes on."""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress

from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.datagram import Datagram, control_pair

from .script import Said, drain, steps_of

MOST_ANSWERS = 8 << 20
"""Bytes that a peer can say before anybody reads them: nobody does while it blocks."""

LONG = 1.0
"""Seconds from which on a wait is one without an end."""

SO_SNDBUFFORCE = 32


class ScriptedChannel(SocketChannel):
    """A peer's end, and at the *other* one a script."""

    def __init__(self, script: bytes) -> None:
        ours, self.other = control_pair()
        super().__init__(ours)
        with suppress(PermissionError):
            ours.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, MOST_ANSWERS)
        self.other.setblocking(False)
        self.steps = deque(steps_of(script))
        self.is_deaf = False

    def go_on(self) -> str:
        """Take the next step; return what it is if this side is to do it. After the last one, hang up."""
        if not self.is_deaf:
            drain(self.other)
        if not self.steps:
            self.other.shutdown(socket.SHUT_WR)
            return ""
        step = self.steps.popleft()
        if isinstance(step, Said):
            step.send(self.other)
            return ""
        self.is_deaf = self.is_deaf or step == "drain"
        return step

    def wait_receive(self, seconds: float | None) -> Datagram | None:
        """Receive what comes next, however long that takes elsewhere. What is to be done here meanwhile is left out."""
        while (received := self.receive()) is None:
            if seconds is not None and seconds < LONG and self.steps and not isinstance(self.steps[0], Said):
                return super().wait_receive(seconds)
            self.go_on()
        return received

    def close(self) -> None:
        """Close both ends."""
        super().close()
        drain(self.other)
        self.other.close()
