"""The step ``zmq``: a ZeroMQ context and connected sockets, made before the seal and handed on by name.

Facts (libzmq 4.3.5; each has a test): a context starts two threads, its reaper and one for I/O, and opens eventfds and
epoll instances; each socket opens two eventfds more. All that goes on working under a policy that grants nothing, for
to send and to receive takes only what is open. To *make* more of it is refused, and libzmq then aborts the process
instead of saying so: for want of an eventfd, or, if the policy grants threads and local channels, because it may not
set the scheduling of its thread.

``connect()`` returns before anything is connected, and the I/O thread makes the connection later, at worst after the
seal. So the step waits for the handshake of each socket. A connection that is lost cannot come back, because that takes
a new socket of the kernel: ``reconnect_ivl`` is -1, so that libzmq does not try. A plugin that waits for its peer
without a timeout (``rcvtimeo``, ``poll``) then waits forever. ``linger`` is 0, so that closing drops what was not sent.
To send without a copy (``copy=False``) starts a thread of pyzmq and sockets of its own: after the seal, do not.

An ``ipc`` endpoint is a name in the file system, which no backend but bubblewrap hides before the seal; name its folder
in ``folders`` and that one shows it too. A ``tcp`` endpoint takes a network: where the backend gives the child an empty
one of its own, the policy must grant the host's. A connected socket is a way out of the seal to its peer, whatever the
policy says: connect to what you trust with whatever the plugin may come to know.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..step import StepError, early_init
from ._nearest import nearest
from ._threads import await_threads, threads

if TYPE_CHECKING:
    from zmq import Context, Socket


@early_init(
    needs=["files", "local-sockets", "threads", "executable-memory"],
    leaves={"threads": ["ZMQbg/*"], "fds": ["eventfd", "eventpoll", "socket"]},
)
def zmq(sockets: tuple[str, ...], folders: tuple[Path, ...] = (), timeout: float = 5.0) -> dict[str, Socket[bytes]]:
    """Connect *sockets* and return them by name; each reads ``name TYPE endpoint``.

    For example ``frames PUSH ipc:///run/app/frames``. *folders* are those of ``ipc`` endpoints. Each socket has
    *timeout* seconds to connect. The context is each socket's ``context``.
    """
    import zmq

    others = threads()
    context = zmq.Context()
    connected: dict[str, Socket[bytes]] = {}
    for entry in sockets:
        name, kind, endpoint = _parts(entry)
        if name in connected:
            raise StepError(f"two sockets are called {name!r}; name one of them otherwise")
        connected[name] = _connect(context, kind, endpoint, timeout)
    _exchange(context)
    await_threads(others)
    return connected


def _parts(entry: str) -> tuple[str, int, str]:
    import zmq

    try:
        name, kind, endpoint = entry.split()
    except ValueError:
        raise StepError(f"expected a socket as 'name TYPE endpoint', got {entry!r}") from None
    kinds = zmq.SocketType.__members__
    if kind.upper() not in kinds:
        raise StepError(f"there is no socket type {kind!r}{nearest(kind.upper(), kinds)}")
    return name, kinds[kind.upper()], endpoint


def _connect(context: Context[Socket[bytes]], kind: int, endpoint: str, timeout: float) -> Socket[bytes]:
    """Return a socket whose handshake with its peer is done."""
    import zmq

    from ...ipc.channel.over_zmq import read_event

    socket = context.socket(kind)
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    socket.setsockopt(zmq.LINGER, 0)
    events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED
    monitor = socket.get_monitor_socket(events)
    try:
        socket.connect(endpoint)
        if not monitor.poll(int(timeout * 1000)):
            raise StepError(f"nobody answered at {endpoint} within {timeout:g} s")
        if read_event(monitor)[0] != zmq.EVENT_HANDSHAKE_SUCCEEDED:
            raise StepError(f"could not connect to {endpoint}: {_doubt(endpoint)}")
    except zmq.ZMQError as error:
        raise StepError(f"could not connect to {endpoint}: {error}") from None
    finally:
        socket.disable_monitor()
    return socket


def _doubt(endpoint: str) -> str:
    """libzmq does not say why; what can be seen from here is whether there is a name."""
    path = endpoint.removeprefix("ipc://")
    if path == endpoint:
        return "nobody listens there, or the child has no network; let its peer bind first, or grant network"
    if not os.path.exists(path):
        return "there is no such file here; let its peer bind first, and name its folder in folders"
    return "nobody listens there, or this user may not write to it"


def _exchange(context: Context[Socket[bytes]]) -> None:
    """Take the ways of pyzmq that a plugin will take, with a pair of sockets inside of the process."""
    import zmq

    with context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as other:
        one.bind("inproc://belljar")
        other.connect("inproc://belljar")
        one.send_multipart([b"a", b"b"])
        one.send_json({"a": 1})
        poller = zmq.Poller()
        poller.register(other, zmq.POLLIN)
        poller.poll(1000)
        other.recv_multipart()
        other.recv_json()
        try:
            other.recv(zmq.DONTWAIT)
        except zmq.Again as error:
            str(error)
