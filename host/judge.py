"""What a host makes of calls that fail: what their callers get to see, and what becomes of the child."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..ipc.errors import ArgumentError, PeerProtocolError, ResultError
from ..ipc.interface import ArgumentsUnfit
from ..ipc.peer.outbox import CannotSend
from ..ipc.peer.records import NotSent, Outgoing
from .config.process_type import Process
from .ended import Ended
from .errors import ChildEnded

log = logging.getLogger("belljar.host")


class Judge:
    """For one child, of the type *process*; *kill* kills it and takes the reason."""

    def __init__(self, process: Process, kill: Callable[[str], None]) -> None:
        self._process = process
        self._kill = kill
        self._warned: set[int] = set()

    def broke(self, error: BaseException) -> None:
        """Kill the child if it broke the protocol, or can be told nothing more."""
        if isinstance(error, PeerProtocolError):
            self._kill(f"it broke the protocol: {error}")
        elif isinstance(error, CannotSend):
            self._kill(f"the channel to it failed: {error}")

    def late(self, call: Outgoing) -> None:
        """A *call* was given up and not ended in time: do what the process type says, once."""
        process = self._process
        text = f"it did not end {call.declared.name!r}, which was given up, within {process.cancel_grace:g} s"
        if process.unresponsive == "kill":
            self._kill(text)
        elif call.call_id not in self._warned:
            self._warned.add(call.call_id)
            log.warning("%s: %s", process.name, text)

    def explain(self, method: str, error: Exception, ended: Ended | None) -> Exception:
        """Return what the caller of *method* gets to see of *error*; *ended* is there if the channel is at its end."""
        if ended is not None:
            if isinstance(error, NotSent):
                return ChildEnded(f"could not call {method!r}: {self._process.name} has ended: {ended}", ended)
            return ChildEnded(f"{self._process.name} ended during {method!r}: {ended}", ended)
        if isinstance(error, PeerProtocolError):
            self.broke(error)
            return error
        if isinstance(error, ArgumentsUnfit):
            return ArgumentError(f"could not call {method!r}: {error}")
        return ResultError(f"the result of {method!r} does not fit: {error}")
