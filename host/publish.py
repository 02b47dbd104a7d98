"""`Publisher`: one host tells many subscribers, children and other programs, over zmq; none can tell it anything.

    PROGRESS = Topic("progress", Progress)

    with Publisher(PROGRESS) as publisher:
        process = Process(plugin="plugins/player.py:Player", early_init=(publisher.step(),))
        async with ProcessHost(process) as host:
            await publisher.wait_for_subscribers(PROGRESS)
            publisher.publish(PROGRESS, Progress(done=1, of=10))

To publish never waits: of what a subscriber does not take, `queue` messages are kept, and the next ones are dropped for
it alone. It sees so by their numbers (`belljar.ipc.subscription`).

Facts of libzmq 4.3.5 that this tames; each has a test.

* An XPUB keeps whatever a subscriber subscribes to, without end. So each subscription is looked at, and who wants what
  is no topic, says anything else, or changes its mind too often is cut off: libzmq names the fd of the connection with
  each such message (``ZMQ_SRCFD``), and the kernel says whether that is still a connection of that peer. The inode of
  its socket tells it from the next one on the same fd.
* A subscription arrives some time after the subscriber has connected, and all that is published before passes it by.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import struct
import tempfile
import threading
from collections import deque
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import anyio
import msgspec

from ..ipc.allowance import Allowance
from ..ipc.topics import QUEUED, Topic
from ..sandbox.user import resolve_user
from .plan.step import Step

if TYPE_CHECKING:
    import zmq

log = logging.getLogger("belljar.host")

T = TypeVar("T", bound=msgspec.Struct)

LOOK = 0.005
"""Seconds between two looks for subscribers that are waited for."""

MAX_WORDS = 256
"""Words of subscribers that are read at a time."""

CHANGES = 2 * 64
"""Subscriptions of one connection, and their ends, that may come at once; then one a second."""

_UCRED = struct.Struct("=iII")  # struct ucred, unix(7)


class Joined(NamedTuple):
    """Somebody subscribed to *topic*, and was sent what came from the number *first* on; ``peer`` is libzmq's word."""

    topic: str
    first: int
    peer: str


class Publisher:
    """Publishes *topics* at ``endpoint``, in a folder that only the host's user and that of the children may enter.

    Its methods can be called from any thread and in any event loop.

    Args:
        run_as: The user of the children, as in `Process.run_as`.
        queue: Messages that are kept for one subscriber.

    Attributes:
        endpoint: Where children find it.
        folder: The folder of that.
        joined: Who has subscribed lately, and from which number on it was sent messages.
        cut: Connections that were cut off.

    Raises:
        OSError: the folder or the socket cannot be made.
        SandboxError: there is no such user.
    """

    def __init__(self, *topics: Topic[Any], run_as: str = "", queue: int = QUEUED) -> None:
        import zmq

        user = resolve_user(run_as)
        self.joined: deque[Joined] = deque(maxlen=256)
        self.cut = 0
        self._topics = {topic.name: topic for topic in topics}
        self._names = {topic.prefix: topic.name for topic in topics}
        self._numbers = dict.fromkeys(self._topics, 0)
        self._connections: dict[int, _Connection] = {}
        self._run = secrets.randbits(63)
        self._lock = threading.Lock()
        self._ports: set[int] = set()
        self._paths: set[str] = set()
        with ExitStack() as made:
            self.folder = tempfile.mkdtemp(prefix="belljar-")  # mode 0700
            made.callback(shutil.rmtree, self.folder, ignore_errors=True)
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
            made.callback(context.destroy, linger=0)
            self._socket = context.socket(zmq.XPUB)
            _configure(self._socket, queue, (os.geteuid(), user.uid))
            self.endpoint = self.bind(f"ipc://{self.folder}/publisher")
            if user.uid != os.geteuid():
                # The folder stays ours, so that no child's user can put another socket there.
                os.chown(self.folder, -1, user.gid)
                os.chmod(self.folder, 0o710)
                os.chown(f"{self.folder}/publisher", -1, user.gid)
                os.chmod(f"{self.folder}/publisher", 0o660)
            self._owned = made.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket, what was not sent is dropped, and remove the folder. Idempotent."""
        with self._lock:
            self._owned.close()

    def bind(self, endpoint: str) -> str:
        """Publish at *endpoint* too, such as ``tcp://127.0.0.1:*``, and return where that really is.

        Over ``tcp`` anybody who reaches the port can subscribe.

        Raises:
            OSError: nothing can be bound there.
        """
        import zmq

        with self._lock:
            try:
                self._socket.bind(endpoint)
            except zmq.ZMQError as error:
                raise OSError(error.errno, f"could not publish at {endpoint}: {error}") from None
            where = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
            if where.startswith("tcp://"):
                self._ports.add(int(where.rpartition(":")[2]))
            self._paths.add(where)
        return where

    def step(self) -> Step:
        """Return the early-init step by which a child connects; in its plugin call `subscription`."""
        sockets = (f"publisher SUB {self.endpoint}",)
        return Step("zmq", name="publisher", options={"sockets": sockets, "folders": (self.folder,)})

    def publish(self, topic: Topic[T], message: T) -> int:
        """Send *message* to all who have subscribed to *topic*; return its number.

        Raises:
            ValueError: *topic* is none of this publisher's.
            TypeError: *message* is of another type.
            LocalProtocolError: it is too large.
        """
        import zmq

        if self._topics.get(topic.name) is not topic:
            raise ValueError(f"{topic!r} is no topic of this publisher; it has {', '.join(self._topics) or 'none'}")
        with self._lock:
            number = self._numbers[topic.name] + 1
            self._socket.send(topic.encode(self._run, number, message), zmq.NOBLOCK)
            self._numbers[topic.name] = number
            self._look()
        return number

    def subscribers(self, topic: Topic[Any]) -> int:
        """Return how many connections have subscribed to *topic* and are still there."""
        with self._lock:
            self._look()
            self._prune()
            return sum(topic.name in connection.topics for connection in self._connections.values())

    async def wait_for_subscribers(self, topic: Topic[Any], count: int = 1) -> None:
        """Wait until *count* have subscribed to *topic*: what is published then reaches them, if they keep up."""
        while self.subscribers(topic) < count:  # noqa: ASYNC110 - libzmq tells nobody unless it is asked
            await anyio.sleep(LOOK)

    def _look(self) -> None:
        """Take what subscribers have said, but not all if they say it without end."""
        import zmq

        for _ in range(MAX_WORDS):
            if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return
            self._take(self._socket.recv(zmq.NOBLOCK, copy=False))

    def _take(self, frame: zmq.Frame) -> None:
        import zmq

        try:
            fd, peer = int(frame.get(zmq.SRCFD)), str(frame.get("Peer-Address"))
        except zmq.ZMQError:  # libzmq's own word, of a connection that is gone; `_prune` sees that
            return
        with ExitStack() as held:
            try:
                sock = held.enter_context(_socket_of(fd))
                if not self._is_of(sock, peer):
                    return
                self._heed(frame.bytes, self._connection(sock, fd, peer), sock)
            except OSError:  # it is gone
                return

    def _connection(self, sock: socket.socket, fd: int, peer: str) -> _Connection:
        inode = os.fstat(sock.fileno()).st_ino
        found = self._connections.get(inode)
        if found is None:
            self._prune()
            found = self._connections[inode] = _Connection(fd, peer)
        return found

    def _heed(self, said: bytes, by: _Connection, sock: socket.socket) -> None:
        name = self._names.get(said[1:])
        if name is None or said[:1] not in (b"\0", b"\1") or not by.changes.take(1):
            sock.shutdown(socket.SHUT_RDWR)
            if not by.is_cut:
                by.is_cut = True
                self.cut += 1
                log.warning("cut a subscriber off, %s: it wants what is no topic, or changes its mind", by.peer)
        elif said[:1] == b"\0":
            by.topics.discard(name)
        elif name not in by.topics:
            by.topics.add(name)
            self.joined.append(Joined(name, self._numbers[name] + 1, by.peer))

    def _is_of(self, sock: socket.socket, peer: str) -> bool:
        """Whether *sock* was accepted here, and from the *peer* whom libzmq calls ``...:uid:gid:pid`` or by its IP."""
        if sock.family != socket.AF_UNIX:
            return sock.getsockname()[1] in self._ports and sock.getpeername()[0] == peer
        pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return f"ipc://{sock.getsockname()}" in self._paths and peer.endswith(f":{uid}:{gid}:{pid}")

    def _prune(self) -> None:
        """Forget the connections that are gone."""
        for inode, connection in list(self._connections.items()):
            if not connection.is_still(inode):
                del self._connections[inode]


class _Connection:
    """A subscriber, as long as its *fd* is the socket that it was."""

    def __init__(self, fd: int, peer: str) -> None:
        self.fd = fd
        self.peer = peer
        self.topics: set[str] = set()
        self.changes = Allowance(CHANGES, 1)
        self.is_cut = False

    def is_still(self, inode: int) -> bool:
        try:
            return os.fstat(self.fd).st_ino == inode
        except OSError:
            return False


def _socket_of(fd: int) -> socket.socket:
    """Return a duplicate of *fd*, a connection of libzmq's. `OSError`: that is gone, and *fd* may be another file."""
    copy = os.dup(fd)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _configure(xpub: zmq.Socket[bytes], queue: int, uids: tuple[int, int]) -> None:
    import zmq

    xpub.setsockopt(zmq.SNDHWM, queue)
    xpub.setsockopt(zmq.RCVHWM, MAX_WORDS)  # of what subscribers say; then they wait
    xpub.setsockopt(zmq.MAXMSGSIZE, 1 + 65)  # nobody has more to say than the longest name of a topic
    xpub.setsockopt(zmq.LINGER, 0)
    xpub.setsockopt(zmq.HANDSHAKE_IVL, 5000)  # milliseconds that a connection may take to say what it is
    xpub.setsockopt(zmq.XPUB_VERBOSER, 1)  # tell of each subscription, not of the first of its kind only
    for uid in uids:
        xpub.setsockopt(zmq.IPC_FILTER_UID, uid)
