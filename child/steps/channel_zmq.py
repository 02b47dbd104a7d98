"""The step ``channel-zmq``: this child's end of the channel zmq. ``channel = "zmq"`` puts it first; nobody lists it.

It starts two threads of libzmq, and makes every fd that they will need, as the step `zmq` does; see there for what
becomes of them at the seal, and `belljar.ipc.channel.over_zmq` for the channel. A zygote cannot share it: a fork has
neither the threads nor a connection of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..step import StepError, early_init, scene
from ._threads import await_threads, threads

if TYPE_CHECKING:
    from ...ipc.channel.zmq_ends import ChildEnd

CONNECT = 5.0
"""Seconds that the host, which listens already, has to answer."""


@early_init(
    needs=["files", "local-sockets", "threads", "executable-memory"],
    leaves={"threads": ["ZMQbg/*"], "fds": ["eventfd", "eventpoll", "socket"]},
)
def channel_zmq() -> ChildEnd:
    """Connect to the host."""
    from ...ipc.channel.zmq_ends import Refused, connect

    if not scene.endpoint or scene.control is None:
        raise StepError("it stands for channel = 'zmq', which this process type does not have; leave it out")
    others = threads()
    try:
        end = connect(scene.endpoint, scene.control, CONNECT)
    except Refused as error:
        raise StepError(str(error)) from None
    await_threads(others)
    return end
