"""The channel over zmq: who may speak on it, what a hostile child can and cannot do, and how both ends meet."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import anyio
import pytest
import zmq

from belljar.ipc import datagram
from belljar.ipc.channel.base import Channel, EndOfChannel
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.channel.over_zmq import configure
from belljar.ipc.channel.zmq_ends import GREETING, HostEnd, Meeting, Refused, connect
from belljar.ipc.credentials import Credentials, request_credentials
from belljar.ipc.datagram import MAX_DATAGRAM
from belljar.ipc.errors import PeerProtocolError

from .pairs import SOON, Pair, await_readable, fill, myself, no_fd_stays, take, until, zmq_pair
from .zmtp import MORE, dial, frame


@pytest.fixture
def pair() -> Iterator[Pair]:
    with zmq_pair() as pair:
        pair.child.send(b"first")
        assert take(pair.host) == b"first"
        yield pair


class Hostile:
    """A child that speaks ZMTP by itself; ``host`` is the end of its host, ``control`` its own control socket."""

    def __init__(self, stack: ExitStack) -> None:
        ours, self.control = datagram.control_pair()
        request_credentials(ours)
        meeting = stack.enter_context(closing(Meeting()))
        meeting.open(myself())
        self.sock = stack.enter_context(dial(meeting.endpoint))
        self.host = stack.enter_context(closing(meeting.end(ours)))
        stack.enter_context(self.control)
        self.sock.sendall(frame(GREETING) + frame(b"first"))
        assert take(self.host) == b"first"


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with ExitStack() as stack:
        yield Hostile(stack)


def test_the_folder_lets_one_user_in_and_goes() -> None:
    """Mode 0700, the child's user's, with a socket that this user may connect to; gone once hidden, and once closed."""
    with closing(Meeting()) as meeting:
        folder = Path(meeting.folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        user = Credentials(os.getpid(), 65534, 65534) if os.geteuid() == 0 else myself()
        meeting.open(user)
        assert (folder.stat().st_uid, folder.stat().st_gid) == (user.uid, user.gid)
        assert stat.S_IMODE((folder / "channel").stat().st_mode) == 0o666
        meeting.hide()
        assert not folder.exists()
    with closing(Meeting()) as meeting:
        assert Path(meeting.folder).is_dir()
    assert not Path(meeting.folder).exists()


def test_nobody_else_is_let_in() -> None:
    """Another process of the same user is refused its connection, and the child is not."""
    ours, theirs = datagram.control_pair()
    request_credentials(ours)
    with closing(Meeting()) as meeting, ours:
        meeting.open(myself())
        pid = os.fork()
        if pid == 0:
            try:
                connect(meeting.endpoint, theirs, SOON)
            except Refused as error:
                os._exit(7 if "no host let this process in" in str(error) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        connect(meeting.endpoint, theirs, SOON).close()


def test_nobody_listens_is_said() -> None:
    """Where there is no host, the error says so in time, and nothing stays open."""
    ours, theirs = datagram.control_pair()
    with ours, theirs, no_fd_stays(), pytest.raises(Refused, match="no host"):
        connect("ipc:///nowhere/channel", theirs, 0.2)


def test_a_stranger_that_was_let_in_is_dropped_and_counted() -> None:
    """Without libzmq's filter, the address of each sender still tells: a stranger's messages reach nobody."""
    ours, theirs = datagram.control_pair()
    request_credentials(ours)
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        router = context.socket(zmq.ROUTER)
        configure(router)
        router.linger = 0
        monitor = router.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        endpoint = f"ipc://{stack.enter_context(_folder())}/channel"
        router.bind(endpoint)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            with dial(endpoint) as sock:
                sock.sendall(frame(GREETING) + frame(b"stranger") + frame(b"in", MORE) + frame(b"parts"))
                os.read(reader, 1)
            os._exit(0)
        host = stack.enter_context(closing(HostEnd(router, monitor, SocketChannel(ours, myself()), myself())))
        until(lambda: host.receive() is None and host.strangers == 3)
        assert not host.send(b"x")  # nobody greeted
        child = stack.enter_context(closing(connect(endpoint, theirs, SOON)))
        os.write(writer, b"x")
        os.waitpid(pid, 0)  # the end of a stranger is not the child's
        child.send(b"mine")
        assert take(host) == b"mine"
        host.send(b"yours")
        assert take(child) == b"yours"
        assert host.strangers == 3
        os.close(reader)
        os.close(writer)


def _folder() -> closing[Meeting]:
    class Folder(Meeting):
        def __str__(self) -> str:
            return self.folder

    return closing(Folder())


def test_a_message_that_is_too_large_ends_the_channel(hostile: Hostile) -> None:
    """libzmq closes the connection as soon as it reads the size."""
    hostile.sock.sendall(frame(bytes(MAX_DATAGRAM)))
    assert take(hostile.host) == bytes(MAX_DATAGRAM)
    hostile.sock.sendall(frame(bytes(MAX_DATAGRAM + 1))[:100])
    with pytest.raises(EndOfChannel):
        hostile.host.wait_receive(SOON)


def test_what_is_no_zmtp_ends_the_channel(hostile: Hostile) -> None:
    """A child that breaks ZMTP has ended its channel; what it said before can be read."""
    hostile.sock.sendall(frame(b"last words") + b"\xff" * 64)
    assert take(hostile.host) == b"last words"
    with pytest.raises(EndOfChannel):
        hostile.host.wait_receive(SOON)


def test_a_connection_that_is_closed_ends_the_channel(hostile: Hostile) -> None:
    """The end of the connection alone is the end, for an event loop too."""
    hostile.sock.close()
    until(lambda: await_readable(hostile.host))
    with pytest.raises(EndOfChannel):
        hostile.host.wait_receive(SOON)
    assert await_readable(hostile.host)
    with pytest.raises(EndOfChannel):
        hostile.host.send(b"x")


def test_a_control_socket_that_is_closed_ends_the_channel(hostile: Hostile) -> None:
    """So does the end of the control socket, as when the host hangs up on a child that is gone."""
    hostile.control.close()
    with pytest.raises(EndOfChannel):
        hostile.host.wait_receive(SOON)


def test_parts_are_a_breach(hostile: Hostile) -> None:
    """No message of this protocol has parts."""
    hostile.sock.sendall(frame(b"one", MORE) + frame(b"two"))
    with pytest.raises(PeerProtocolError, match="in parts"):
        hostile.host.wait_receive(SOON)


def test_a_place_without_fds_is_a_breach(hostile: Hostile) -> None:
    """An empty message stands for fds that are there already."""
    hostile.sock.sendall(frame(b""))
    with pytest.raises(PeerProtocolError, match="did not come"):
        hostile.host.wait_receive(SOON)


def test_fds_that_nothing_stands_for_wake_nobody(hostile: Hostile) -> None:
    """A child that stuffs the control socket fills that, and the host does not even wake."""
    hostile.control.setblocking(False)

    def stuff() -> None:
        while True:
            datagram.send(hostile.control, b"x", [0])

    with no_fd_stays():
        with pytest.raises(OSError, match=r"unavailable|Too many references"):
            stuff()
        while await_readable(hostile.host, 0.05):
            assert hostile.host.receive() is None


def test_the_control_socket_that_is_full_refuses(pair: Pair) -> None:
    """Fds that nobody takes fill the control socket; then the channel refuses, and goes on when there is room."""
    host, child = pair
    count = 0
    while child.wait_send(b"x" * 30_000, [0], 0.1):
        count += 1
    for _ in range(count):
        received = host.wait_receive(SOON)
        assert received is not None
        received.close()
    assert await_readable(child)
    assert child.wait_send(b"more", [0], SOON)
    received = host.wait_receive(SOON)
    assert received is not None
    assert received.data == b"more"
    received.close()


def test_fds_wait_for_room_like_all_else(pair: Pair) -> None:
    """With the queue full, what stands for fds that are sent already is sent once there is room, in its order."""
    host, child = pair
    count = fill(child)
    assert child.send(b"with", [0])
    assert not child.send(b"more")
    for _ in range(count):
        assert take(host) == b"filling"
    assert await_readable(child)
    assert child.receive() is None
    received = host.wait_receive(SOON)
    assert received is not None
    assert (bytes(received.data), len(received.fds)) == (b"with", 1)
    received.close()


@pytest.mark.anyio
async def test_an_event_loop_waits_for_it(pair: Pair) -> None:
    """asyncio and trio see readiness of the epoll fd: each message and the end."""

    async def receive(channel: Channel) -> bytes:
        while (received := channel.receive()) is None:
            await anyio.wait_readable(channel.fileno())
        return bytes(received.data)

    with anyio.fail_after(SOON):
        for number in range(20):
            assert pair.child.send(b"%d" % number)
            assert await receive(pair.host) == b"%d" % number
            assert pair.host.send(b"%d" % number)
            assert await receive(pair.child) == b"%d" % number
        pair.child.close()
        with pytest.raises(EndOfChannel):
            await receive(pair.host)


def test_one_context_serves_all_channels() -> None:
    """A second channel of a host starts no thread."""
    with zmq_pair():
        before = len(os.listdir("/proc/self/task"))
        with closing(Meeting()) as meeting:
            meeting.open(myself())
            assert len(os.listdir("/proc/self/task")) == before


def test_a_launch_that_fails_while_its_child_leaves_stops_no_other_channel() -> None:
    """libzmq's I/O thread, which serves all channels, never waits for somebody to take what a monitor tells."""
    code = """if True:
        import threading
        from contextlib import closing
        from belljar.ipc.channel.zmq_ends import Meeting
        from tests.ipc.channel.pairs import myself, take, zmq_pair
        from tests.ipc.channel.zmtp import dial

        for _ in range(300):
            with closing(Meeting()) as meeting:
                meeting.open(myself())
                leaving = [dial(meeting.endpoint) for _ in range(5)]
                thread = threading.Thread(target=lambda: [sock.close() for sock in leaving])
                thread.start()
            thread.join()
        with zmq_pair() as pair:
            pair.child.send(b"served")
            print(take(pair.host))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=8 * SOON, check=False)
    assert done.stdout == "b'served'\n", done.stderr


def test_it_loads_no_event_loop() -> None:
    """pyzmq's own helper for monitors would bring asyncio into every child."""
    code = "import sys, belljar.ipc.channel.zmq_ends; print('asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_path_that_is_too_long_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where temporary files have long names, a socket cannot be there: the error names it, and nothing is left."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with closing(Meeting()) as meeting, pytest.raises(OSError, match=r"File name too long: ipc://"):
        meeting.open(myself())
    assert not list(folder.iterdir())


def test_the_socket_in_the_folder_is_a_socket() -> None:
    """Connecting by its name is all that a child needs."""
    with closing(Meeting()) as meeting:
        meeting.open(myself())
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"{meeting.folder}/channel")


def test_a_finalizer_that_sends_within_a_call_of_the_channel_does_not_wait_for_it(pair: Pair) -> None:
    """It finds no room, whatever it has interrupted; another thread would wait its turn."""
    sent: list[bool] = []

    class Last:
        def __del__(self) -> None:
            sent.append(pair.child.send(b"last"))

    last = Last()
    with pair.child._lock:  # type: ignore[attr-defined]  # what every call of the channel holds
        del last
    assert sent == [False]
