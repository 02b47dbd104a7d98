"""The two ends of the channel ``zmq``, and how they find each other.

The host makes a folder that one user may enter, binds a ROUTER in it once it knows the child's pid, and has libzmq
close every connection of another process (``ZMQ_IPC_FILTER_PID``, by SO_PEERCRED). When the child is sealed, the folder
goes. Nevertheless the host looks at the ``Peer-Address`` of whoever sends, ``...:uid:gid:pid`` of the process that
*connected*, also by SO_PEERCRED, and drops and counts what comes from strangers.

That says who connected, not who sends: what a child hands its connection to speaks for it, unlike on the channel
``socket``. The messages of a stranger never reach the peer above.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

import zmq

from ..credentials import Credentials
from ..errors import PeerProtocolError
from .base import EndOfChannel
from .over_socket import SocketChannel
from .over_zmq import LINGER, MORE, NOBLOCK, ZmqChannel, configure, read_event

if TYPE_CHECKING:
    from .over_zmq import Socket

GREETING = b"belljar"
"""A child's first message, from which its host learns how the ROUTER calls it. It reaches nobody."""


class Refused(Exception):
    """No connection was made; one sentence."""


class Meeting:
    """Where one child finds its host: ``folder``, and a ROUTER in it once the child is known. Owns both.

    Raises:
        OSError: no folder can be made.
    """

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="belljar-")  # mode 0700
        self.endpoint = f"ipc://{self.folder}/channel"
        self._owned = ExitStack()
        self._owned.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def open(self, child: Credentials) -> None:
        """Listen for the process that the kernel calls *child*, and let its user in.

        Raises:
            OSError: the socket cannot be made, or has too long a name.
        """
        try:
            self._router = _context(os.getpid()).socket(zmq.ROUTER)
            self._owned.callback(self._router.close)
            self._listen(child.sender_pid)
        except zmq.ZMQError as error:
            raise OSError(error.errno, f"{os.strerror(error.errno or 0)}: {self.endpoint}") from None
        self._child = child
        os.chmod(f"{self.folder}/channel", 0o666)  # before anybody else can enter: nobody can put a link there
        os.chown(self.folder, child.uid, child.gid)

    def _listen(self, child_pid: int) -> None:
        router = self._router
        configure(router)
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)  # to have a full queue refuse instead of dropping
        router.setsockopt(zmq.ROUTER_HANDOVER, 0)  # nobody takes over the name of a connection
        router.setsockopt(zmq.BACKLOG, 8)
        router.setsockopt(zmq.IPC_FILTER_PID, child_pid)
        self._monitor = router.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._owned.callback(self._monitor.close, linger=0)
        self._owned.callback(router.disable_monitor)  # before: an event that nobody can take stops the I/O thread
        router.bind(self.endpoint)

    def hide(self) -> None:
        """Remove the folder, so that nobody finds the way any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def end(self, control: socket.socket) -> HostEnd:
        """Return the host's end, which owns the ROUTER and *control* from now on. Hides the folder."""
        self.hide()
        end = HostEnd(self._router, self._monitor, SocketChannel(control, self._child), self._child)
        self._owned.pop_all()
        return end

    def close(self) -> None:
        """Close and remove what this still owns."""
        self._owned.close()


@functools.cache
def _context(pid: int) -> zmq.Context[Socket]:
    """One for all channels of this process, with one I/O thread; a fork, which has no thread, makes its own."""
    context: zmq.Context[Socket] = zmq.Context(io_threads=1)
    context.set(zmq.MAX_SOCKETS, context.get(zmq.SOCKET_LIMIT))  # a channel takes three, and 1,023 are the default
    return context


class HostEnd(ZmqChannel):
    """The host's end; it has room for nothing before the child's greeting came.

    Attributes:
        strangers: Messages of others than the child, which were dropped.
    """

    def __init__(self, router: Socket, monitor: Socket, control: SocketChannel, child: Credentials) -> None:
        super().__init__(router, monitor, control)
        self.strangers = 0
        self._address = f":{child.uid}:{child.gid}:{child.sender_pid}"
        self._name = b""

    def _put(self, data: bytes) -> bool:
        if not self._name:
            return False
        try:
            self._socket.send(self._name, MORE | NOBLOCK)
            self._socket.send(data, NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError:  # EHOSTUNREACH
            raise EndOfChannel from None
        return True

    def _take(self) -> memoryview | None:
        sender = self._socket.recv(NOBLOCK)
        frame = self._socket.recv(NOBLOCK, copy=False)
        if sender != self._name:
            self._meet(sender, frame)
            return None
        if frame.more:
            raise PeerProtocolError("a message came in parts")
        return frame.buffer

    def _meet(self, sender: bytes, frame: zmq.Frame) -> None:
        """Take the greeting of the child; drop what anybody else says."""
        if not self._name and not frame.more and str(frame.get("Peer-Address")).endswith(self._address):
            self._read_monitor()  # what is over already was not the child's
            self._name, self._connection_fd = sender, int(frame.get(zmq.SRCFD))
            return
        self.strangers += 1
        while frame.more:
            frame = self._socket.recv(NOBLOCK, copy=False)


class ChildEnd(ZmqChannel):
    """The child's end. Owns the *context* of its sockets."""

    def __init__(self, context: zmq.Context[Socket], dealer: Socket, monitor: Socket, control: SocketChannel) -> None:
        super().__init__(dealer, monitor, control)
        self._context = context

    def _put(self, data: bytes) -> bool:
        try:
            self._socket.send(data, NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _take(self) -> memoryview | None:
        return self._socket.recv(NOBLOCK, copy=False).buffer

    def _read_monitor(self) -> None:
        if self._monitor.poll(0):
            self._has_ended = True  # it had one connection

    def close(self) -> None:
        """Close all of it, once the last messages have left or `LINGER` is over."""
        super().close()
        self._context.term()


def connect(endpoint: str, control: socket.socket, seconds: float) -> ChildEnd:
    """Return the child's end, connected; it owns *control*. Starts two threads of libzmq.

    Raises:
        Refused: no host let this process in at *endpoint* within *seconds*.
    """
    with ExitStack() as made:
        context: zmq.Context[Socket] = zmq.Context(io_threads=1)
        made.callback(context.destroy, linger=0)
        dealer = context.socket(zmq.DEALER)
        configure(dealer)
        dealer.setsockopt(zmq.LINGER, LINGER)
        dealer.setsockopt(zmq.IMMEDIATE, 1)  # nothing waits for a connection that is not there
        dealer.setsockopt(zmq.RECONNECT_IVL, -1)  # takes a new socket, for which libzmq would abort a sealed child
        monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED)
        made.callback(dealer.disable_monitor)
        dealer.connect(endpoint)
        if not monitor.poll(int(seconds * 1000)):
            raise Refused(f"no host answered at {endpoint} within {seconds:g} s")
        event, _ = read_event(monitor)
        if event != zmq.EVENT_HANDSHAKE_SUCCEEDED or not dealer.poll(int(seconds * 1000), zmq.POLLOUT):
            raise Refused(f"no host let this process in at {endpoint}")
        dealer.send(GREETING, NOBLOCK)
        made.pop_all()
    return ChildEnd(context, dealer, monitor, SocketChannel(control))
