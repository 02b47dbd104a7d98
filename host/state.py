"""Where a launch is. Pure: no process, no clock."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """The states of a `ProcessHost`, in their only order."""

    CREATED = 1
    LAUNCHED = 2
    CONNECTED = 3
    INITIALISED = 4
    SEALED = 5
    READY = 6
    CLOSING = 7
    ENDED = 8


class Progress:
    """The current state, which never goes back.

    News may arrive out of order (a hello can be there before the launch call returns, a child can end at any
    moment), so to *reach* an earlier state than the current one is not an error and changes nothing.
    """

    def __init__(self) -> None:
        self.state = State.CREATED

    def reach(self, state: State) -> bool:
        """Move on to *state*; return whether that was news."""
        if state <= self.state:
            return False
        self.state = state
        return True
