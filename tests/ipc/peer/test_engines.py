"""What holds between two peers, whatever their engines: calls, streams, errors, cancellation, both ways at once."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from belljar.ipc.errors import CallError, CallTimeout, RemoteError
from belljar.ipc.interface.errors import ArgumentsUnfit
from belljar.ipc.peer.asynchronous import AsyncPeer
from belljar.ipc.peer.records import MAX_DEPTH, WINDOW

from .ends import ENGINES, Broken, Side, happens, on_all_engines, two

pytestmark = pytest.mark.anyio

on_loops = pytest.mark.parametrize("engines", [name for name in ENGINES if not name.startswith("threads")])
"""Where the caller can be cancelled: a thread cannot."""


@pytest.fixture
def anyio_backend(engines: str) -> str:
    return "trio" if engines.startswith("trio") else "asyncio"


class NeverYields(AsyncIterator[int]):
    """A stream without news."""

    async def __anext__(self) -> int:
        await anyio.sleep_forever()
        raise StopAsyncIteration


async def settled(side: Side) -> None:
    """Wait until *side* has answered all calls and nobody waits for an answer."""
    with anyio.fail_after(5):
        while side.peer._answering or side.peer._calls:
            await anyio.lowlevel.checkpoint()


@on_all_engines
async def test_calls_large_and_small(engines: str) -> None:
    """Arguments and results travel whether they fit a datagram, lie in an arena or in a memfd; nothing stays behind."""
    async with two(engines) as (left, right):
        for size in (0, 1, 1000, 64_400, 64_512, 65_536, 300_000, 300_000, 2 << 20, 2 << 20):
            data = bytes(range(256)) * (size // 256 + 1)
            assert await left.other.reversed(data[:size]) == data[:size][::-1]
        await settled(left)
        assert not right.peer._answering
        use = left.peer.store.use
        assert use.written is not None
        assert use.written.used == 0


@on_all_engines
async def test_pieces_that_no_answer_gives_back_are_released(engines: str) -> None:
    """Large arguments of a notification, and large answers to a child, leave the arena when they were read."""
    async with two(engines) as (left, _):
        for _ in range(5):
            await left.other.note("x" * 300_000)
            assert await left.other.other_reversed(300_000) == 300_000
        assert await left.other.add(1, 2) == 3  # tells of the last ones
        use = left.peer.store.use
        assert use.written is not None
        assert use.written.puts >= 5
        assert use.written.used == 0


@on_all_engines
async def test_the_next_call_says_that_a_result_was_read(engines: str) -> None:
    """It does so once: the calls after it have nothing to say, and go the short way again."""
    async with two(engines) as (left, right):
        for _ in range(3):  # the first finds no arena
            assert len(await left.other.reversed(b"x" * 300_000)) == 300_000
        before = left.peer.store.may_release
        assert await left.other.add(1, 2) == 3
        assert (before, left.peer.store.may_release) == (True, False)
        use = right.peer.store.use
        assert use.written is not None
        assert use.written.used == 0


@on_all_engines
async def test_many_calls_at_once(engines: str) -> None:
    """A hundred calls under way each get their own answer, those that go back and forth among them too."""
    sums: dict[int, int] = {}

    async def add(number: int) -> None:
        sums[number] = await left.other.add(number, number) + await left.other.deeper(number % 4)

    async with two(engines) as (left, _), anyio.create_task_group() as tasks:
        for number in range(40 if engines.startswith("threads") else 100):
            tasks.start_soon(add, number)
    assert sums == {number: 2 * number + number % 4 for number in sums}
    assert len(sums) >= 20


@on_all_engines
async def test_calls_nest_to_a_depth(engines: str) -> None:
    """Call, service, call... 16 deep; the next is refused, and both sides go on."""
    async with two(engines) as (left, _):
        assert await left.other.deeper(MAX_DEPTH) == MAX_DEPTH
        with pytest.raises(RemoteError, match=r"nested more than 16 deep|failed in the host"):
            await left.other.deeper(MAX_DEPTH + 1)
        assert await left.other.deeper(2) == 2


@on_all_engines
async def test_errors_arrive_as_far_as_they_were_declared(engines: str) -> None:
    """A declared error is its own class with the text; of another the host learns text, the child next to nothing."""
    async with two(engines) as (left, _):
        with pytest.raises(Broken, match=r"^why$") as caught:
            await left.other.fail("declared", "why")
        assert isinstance(caught.value.__cause__, RemoteError)
        with pytest.raises(RemoteError, match="'fail' raised ValueError: why") as remote:
            await left.other.fail("another", "why")
        assert "raise Broken(text) if" in remote.value.remote_traceback
        assert await left.other.hear("declared", "why") == "Broken: why"
        assert await left.other.hear("another", "a secret") == "ServiceError: Works.fail failed in the host"


@on_all_engines
@pytest.mark.parametrize("text", ["x" * 100_000, "\U0001f514" * 50_000, "\ud800", "a\nb\x1b[31m"], ids=ascii)
async def test_texts_of_errors_are_bounded(engines: str, text: str) -> None:
    """However long an error is, and whatever is in it, its text arrives, cut; a terminal obeys nothing of it."""
    async with two(engines) as (left, _):
        for kind, error in (("declared", Broken), ("another", RemoteError)):
            with pytest.raises(error) as caught:
                await left.other.fail(kind, text.encode("utf-8", "replace").decode())
            said = str(caught.value)
            assert len(said) < 4200
            assert said.replace("\n", "" if kind == "declared" else "\n").isprintable()
            remote = caught.value if kind == "another" else caught.value.__cause__
            assert isinstance(remote, RemoteError)
            assert remote.remote_traceback.replace("\n", "").isprintable()
        assert await left.other.add(1, 2) == 3


@on_all_engines
async def test_an_upload_may_be_left_out(engines: str) -> None:
    """As any argument that has a default with whoever is called."""
    async with two(engines) as (left, _):
        assert await left.other.total_from(5) == 5
        assert await left.other.total_from(5, iter([1, 2])) == 8


@on_all_engines
async def test_streams_of_results(engines: str) -> None:
    """Items arrive in order, all of them, more than are ever on their way; in both directions."""
    async with two(engines) as (left, right):
        assert [item async for item in left.other.numbers(3 * WINDOW + 7)] == list(range(1, 3 * WINDOW + 8))
        assert [item async for item in left.other.numbers(0)] == []
        assert right.works.ended.is_set()
        assert await left.other.other_numbers(3 * WINDOW) == sum(range(3 * WINDOW + 1))
        await settled(left)


@on_all_engines
async def test_streams_of_arguments(engines: str) -> None:
    """An upload arrives in order, beside results too; in both directions."""
    count = 3 * WINDOW + 7
    async with two(engines) as (left, _):
        assert await left.other.total(iter(range(count))) == sum(range(count))
        assert [item async for item in left.other.doubled(iter(range(count)))] == [2 * item for item in range(count)]
        assert await left.other.other_total(count) == sum(range(count))
        await settled(left)


@on_all_engines
async def test_a_slow_reader_stops_the_writer(engines: str) -> None:
    """What is not read is not produced: no more than the window waits, however long."""
    async with two(engines) as (left, right):
        items = left.other.numbers(10 * WINDOW)
        assert await anext(items) == 1
        for _ in range(20):  # the writer goes on between calls, if it may
            await left.other.add(1, 1)
        assert right.works.produced <= WINDOW + 1
        for expected in range(2, 5 * WINDOW):
            assert await anext(items) == expected
            (call,) = left.peer._calls.values()
            assert call.reader is not None
            assert len(call.reader.items) <= WINDOW
        await left.other.add(1, 1)
        assert right.works.produced <= 6 * WINDOW + 1
        await items.aclose()


@on_all_engines
async def test_a_slow_method_stops_an_upload(engines: str) -> None:
    """Of an argument that nobody reads, no more than the window is taken from its iterator."""
    taken: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(1)
            yield 1

    async with two(engines) as (left, _):
        items = left.other.doubled(endless())
        assert await anext(items) == 2
        for _ in range(20):
            await left.other.add(1, 1)
        assert len(taken) <= 3 * WINDOW  # one window is unread, one is in the method's results, one was granted anew
        await items.aclose()
        await settled(left)


@on_loops
async def test_a_stream_that_is_closed_by_another_task_ends_the_wait_for_it(engines: str) -> None:
    """Whoever waits for an item sees the end of the stream, and does not wait for ever."""
    async with two(engines) as (left, _):
        items = left.other.doubled(NeverYields())

        async def close() -> None:
            await anyio.wait_all_tasks_blocked()
            await items.aclose()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(close)
                assert [item async for item in items] == []


@on_all_engines
async def test_a_stream_that_is_closed_early_ends(engines: str) -> None:
    """Closing a stream ends the generator behind it, with its finally blocks; the child goes on."""
    async with two(engines) as (left, right):
        items = left.other.numbers(10**9)
        assert await anext(items) == 1
        await items.aclose()
        await happens(right.works.ended)
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        assert await left.other.add(1, 2) == 3
        await settled(right)


@on_loops
async def test_a_stream_that_is_dropped_ends(engines: str) -> None:
    """So does forgetting it."""
    async with two(engines) as (left, right):
        items = left.other.numbers(10**9)
        assert await anext(items) == 1
        del items
        gc.collect()
        assert await left.other.add(1, 2) == 3
        await happens(right.works.ended)
        await settled(right)


@on_all_engines
async def test_a_stream_that_a_method_drops_ends(engines: str) -> None:
    """The same of a stream of the host's that a plugin does not read to its end."""
    async with two(engines) as (left, _):
        assert await left.other.other_first() == 1
        gc.collect()
        assert await left.other.add(1, 2) == 3
        await happens(left.works.ended)
        await settled(left)


@on_all_engines
async def test_an_upload_that_breaks(engines: str) -> None:
    """The method sees that its argument broke, and the caller gets its own error, whatever the method made of that."""

    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("mine")

    async with two(engines) as (left, right):
        with pytest.raises(KeyError, match="mine"):
            await left.other.total(broken())
        assert right.works.ended.is_set()
        assert await left.other.add(1, 2) == 3


@on_all_engines
async def test_notifications_keep_their_place(engines: str) -> None:
    """A notification has no answer, and one that was sent before a call is heard before it."""
    async with two(engines) as (left, _):
        for number in range(300):
            await left.other.note(str(number))
        assert await left.other.noted() == [str(number) for number in range(300)]


@on_all_engines
async def test_a_callback_lives_as_long_as_its_call(engines: str) -> None:
    """An object that is passed can be called until the call ends, and not after it."""
    if engines.startswith("threads"):
        pytest.skip("a SyncHost's proxies are tested in tests/host")
    steps: list[int] = []

    class Steps:
        def at(self, step: int) -> int:
            steps.append(step)
            return step

    async with two(engines) as (left, _):
        before = dict(left.peer._targets)
        assert await left.other.watched(Steps(), 5) == 10
        assert steps == [0, 1, 2, 3, 4]
        await left.other.keep(Steps())
        assert left.peer._targets == before
        assert "ServiceError: it was passed by reference" in await left.other.use_kept()


@on_all_engines
async def test_arguments_that_do_not_fit_are_not_sent(engines: str) -> None:
    """They are an error of the caller's, and the call leaves nothing behind."""
    async with two(engines) as (left, _):
        with pytest.raises((CallError, ArgumentsUnfit)):
            await left.other.add("one", 2)
        with pytest.raises((CallError, ArgumentsUnfit)):
            await left.other.reversed(bytes(65 << 20))
        assert not left.peer._calls
        assert await left.other.add(1, 2) == 3


@on_loops
@pytest.mark.parametrize("method", ["wait", "compute"])
async def test_cancelling_a_call_that_runs(engines: str, method: str) -> None:
    """A method that waits in a service, or looks around while it computes, ends when its caller is cancelled."""
    async with two(engines) as (left, right):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(getattr(left.other, method))
                await happens(right.works.began)
                scope.cancel()
        await happens(right.works.ended)
        assert await left.other.add(1, 2) == 3
        await settled(left)
        await settled(right)


@on_loops
async def test_cancelling_an_upload(engines: str) -> None:
    """A method that waits for an item of its argument ends when its caller is cancelled."""

    async def silent() -> Any:
        await anyio.sleep_forever()
        yield 1

    async with two(engines) as (left, right):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(left.other.total, silent())
                await happens(right.works.began)
                scope.cancel()
        await happens(right.works.ended)
        assert await left.other.add(1, 2) == 3


@on_all_engines
async def test_a_deadline_ends_a_call_at_once(engines: str) -> None:
    """When its time is over a call ends at its caller and is cancelled at its callee; late answers are ignored."""
    async with two(engines, call_timeout=0.05, cancel_grace=5.0) as (left, right):
        if engines.startswith("threads"):
            left.other._timeout = 0.05
        for _ in range(3):
            right.works.ended.clear()
            with pytest.raises(CallTimeout, match=r"'compute' did not answer within 0\.05 s"):
                await left.other.compute()
            await happens(right.works.ended)
            assert await left.other.add(1, 2) == 3


@on_loops
async def test_what_was_asked_before_the_shutdown_is_answered(engines: str) -> None:
    """A child that is asked to end answers first what waits for its turn."""
    sums: list[int] = []

    async def add(number: int) -> None:
        sums.append(await left.other.add(number, number))

    async with two(engines) as (left, right), anyio.create_task_group() as tasks:
        tasks.start_soon(left.other.wait)
        await happens(right.works.began)
        for number in range(3):
            tasks.start_soon(add, number)
        await anyio.wait_all_tasks_blocked()
        assert isinstance(left.peer, AsyncPeer)
        await left.peer.shut_down()
        left.works.over.set()
    assert sorted(sums) == [0, 2, 4]


@on_loops
async def test_the_end_of_the_channel_ends_all(engines: str) -> None:
    """Whoever waits for an answer or an item learns that there will be none."""
    ended: list[str] = []

    async def ends(name: str, *arguments: Any) -> None:
        try:
            await getattr(left.other, name)(*arguments)
        except Exception as error:  # noqa: BLE001 - whichever it is
            ended.append(type(error).__name__)

    async with two(engines) as (left, right), anyio.create_task_group() as tasks:
        tasks.start_soon(ends, "wait")
        await happens(right.works.began)
        right.peer.channel.sock.shutdown(2)  # type: ignore[attr-defined]
    assert ended == ["EndOfChannel"]
