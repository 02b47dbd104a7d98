"""A plugin that is not loaded yet and already speaks for the steps of early init, which were trusted."""

from __future__ import annotations

import socket
import sys
from types import FrameType

from belljar.ipc import datagram
from belljar.ipc.messages import Left, Ready, StageFailed, StepBegan, StepEnded, encode


def _send(*messages: StepBegan | StepEnded | Ready | StageFailed) -> None:
    for message in messages:
        datagram.send(_channel(), encode(message))


def _channel() -> socket.socket:
    """Return the channel, from the frames below that load this plugin."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        link = getattr(frame.f_locals.get("self"), "link", None)
        if link is not None:
            found: socket.socket = link.sock
            return found
        frame = frame.f_back
    raise LookupError("no channel")


class Reports:
    """Says what the first step has left."""

    def __init__(self) -> None:
        _send(StepBegan(0), StepEnded(0, 1e9, Left({"forged": 1})))


class Delays:
    """Begins to resume, again and again, each time with a new deadline."""

    def __init__(self) -> None:
        while True:
            _send(StepBegan(0, "resume"))


class Hurries:
    """Is ready before it is, and says how long the host's own stages took."""

    def __init__(self) -> None:
        _send(Ready((), {"verify": 0.0, "\x1b[31m": 1.0, "load": 5.0}))


class Blames:
    """Fails, as it says, in a stage that was long over."""

    def __init__(self) -> None:
        _send(StageFailed(3, 1, "could not drop the capabilities"))


class Decorates:
    """Fails with what a terminal would obey, and with a line of its own."""

    def __init__(self) -> None:
        _send(StageFailed(9, 0, "\x1b[31mred\nCRITICAL forged", ("a\nb",)))
