"""One publishes, many read: typed, never waiting, with all that was missed in plain sight; and none can talk back."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest
import zmq

from belljar import Publisher, Subscriber, Topic
from belljar.host.publish import CHANGES
from belljar.ipc.errors import LocalProtocolError
from belljar.ipc.topics import MAX_MESSAGE, QUEUED
from belljar.sandbox.policy import Policy

from ..children.listens import SCORES, SCORES_TOO, WEATHER, Score, Weather
from ..helpers import launch, nothing_left, on_all, open_fds, require
from ..ipc.channel.zmtp import MORE, dial, frame


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher(SCORES, SCORES_TOO, WEATHER, run_as="root" if os.geteuid() == 0 else "") as publisher:
        yield publisher


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for what the threads of libzmq do in a moment."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.mark.anyio
@on_all
async def test_a_sealed_child_reads_what_its_host_publishes(backend: str) -> None:
    """Over a socket from before the seal, under the policy that grants nothing: both types, in order."""
    require(backend)
    with Publisher(SCORES, WEATHER, run_as="root" if os.geteuid() == 0 else "") as publisher:
        assert publisher.publish(SCORES, Score(0)) == 1
        process = {"policy": Policy(), "preload": ("zmq",), "early_init": (publisher.step(),)}
        async with launch("listens.py:Listens", backend=backend, **process) as host:
            assert host.early_init["publisher"].undeclared is None
            await publisher.wait_for_subscribers(SCORES)
            await publisher.wait_for_subscribers(WEATHER)
            assert [(who.topic, who.first) for who in publisher.joined] == [("scores", 2), ("weather", 1)]
            assert publisher.joined[0].peer.endswith(f":{host.child_pid}")
            publisher.publish(SCORES, Score(1))
            publisher.publish(WEATHER, Weather(21.5))
            assert await host.call("next", 5.0) == "Score(home=1, note='')"
            assert await host.call("next", 5.0) == "Weather(degrees=21.5)"
            assert await host.call("next", 0.0) == "None"
            assert await host.call("missed") == [2, 1, 0]


@pytest.mark.anyio
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's children are another user's")
async def test_children_of_another_user_find_the_way_in() -> None:
    """A root host's children are nobody, may enter the folder and change nothing in it; other users are kept out."""
    with Publisher(SCORES, WEATHER) as publisher:
        assert stat.S_IMODE(os.stat(publisher.folder).st_mode) == 0o710
        assert os.stat(publisher.folder).st_uid == 0
        async with launch("listens.py:Listens", run_as="nobody", early_init=(publisher.step(),)):
            await publisher.wait_for_subscribers(SCORES)
        code = f"import socket; socket.socket(socket.AF_UNIX).connect({publisher.endpoint[6:]!r})"
        command = [sys.executable, "-Ic", code]
        stranger = await anyio.run_process(command, user=1234, group=1234, extra_groups=(), check=False)
        assert stranger.returncode == 1


@pytest.mark.anyio
async def test_a_child_that_does_not_read_holds_nobody_up(publisher: Publisher) -> None:
    """What finds no room is dropped for it alone, and the child sees how many messages it has missed."""
    large = Score(1, "x" * 60_000)
    with Subscriber(publisher.endpoint, SCORES, queue=10_000) as reader:
        async with launch("listens.py:Listens", early_init=(publisher.step(),)) as host:
            await publisher.wait_for_subscribers(SCORES, 2)
            count = 20 * QUEUED
            for _ in range(count):
                publisher.publish(SCORES, large)
                assert reader.receive(5) == large
            first, received, dropped = await host.call("missed", returns=tuple[int, int, int])
            publisher.publish(SCORES, Score(2))
            assert await host.call("next", 5.0) == "Score(home=2, note='')"
            _, again, dropped = await host.call("missed", returns=tuple[int, int, int])
    assert (first, again, reader.dropped) == (1, received + 1, 0)
    assert received < count
    assert dropped == count - received


def test_a_dashboard_over_tcp(publisher: Publisher) -> None:
    """A program of its own reads with a few lines; one that comes late sees that it does."""
    endpoint = publisher.bind("tcp://127.0.0.1:*")
    publisher.publish(SCORES, Score(1))
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from belljar import Subscriber
from tests.children.listens import SCORES
with Subscriber({endpoint!r}, SCORES) as subscriber:
    for score in subscriber:
        print(score, subscriber.seen(SCORES).first)
        break
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as dashboard:
        until(lambda: publisher.subscribers(SCORES), 20)
        publisher.publish(SCORES, Score(2))
        assert dashboard.communicate()[0] == "Score(home=2, note='') 2\n"
    until(lambda: not publisher.subscribers(SCORES))


def test_only_what_was_subscribed_to_comes(publisher: Publisher) -> None:
    """A topic whose name begins with another's is another topic."""
    with Subscriber(publisher.endpoint, SCORES) as subscriber:
        until(lambda: publisher.subscribers(SCORES))
        publisher.publish(SCORES_TOO, Score(1))
        publisher.publish(WEATHER, Weather(1))
        publisher.publish(SCORES, Score(2))
        assert next(subscriber) == Score(2)
        assert (publisher.subscribers(SCORES_TOO), publisher.subscribers(SCORES)) == (0, 1)


def test_a_publisher_that_begins_anew_is_noticed(tmp_path: Path) -> None:
    """A subscriber that goes on reading finds the next one; numbers that begin at 1 again are no gap."""

    def publish(publisher: Publisher) -> None:
        with publisher:
            publisher.bind(f"ipc://{tmp_path}/again")
            until(lambda: not subscriber.receive(0) and publisher.subscribers(SCORES))
            for number in range(3):
                publisher.publish(SCORES, Score(number))
            assert [next(subscriber).home for _ in range(3)] == [0, 1, 2]

    with Subscriber(f"ipc://{tmp_path}/again", SCORES) as subscriber:
        publish(Publisher(SCORES))
        publish(Publisher(SCORES))
        seen = subscriber.seen(SCORES)
        assert (seen.first, seen.last, seen.received, seen.dropped) == (1, 3, 6, 0)


@pytest.mark.parametrize(
    "said",
    [
        frame(b"\x01"),
        frame(b"\x01scores"),
        frame(b"\x01unknown\0"),
        frame(b"scores\0forged"),
        frame(b"\x01scores\0", MORE) + frame(b"x"),
        frame(b"\x01scores\0") * (CHANGES + 2),
        (frame(b"\x01scores\0") + frame(b"\0scores\0")) * CHANGES,
        frame(b"\x01" + b"x" * 70),
        b"".join(frame(b"\x01%d\0" % number) for number in range(100_000)),
    ],
    ids=["everything", "prefix", "unknown", "message", "parts", "again", "changes", "long", "many"],
)
def test_who_says_what_nobody_asked_is_cut_off(publisher: Publisher, said: bytes) -> None:
    """No topic, a message, or too many words: that connection ends, and the others go on."""
    with Subscriber(publisher.endpoint, SCORES) as other, dial(publisher.endpoint, b"SUB") as hostile:
        until(lambda: publisher.subscribers(SCORES))
        hostile.setblocking(False)

        def is_gone() -> bool:
            publisher.publish(SCORES, Score(1))
            try:
                while hostile.recv(1 << 16):
                    pass
            except BlockingIOError:
                return False
            except ConnectionResetError:
                pass
            return True

        rest = memoryview(said)
        with suppress(BrokenPipeError, ConnectionResetError):
            while rest:
                with suppress(BlockingIOError):
                    rest = rest[hostile.send(rest) :]
                publisher.subscribers(SCORES)
        until(is_gone)
        until(lambda: publisher.subscribers(SCORES) == 1)
        assert next(other) == Score(1)


@pytest.mark.anyio
async def test_nothing_stays() -> None:
    """Neither fd nor folder, with a subscriber that was just there; the folder is for one user."""
    with nothing_left():
        with Publisher(SCORES) as publisher, Subscriber(publisher.endpoint, SCORES):
            await publisher.wait_for_subscribers(SCORES)
            assert stat.S_IMODE(os.stat(publisher.folder).st_mode) in (0o700, 0o710)
        assert not os.path.exists(publisher.folder)
    await anyio.lowlevel.checkpoint()


def test_a_connection_that_is_another_file_by_now_takes_no_fd(publisher: Publisher, tmp_path: Path) -> None:
    """A subscription may be read when its connection is gone, and the fd of that is a file of the application's."""
    with (tmp_path / "file").open("wb") as file:
        said = {zmq.SRCFD: file.fileno(), "Peer-Address": "127.0.0.1"}
        before = open_fds()
        publisher._take(cast(zmq.Frame, SimpleNamespace(get=said.get, bytes=b"\1scores")))
        assert open_fds() == before
    assert not publisher.joined


def test_mistakes_are_told_at_once(publisher: Publisher) -> None:
    """A wrong type, a foreign topic, too large a message, a bad name, a bad endpoint."""
    with pytest.raises(TypeError, match="has no messages of the type Weather"):
        publisher.publish(SCORES, Weather(1))  # type: ignore[misc]
    with pytest.raises(ValueError, match=r"no topic of this publisher; it has scores, scores\.too, weather"):
        publisher.publish(Topic("scores", Score), Score(1))
    with pytest.raises(LocalProtocolError, match="a message has at most"):
        publisher.publish(SCORES, Score(1, "x" * MAX_MESSAGE))
    with pytest.raises(ValueError, match="as the name of a topic, got 'a b'"):
        Topic("a b", Score)
    with pytest.raises(OSError, match=r"could not publish at what:ever"):
        publisher.bind("what:ever")
    assert publisher.publish(SCORES, Score(1)) == 1
