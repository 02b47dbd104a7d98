"""What the host publishes, as a plugin reads it: over a socket that the step ``zmq`` connected before the seal."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from ..ipc.subscription import Subscription
from ..ipc.topics import Readable
from .step import handed

if TYPE_CHECKING:
    from zmq import Socket

T = TypeVar("T", bound=msgspec.Struct)


def subscription(*topics: Readable[T], socket: Socket[bytes] | None = None) -> Subscription[T]:
    """Subscribe to *topics* and return what comes of them. Call it in a plugin.

    *socket* is a SUB socket that a step ``zmq`` handed on; not given, that of the step that `Publisher.step` makes.
    A connection that is lost does not come back in a sealed child, so wait with a timeout.

    Raises:
        StepError: there is no such step.
    """
    return Subscription(handed("publisher")["publisher"] if socket is None else socket, *topics)
