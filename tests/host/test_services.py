"""Services: a plugin calls the host during a call, and reaches nothing that was not offered."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import new_class
from typing import Any, Protocol

import anyio
import anyio.lowlevel
import msgspec
import pytest

from belljar.host.calls import MAX_LOGGED
from belljar.host.errors import ChildEnded
from belljar.host.process_host import ProcessHost
from belljar.host.services import Services
from belljar.host.sync_host import SyncHost
from belljar.ipc.errors import CallTimeout, PeerProtocolError, RemoteError, ServiceRefused
from belljar.ipc.frames import FailureKind
from belljar.ipc.peer.records import MAX_DEPTH, MAX_UNDER_WAY
from belljar.sandbox.policy import Policy

from ..children.channel_abuser import FIRST, SERVICE_ABUSES, SHELF
from ..children.served.interfaces import Shelf
from ..helpers import launch, nothing_left, on_all, process, require, resident, write_plugin

pytestmark = pytest.mark.anyio


class Memory:
    """A shelf in memory; its methods are plain or asynchronous, as it likes."""

    def __init__(self) -> None:
        self.kept = {"first": b"content"}
        self.host: ProcessHost | None = None

    async def read(self, key: str) -> bytes:
        if key == "secret":
            raise ServiceRefused("the secret is not for you")
        return self.kept[key]

    def write(self, key: str, data: bytes) -> int:
        self.kept[key] = data
        return len(data)

    async def ask_back(self, depth: int) -> int:
        assert self.host is not None
        answer: int = await self.host.call("deeper", depth, returns=int)
        return answer

    async def wait(self) -> None:
        await anyio.sleep_forever()

    def wrong(self) -> str:
        return "no number"

    async def burst(self, count: int) -> list[int]:
        assert self.host is not None
        host, answers = self.host, [0] * count

        async def double(number: int) -> None:
            answers[number] = await host.call("double", number, returns=int)

        async with anyio.create_task_group() as tasks:
            for number in range(count):
                tasks.start_soon(double, number)
        return answers


def served(memory: object, plugin: str = "served:Plug", **fields: Any) -> ProcessHost:
    """Return a host that offers *memory* as a `Shelf` to a plugin, that of tests/children/served if none is named."""
    host = ProcessHost(process(plugin, **fields), services={Shelf: memory})
    if isinstance(memory, Memory):
        memory.host = host
    return host


@on_all
async def test_a_plugin_calls_what_the_host_offers(backend: str) -> None:
    """Arguments and answers travel, small and large, in any number of services within one call."""
    require(backend)
    memory = Memory()
    memory.kept["large"] = bytes(range(256)) * 1000
    async with served(memory, backend=backend) as host:
        assert await host.call("copy", "first", "second", returns=int) == 7
        assert await host.call("copy", "large", "copied", returns=int) == 256_000
    assert memory.kept["second"] == b"content"
    assert memory.kept["copied"] == memory.kept["large"]


async def test_calls_and_services_nest(caplog: pytest.LogCaptureFixture) -> None:
    """Call, service, call, service...: none waits for what waits for it; what is too deep is refused, and no more."""
    async with served(Memory()) as host:
        assert await host.call("deeper", MAX_DEPTH // 2, returns=int) == MAX_DEPTH // 2
        with pytest.raises(RemoteError, match="ServiceError"):
            await host.call("deeper", MAX_DEPTH // 2 + 1)
        assert await host.call("deeper", 1, returns=int) == 1
    assert "nested more than 16 deep" in caplog.text


async def test_a_service_may_call_from_several_tasks() -> None:
    """Their calls are answered within the call that asked for the service."""
    async with served(Memory()) as host:
        assert await host.call("burst", 5, returns=list[int]) == [0, 2, 4, 6, 8]


class Slow(Protocol):
    def slow(self) -> None: ...


async def test_no_answer_waits_for_the_service_of_another_thread(tmp_path: Path) -> None:
    """While a thread of the plugin waits for a service, and reads for all, the plugin's answers leave it at once."""
    source = """
        import threading
        from typing import Protocol
        from belljar import service

        class Slow(Protocol):
            def slow(self) -> None: ...

        class Plug:
            def begin(self) -> None:
                threading.Thread(target=service(Slow).slow, daemon=True).start()

            def number(self) -> int:
                return 7
    """
    asked, over = anyio.Event(), anyio.Event()

    class Service:
        async def slow(self) -> None:
            asked.set()
            await over.wait()

    plugin = process(write_plugin(tmp_path, source), policy=Policy.compute())
    async with ProcessHost(plugin, services={Slow: Service()}) as host:
        await host.call("begin")
        await asked.wait()
        for _ in range(3):
            assert await host.call("number", returns=int, timeout=5) == 7
        over.set()


async def test_calls_of_other_tasks_wait_while_a_service_works() -> None:
    """A task that has nothing to do with a service does not come in between."""
    async with served(Memory()) as host:
        answers: list[int] = []

        async def deeper(depth: int) -> None:
            answers.append(await host.call("deeper", depth, returns=int))

        async with anyio.create_task_group() as tasks:
            for depth in (5, 3, 1):
                tasks.start_soon(deeper, depth)
        assert sorted(answers) == [1, 3, 5]


async def test_what_a_service_raises_stays_with_the_host(caplog: pytest.LogCaptureFixture) -> None:
    """The plugin learns that a service failed, or the words of a refusal; the log has the traceback."""
    async with served(Memory()) as host:
        assert await host.call("why_not", "secret", returns=str) == "the secret is not for you"
        assert await host.call("why_not", "nothing", returns=str) == "Shelf.read failed in the host"
        assert "KeyError: 'nothing'" in caplog.text
        assert await host.call("copy", "first", "second", returns=int) == 7


async def test_arguments_and_answers_are_checked_on_both_sides() -> None:
    """What does not fit the interface is refused by whoever sees it first."""
    async with served(Memory()) as host:
        assert "length <= 16" in await host.call("why_not", "x" * 17, returns=str)
        assert "does not fit" in await host.call("wrong", returns=str)
        with pytest.raises(RemoteError, match="argument 'key': Expected"):
            await host.call("copy", "first", "x" * 17)


async def test_any_thread_of_the_plugin_can_ask() -> None:
    """A thread asks while the call goes on, asks too, or has ended: each gets its own answers."""
    async with served(Memory()) as host:
        assert await host.call("from_two_threads", 50, returns=int) == 51
    async with served(Memory()) as host:
        await host.call("ask_in_thread", "first")
        assert await host.call("found_in_thread", returns=list[bytes]) == [b"content"]


async def test_what_is_not_offered_cannot_be_had() -> None:
    """A plugin that asks for another service is told what there is."""
    async with served(Memory()) as host:
        words = await host.call("unoffered", returns=str)
    assert words == "the host does not offer Unoffered to this child; it offers Shelf"
    with pytest.raises(Exception, match="it offers no service"):
        await launch("served:Plug").__aenter__()


async def test_the_deadline_of_a_call_is_that_of_its_services() -> None:
    """A call that waits in a service when its time is over ends there: so does the service, and the child lives on."""
    ended = anyio.Event()

    class Hanging(Memory):
        async def read(self, key: str) -> bytes:
            try:
                await anyio.sleep_forever()
            finally:
                ended.set()
            raise AssertionError

    async with served(Hanging()) as host:
        with pytest.raises(CallTimeout):
            await host.call("copy", "first", "second", timeout=0.1)
        await ended.wait()
        assert await host.call("double", 2, returns=int) == 4


async def test_all_calls_end_when_one_is_cancelled_in_a_service() -> None:
    """Those that wait for their turn, and those that the service made in tasks of others, learn of the child's end."""
    within = anyio.Event()
    ended: list[str] = []

    async def ends(method: str, *arguments: object) -> None:
        with pytest.raises(ChildEnded):
            await host.call(method, *arguments)
        ended.append(method)

    class Splitting(Memory):
        async def ask_back(self, depth: int) -> int:
            tasks.start_soon(ends, "forever")
            within.set()
            await anyio.sleep_forever()
            return depth

    async def outer(scope: anyio.CancelScope) -> None:
        with scope:
            await host.call("deeper", 1)

    async with served(Splitting()) as host, anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()
        tasks.start_soon(outer, scope)
        await within.wait()
        tasks.start_soon(ends, "double", 1)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
    assert sorted(ended) == ["double", "forever"]


async def test_a_child_cannot_fill_the_log_with_services_that_fail(caplog: pytest.LogCaptureFixture) -> None:
    """The first failures are logged, each with its traceback; one line says that no more are."""
    async with served(Memory()) as host:
        caplog.clear()
        assert await host.call("asks_in_vain", MAX_LOGGED + 50, returns=int) == MAX_LOGGED + 50
    assert len(caplog.records) == MAX_LOGGED + 1
    assert "failed too often" in caplog.messages[-1]


class Untyped(Protocol):
    """Would take anything from a child."""

    def take(self, anything: Any) -> None: ...


class Taker:
    """Takes it."""

    def take(self, anything: Any) -> None: ...


class Sheet(msgspec.Struct):
    """Holds more of its kind, and one thing of any kind."""

    below: list[Sheet]
    cells: dict[str, Any]


@pytest.mark.parametrize("kind", [Any, object, list, dict[str, list[Any]], tuple[int, ...] | dict[str, Any], Sheet])
def test_a_type_that_anything_fits_is_none(kind: Any) -> None:
    """Not only a parameter without a type is refused, but one with a gap in its type, at any depth."""

    class Loose:
        def take(self, anything: Any) -> None: ...

    Loose.take.__annotations__["anything"] = kind
    with pytest.raises(TypeError, match=r"Loose\.take: give the parameter 'anything' a type"):
        Services({Loose: Loose()})


def test_an_offer_that_no_message_holds_is_refused_at_once() -> None:
    """More services than a child can be told of, or a longer name, is an error of the application, and no launch."""
    many = {new_class(f"Shelf{number}", (Shelf, Protocol)): object() for number in range(65)}
    with pytest.raises(TypeError, match="65 services are offered, and a child can have at most 64"):
        Services(many)
    with pytest.raises(TypeError, match=r"the name of LongLong.* has 132 characters, and may have at most 128"):
        Services({new_class("Long" * 33, (Shelf, Protocol)): object()})


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        ({Untyped: Taker()}, "Untyped.take: give the parameter 'anything' a type"),
        ({Shelf: object()}, "object has no method 'ask_back', which Shelf declares"),
    ],
)
def test_an_offer_that_cannot_be_held_is_refused_at_once(offered: dict[type, object], reason: str) -> None:
    """A parameter without a type, or an object without a method, is an error of the application."""
    with pytest.raises(TypeError, match=reason):
        Services(offered)


@pytest.mark.parametrize("host", [ProcessHost, SyncHost])
def test_what_is_no_offer_is_refused_at_once(host: Any) -> None:
    """An object that is offered without its interface is an error that shows what is expected."""
    words = r"services: expected a dict of interfaces and the objects that answer, such as \{.*\}, got <.*Taker object"
    with pytest.raises(TypeError, match=words):
        host(process("served:Plug"), services=Taker())


@pytest.mark.parametrize("host", [ProcessHost, SyncHost])
def test_a_host_takes_a_process_type(host: Any) -> None:
    """What is no process type is refused at once, with what to write."""
    with pytest.raises(TypeError, match=r"expected a Process such as .*, got 'served\.py:Plug'"):
        host("served.py:Plug")


HOSTILE: list[tuple[int, str, bytes, FailureKind]] = [
    (SHELF, "missing", b"\x90", "unknown-method"),
    (SHELF, "__class__", b"\x90", "unknown-method"),
    (SHELF, "host", b"\x90", "unknown-method"),
    (0, "read", b"\x90", "not-offered"),
    (2, "read", b"\x90", "not-offered"),
    (2**31, "read", b"\x90", "not-offered"),
    (SHELF, "read", b"\x90", "argument"),
    (SHELF, "read", b"\x91\x07", "argument"),
    (SHELF, "read", b"", "argument"),
    (SHELF, "read", b"\xc1\xff", "argument"),
    (SHELF, "read", b"\x91" * 60_000, "argument"),
    (SHELF, "read", b"\xdd\xff\xff\xff\xff", "argument"),
]


async def test_what_a_hostile_child_asks_is_refused() -> None:
    """Numbers and names beyond the offer and arguments of any other shape give a refusal and nothing else."""
    async with served(Memory(), "channel_abuser.py:Abuser", channel="socket") as host:
        for target, method, payload, kind in HOSTILE:
            assert await host.call("asks", target, method, payload) == kind


@pytest.mark.parametrize("name", SERVICE_ABUSES)
async def test_a_child_that_asks_against_the_rules_is_killed(name: str) -> None:
    """What is attached, what answers another call, what only the host may say: an error for the caller, no fd left."""
    with nothing_left():
        async with served(Memory(), "channel_abuser.py:Abuser", channel="socket", max_payload=1 << 20) as host:
            with suppress(PeerProtocolError, ChildEnded):  # where the call within broke, this one may be answered
                await host.call("abuse", name)
            assert "broke the protocol" in str(await host.wait())


async def test_a_flood_of_service_calls_starves_nobody() -> None:
    """The host's loop turns all the time, its memory stays, and the timeout ends the call."""
    answered: list[int] = [0]

    class Counting(Memory):
        def read(self, key: str) -> bytes:  # type: ignore[override]  # plain, so that it never waits
            answered[-1] += 1
            return self.kept[key]

    async def turn() -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            if answered[-1]:
                answered.append(0)

    async with served(Counting(), "channel_abuser.py:Abuser", channel="socket", cancel_grace=0.1) as host:
        before = resident()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn)
            with pytest.raises(CallTimeout):
                await host.call("flood", 5.0, timeout=0.5)
            await host.wait()
            tasks.cancel_scope.cancel()
    assert sum(answered) > 100
    assert max(answered) <= 4 * MAX_UNDER_WAY
    assert resident() - before < 16 << 20


@pytest.mark.parametrize(("target", "method"), [(SHELF, "read"), (SHELF, "missing"), (2, "not offered")])
async def test_a_child_that_never_reads_is_disconnected(target: int, method: str) -> None:
    """Calls without a look at the answers end with a reason, before the answers fill the host's memory."""
    memory = Memory()
    memory.kept["first"] = b"x" * 50_000
    with nothing_left():
        async with served(memory, "channel_abuser.py:Abuser", channel="socket") as host:
            before = resident()
            with pytest.raises(PeerProtocolError):
                await host.call("flood_and_never_read", target, method, FIRST)
            assert "broke the protocol" in str(await host.wait())
            assert resident() - before < 32 << 20


async def test_calls_under_way_end_with_the_child() -> None:
    """Services that wait for ever are cancelled when their child is gone."""
    cancelled: list[int] = []

    class Waiting(Memory):
        async def wait(self) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.append(1)

    async with served(Waiting(), "channel_abuser.py:Abuser", channel="socket") as host:
        await host.call("wait_for_nothing", MAX_UNDER_WAY)
        host.kill()
        await host.wait()
    assert len(cancelled) == MAX_UNDER_WAY
