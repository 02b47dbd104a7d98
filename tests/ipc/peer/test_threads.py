"""What holds of a host's engine of threads, whichever of them comes first, and whatever its child does meanwhile."""

from __future__ import annotations

import gc
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from threading import Event, Thread
from typing import Any, Literal, Protocol

import pytest

from belljar.host.calls import HostSide
from belljar.host.pump import Pump
from belljar.host.services import Services
from belljar.ipc.channel.base import EndOfChannel
from belljar.ipc.channel.over_socket import SocketChannel
from belljar.ipc.datagram import Datagram, control_pair
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.frames import Call, Failed, Frame, Handle, Items, Notify, Reply, decode_from_host, encode
from belljar.ipc.interface import declared, notify
from belljar.ipc.interface.errors import ArgumentsUnfit
from belljar.ipc.interface.fd import Fd
from belljar.ipc.peer.records import MAX_DEPTH, MAX_UNDER_WAY, Incoming
from belljar.ipc.peer.shared import MAX_BACKLOG, SharedPeer
from belljar.ipc.peer.store import Store

from ...helpers import open_fds

NO_ARGUMENTS, ONE_UPLOAD = b"\x90", b"\x91\xc0"
FILES = (Handle("file"),) * 4
SEVEN = Reply(1, b"\x07")
ONE_STREAM = 3
"""Items for which a stream has credit here."""


class Desk(Protocol):
    """What the host offers."""

    def hold(self) -> None:
        """Return once it is told to."""
        ...

    def fail(self) -> None: ...

    def total(self, items: Iterator[int]) -> int: ...

    def rows(self) -> Iterator[int]: ...

    def large(self) -> bytes: ...

    def ask(self) -> None: ...

    @notify
    def hint(self) -> None: ...


class Plugin(Protocol):
    """What the child offers."""

    def back(self) -> int: ...

    @notify
    def take(self, file: Fd[Literal["pipe-read"]]) -> None: ...

    @notify
    def see(self, data: bytes) -> None: ...


METHODS = declared(Plugin)


class OwnDesk:
    """A `Desk`; nothing waits unless a test says so."""

    def __init__(self) -> None:
        self.began, self.go = Event(), Event()
        self.happens: Callable[[], object] = lambda: None
        self.is_open = False
        self.hints = 0

    def hold(self) -> None:
        self.began.set()
        assert self.go.wait(5)

    def fail(self) -> None:
        self.happens()
        raise ValueError

    def total(self, items: Iterator[int]) -> int:
        return sum(items)

    def rows(self) -> Iterator[int]:
        self.is_open = True
        try:
            yield from range(10**9)
        finally:
            self.is_open = False

    def large(self) -> bytes:
        return bytes(60_000)

    def ask(self) -> None:
        self.happens()

    def hint(self) -> None:
        self.hints += 1
        self.happens()


class Facing:
    """A host's peer, what it offers, and the other end, where a test is the child."""

    def __init__(self, ours: SocketChannel, theirs: SocketChannel) -> None:
        self.theirs, self.desk = theirs, OwnDesk()
        self.over: list[BaseException] = []
        side = HostSide("child", tuple, lambda interface, number: None)
        store = Store(1 << 20, arena_limit=1 << 20)
        self.peer = SharedPeer(ours, side, store, Services({Desk: self.desk}).targets, over=self.over.append)

    def says(self, *frames: Frame, fds: Sequence[int] = ()) -> None:
        assert self.theirs.wait_send(encode(frames), fds, 5)

    def hears(self) -> list[Frame]:
        """Return what the host says next."""
        received = self.theirs.wait_receive(5)
        assert received is not None
        data = bytes(received.data)
        received.close()
        return [*decode_from_host(data)]


@contextmanager
def facing(kind: type[SocketChannel] = SocketChannel) -> Iterator[Facing]:
    """Yield a host that faces this test; its channel is of a *kind*."""
    ours, theirs = control_pair()
    with closing(kind(ours)) as channel, closing(SocketChannel(theirs)) as other:
        made = Facing(channel, other)
        try:
            yield made
        finally:
            other.close()
            made.peer.close()


@contextmanager
def thread(function: Callable[[], object]) -> Iterator[None]:
    """Run *function* in a thread of its own meanwhile; raise what it raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised below
            raised.append(error)

    other = Thread(target=run, daemon=True)
    other.start()
    yield
    other.join(10)
    assert not other.is_alive()
    for error in raised:
        raise error


class Patient(SocketChannel):
    """Notes for how long it was to wait, in seconds."""

    waits: tuple[float | None, ...] = ()

    def wait_receive(self, seconds: float | None) -> Datagram | None:
        self.waits = (*self.waits, seconds)
        return super().wait_receive(seconds)


def test_a_wait_without_end_is_as_long_on_every_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long ago the program began, one who waits for ever looks up after days, and not at once."""
    clock = time.monotonic
    with facing(Patient) as child:
        monkeypatch.setattr(time, "monotonic", lambda: clock() + 2e6)
        child.says(SEVEN)
        assert child.peer.call(0, METHODS["back"], (), None) == 7
        assert isinstance(child.peer.channel, Patient)
        (seconds,) = child.peer.channel.waits
        assert seconds == pytest.approx(1e6)


class Looked(Incoming):
    """Whoever looks whether it was cancelled is interrupted there."""

    interrupted: Callable[[], None]

    @property
    def cancelled(self) -> bool:  # type: ignore[override]
        self.interrupted()
        return False


def test_two_threads_look_at_the_streams() -> None:
    """While one looks whether a stream was given up, another may go on with one."""
    with facing() as child:
        child.says(*[Call(number, 1, "rows", NO_ARGUMENTS, credit=ONE_STREAM) for number in (1, 2)])
        child.peer.pump()

        def interrupted() -> None:
            with thread(child.peer._produce_next):
                pass

        incoming: Any = child.peer._producing[0].incoming
        incoming.__class__, incoming.interrupted = Looked, interrupted
        assert not child.peer._has_to_close()
        incoming.__class__ = Incoming


class Told(dict[int, Any]):
    """The calls that are answered. Whoever goes through them is interrupted until another takes one out or wants to."""

    def __init__(self, calls: dict[int, Any]) -> None:
        super().__init__(calls)
        self.is_looked_at, self.is_taken = Event(), Event()

    def values(self) -> Any:
        for value in super().values():
            self.is_looked_at.set()
            assert self.is_taken.wait(5)
            yield value

    def pop(self, *arguments: Any) -> Any:
        self.is_taken.set()
        return super().pop(*arguments)


class Wanted:
    """A lock that tells when another thread than the one that made it wants it."""

    def __init__(self, lock: Any) -> None:
        self.lock, self.owner = lock, threading.get_ident()
        self.wanted: Callable[[], object] = lambda: None

    def __enter__(self) -> None:
        if threading.get_ident() != self.owner:
            self.wanted()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_a_call_fails_while_all_end() -> None:
    """The end, which goes through the calls that are answered, is whole whatever becomes of one meanwhile."""
    with facing() as child:
        peer, desk = child.peer, child.desk
        guard = peer._guard = Wanted(peer._guard)  # type: ignore[assignment]
        child.says(*[Call(number, 1, "fail", NO_ARGUMENTS) for number in (1, 2)])
        desk.happens = desk.hold
        with thread(peer.pump):
            assert desk.began.wait(5)
            told = peer._answering = Told(peer._answering)

            def goes_on() -> None:
                assert told.is_looked_at.wait(5)
                guard.wanted = told.is_taken.set
                desk.go.set()

            with thread(goes_on):
                peer.end(EndOfChannel())
        assert [type(error) for error in child.over] == [EndOfChannel]


def test_the_end_is_told_whatever_it_meets() -> None:
    """All who wait for the child's end depend on it."""
    with facing() as child:
        answering, child.peer._answering = child.peer._answering, None  # type: ignore[assignment]
        with pytest.raises(AttributeError):
            child.peer.end(EndOfChannel())
        child.peer._answering = answering
        assert [type(error) for error in child.over] == [EndOfChannel]


class Interrupting:
    """A lock: before it is taken for the first time, something else happens."""

    def __init__(self, lock: Any, happens: Callable[[], object]) -> None:
        self.lock, self.happens = lock, happens

    def acquire(self, *arguments: Any, **keywords: Any) -> bool:
        happens, self.happens = self.happens, lambda: None
        happens()
        return bool(self.lock.acquire(*arguments, **keywords))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lock, name)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_all_is_closed_just_before_a_thread_reads() -> None:
    """Who reads looks whether the channel is still there once nobody can close it any more."""
    with facing() as child:
        lock = child.peer._reading

        def close() -> None:
            child.theirs.close()
            child.peer.close()
            child.peer.channel.close()

        child.peer._reading = Interrupting(lock, close)  # type: ignore[assignment]
        child.peer.pump()
        assert isinstance(child.peer.ended, EndOfChannel)


def test_who_follows_holds_nothing() -> None:
    """While a thread looks whether it has news, others can end all: a finalizer may interrupt it and wait for that."""
    with facing() as child:
        looks: list[bool] = []

        def done() -> bool:
            looks.append(child.peer.ended is not None)
            if len(looks) == 2:  # in `_follow`
                with thread(lambda: child.peer.end(EndOfChannel())):
                    pass
            return child.peer.ended is not None

        with child.peer._reading:  # as another thread that reads
            assert child.peer._wait(done, time.monotonic() + 5)
        assert looks == [False, False, True][: len(looks)]


def test_calls_that_nobody_answers_any_more() -> None:
    """What came with calls and items that were waiting when the child ended is closed with its peer."""
    gc.collect()
    before = open_fds()
    with facing() as child:
        child.says(Call(1, 1, "hold", NO_ARGUMENTS))
        for number in range(2, 40):
            child.says(Call(number, 1, "hold", NO_ARGUMENTS, FILES), fds=[2] * 4)
        child.says(Call(40, 1, "total", ONE_UPLOAD, uploads=(1,)))
        for _ in range(8):
            child.says(Items(40, 1, (b"\x01",), FILES), fds=[2] * 4)
        with thread(child.peer.pump):
            assert child.desk.began.wait(5)
            child.theirs.close()
            child.peer.close()
            child.desk.go.set()
    assert open_fds() == before


@pytest.mark.parametrize("last", ["pump", "call"])
def test_streams_that_a_child_reads_are_closed_at_its_end(last: str) -> None:
    """A generator of a service ends with the child, also one with which a thread goes on at that moment."""
    with facing() as child:
        child.says(Call(1, 1, "rows", NO_ARGUMENTS, credit=ONE_STREAM))
        if last == "pump":
            child.peer.pump()
            assert child.desk.is_open
            child.theirs.close()
            child.peer.pump()
        else:
            child.theirs.close()
            with pytest.raises(EndOfChannel):
                child.peer.call(0, METHODS["back"], (), 5.0)
        child.peer.close()
        assert (child.desk.is_open, child.peer._producing) == (False, deque())


def test_the_pump_closes_the_streams() -> None:
    """The thread that reads while nobody calls looks once more when it hears that all has ended."""
    with facing() as child:
        child.says(Call(1, 1, "rows", NO_ARGUMENTS, credit=ONE_STREAM))
        child.peer.pump()
        assert child.desk.is_open
        child.peer.end(EndOfChannel())
        pump = Pump(child.peer, "pump")
        pump.stop()
        pump.start()
        pump.join()
        assert not child.desk.is_open


def settle(child: Facing) -> None:
    """Do what the thread does that reads while nobody calls, until that waits; fail if it never does."""
    for _ in range(1000):
        poll = select.poll()
        for fd, events in child.peer.awaited().items():
            poll.register(fd, events)
        if not poll.poll(0):
            return
        child.peer.pump()
        if child.peer.ended is not None:
            return
    raise AssertionError("it never comes to rest")


def test_a_child_that_asks_and_does_not_read() -> None:
    """Its host waits in peace, hears what needs no answer, and ends a child that asks more than it may."""
    with facing() as child:
        number = 0
        while len(child.peer._answering) < MAX_UNDER_WAY:
            number += 1
            child.says(Call(number, 1, "large", NO_ARGUMENTS))
            settle(child)
        for count in range(1, 4):
            child.says(Notify(1, "hint", NO_ARGUMENTS))
            settle(child)
            assert (child.desk.hints, child.peer.ended) == (count, None)
        child.says(Call(number + 1, 1, "large", NO_ARGUMENTS))
        settle(child)
        assert str(child.peer.ended) == f"more than {MAX_UNDER_WAY} calls are under way"


class Refusing(SocketChannel):
    """Once it is full, the kernel refuses to pass an fd over it, as it does where a user has too many on their way."""

    was_full = False

    def send(self, data: bytes, fds: Sequence[int] = ()) -> bool:
        sent = super().send(data, [-1] if fds and self.was_full else fds)
        self.was_full = self.was_full or not sent
        return sent


def test_fds_that_cannot_be_passed_later() -> None:
    """A child to which a message that had to wait cannot go is at its end, with the reason; nobody hears an errno."""
    with facing(Refusing) as child, ExitStack() as opened:
        peer = child.peer
        reading, writing = os.pipe()
        opened.callback(os.close, writing)
        file = opened.enter_context(Fd(reading, "pipe-read"))
        call = peer.call_many(0, METHODS["back"], ((),))
        while not peer.queued:
            peer.notify(0, METHODS["see"], (bytes(60_000),))
        peer.notify(0, METHODS["take"], (file,))
        while peer.ended is None:
            child.hears()
            peer.pump()
        with pytest.raises(EndOfChannel, match="could not be sent: Bad file descriptor"):
            peer.finish(call)
        assert child.over == [peer.ended]


def test_fds_that_cannot_be_passed_at_once() -> None:
    """A notification that the kernel refuses is its caller's matter, and the next one is sent."""
    with facing(Refusing) as child, ExitStack() as opened:
        assert isinstance(child.peer.channel, Refusing)
        reading, writing = os.pipe()
        opened.callback(os.close, writing)
        file = opened.enter_context(Fd(reading, "pipe-read"))
        child.peer.channel.was_full = True
        with pytest.raises(ArgumentsUnfit, match="could not send it: Bad file descriptor"):
            child.peer.notify(0, METHODS["take"], (file,))
        child.peer.notify(0, METHODS["see"], (b"",))
        assert [type(frame) for frame in child.hears()] == [Notify]


class Deep:
    """What services of *child* do that ask it something, and how many of them one thread has in each other."""

    def __init__(self, child: Facing) -> None:
        self._child = child
        self._now = self.deepest = 0
        child.desk.happens = self.ask

    def ask(self) -> None:
        self._now += 1
        self.deepest = max(self.deepest, self._now)
        try:
            self._child.peer.call(0, METHODS["back"], (), 5.0)
        finally:
            self._now -= 1


def asks(kind: str, numbers: Iterable[int]) -> list[Frame]:
    """Return a call or a notification for each of *numbers*."""
    return [Call(n, 1, "ask", NO_ARGUMENTS) if kind == "call" else Notify(1, "hint", NO_ARGUMENTS) for n in numbers]


@pytest.mark.parametrize("kind", ["call", "notify"])
def test_services_that_ask_their_child(kind: str) -> None:
    """However many a child calls at once, a thread has but few of them on its stack, and all get their answer."""
    with facing() as child:
        deep = Deep(child)
        with thread(lambda: child.peer.call(0, METHODS["back"], (), 5.0)):
            child.hears()
            for frame in asks(kind, range(1, 201)):
                child.says(frame)
            begun = answered = 0
            while begun < 200 or (kind == "call" and answered < 200):
                for frame in child.hears():
                    if isinstance(frame, Call):
                        begun += 1
                        child.says(Reply(frame.call_id, SEVEN.payload))
                    else:
                        assert isinstance(frame, Reply)
                        answered += 1
            child.says(SEVEN)
        assert deep.deepest == MAX_DEPTH


def numbers(child: Facing) -> list[int]:
    """Return the numbers of the calls that *child* hears of next, or of whose answers."""
    return [frame.call_id for frame in child.hears() if isinstance(frame, (Call, Reply, Failed))]


def nested(child: Facing) -> list[int]:
    """Let a thread answer as many calls in each other as it may; return the numbers of what it asks in them."""
    child.hears()
    for frame in asks("call", range(1, MAX_DEPTH + 1)):
        child.says(frame)
    return [number for _ in range(MAX_DEPTH) for number in numbers(child)]


def test_what_belongs_to_the_innermost_call() -> None:
    """A thread with as many calls in each other as may be answers what the innermost leads to, and all else later."""
    with facing() as child:
        Deep(child)
        with thread(lambda: child.peer.call(0, METHODS["back"], (), 5.0)):
            asked = nested(child)
            child.says(Call(100, 1, "fail_not", NO_ARGUMENTS), Call(101, 1, "large", NO_ARGUMENTS))
            child.says(Call(102, 1, "large", NO_ARGUMENTS, within=asked[-1]))
            assert [numbers(child), numbers(child)] == [[100], [102]]  # 100 is not there, and nobody has to answer it
            for number in reversed(asked):
                child.says(Reply(number, SEVEN.payload))
            heard = [number for _ in range(MAX_DEPTH + 1) for number in numbers(child)]
            assert sorted(heard) == [*range(1, MAX_DEPTH + 1), 101]
            child.says(SEVEN)


def test_more_notifications_than_can_be_heard() -> None:
    """A child that notifies without end, while every thread waits for its answers, is at its end."""
    with facing() as child:
        Deep(child)

        def call() -> None:
            with pytest.raises(PeerProtocolError):
                child.peer.call(0, METHODS["back"], (), 5.0)

        with thread(call):
            nested(child)
            for frame in asks("notify", range(MAX_BACKLOG + 1)):
                child.says(frame)
        assert str(child.peer.ended) == f"more than {MAX_BACKLOG} calls and notifications wait"
