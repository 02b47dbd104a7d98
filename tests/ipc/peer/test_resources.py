"""What a child may take of its host by what it says: fds, memory and turns of the loop are counted, and never lost."""

from __future__ import annotations

import asyncio
import gc
import time
from threading import Event, Thread

import anyio
import pytest

from belljar.ipc.frames import Call, Credit, Handle, Items, Piece, Reply, Share, Unshare
from belljar.ipc.payload import make_sealed
from belljar.ipc.peer.attachments import MAX_WAITING

from ...helpers import open_fds
from .test_hostile_peer import METHODS, NIL, facing

NO_ARGUMENTS = b"\x90"
ONE_UPLOAD = b"\x91\xc0"


@pytest.mark.anyio
async def test_a_piece_that_is_none_is_refused_as_it_comes() -> None:
    """Before anybody looks for it: one that a method never reads would else raise where nothing catches that."""
    async with facing() as child:
        child.says(Call(1, 1, "total", ONE_UPLOAD))
        await child.answered(Credit)
        item = Items(1, 1, (b"\x01",), (Piece(77, 0, 100),))
        child.says(Items(1, 1, (b"\xa1x",)), item, item, item)  # the first fails the method, which reads no more
        assert "which there is not" in await child.broken()


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["wait", "ignore"])
async def test_fds_that_nobody_looks_at_are_counted(method: str) -> None:
    """Those that came and wait, with a call or with an item, are bounded: all children share the host's fds."""
    async with facing() as child:
        before, number = len(open_fds()), 0
        if method == "ignore":
            child.says(Call(1, 1, method, ONE_UPLOAD))
            await child.answered(Credit)
        while not child.broke:
            number += 1
            handles = (Handle("file"),) * 4
            frame = Call(number, 1, method, NO_ARGUMENTS, handles) if method == "wait" else Items(1, 1, (), handles)
            child.says(frame, fds=[2] * 4)
            await child.turns(3)
            assert len(open_fds()) - before <= MAX_WAITING
        assert "nobody has looked at" in str(child.broke[0])
    assert len(open_fds()) <= before


@pytest.mark.anyio
async def test_endless_items_leave_the_loop_to_others() -> None:
    """A child that grants all credit there is, and reads as fast as the host writes, does not keep its loop."""
    async with facing() as child:
        over, count = Event(), b"\xce\x7f\xff\xff\xff"

        def read() -> None:
            while not over.is_set():
                child.hostile.wait_receive(0.01)

        reader = Thread(target=read)
        reader.start()
        try:
            child.says(Call(1, 1, "numbers", b"\x91" + count, credit=2**50))
            await child.turns()
            began = time.monotonic()
            await child.turns(10)
            assert time.monotonic() - began < 1.0
        finally:
            over.set()
            reader.join()


@pytest.mark.anyio
async def test_many_calls_as_one_are_for_hosts() -> None:
    """A child that makes a million calls in one would keep the loop until all are answered."""
    async with facing() as child:
        child.says(Call(1, 1, "add", b"\x91\x92\x01\x02", many=True))
        assert "only a host" in await child.broken()


@pytest.mark.anyio
async def test_a_stream_that_is_dropped_takes_what_came_along() -> None:
    """Its items were not looked at, and nobody will: their fds are closed, whether or not the stream was over."""
    async with facing() as child:
        before = len(open_fds())
        for is_over in (False, True):
            items = child.peer.stream(0, METHODS["numbers"], (1,))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(items.__anext__)
                number = (await child.answered(Call)).call_id
                child.says(Items(number, 0, (b"\x01",)))
                child.says(Items(number, 0, (b"\x02",), (Handle("file"),)), fds=[2])
                if is_over:
                    child.says(Reply(number, NIL))
            await child.turns()
            assert len(open_fds()) == before + 1
            del items
            gc.collect()
            child.says(Call(number, 7, "nothing", NIL))  # any news
            await child.turns()
            assert len(open_fds()) == before
        assert not child.broke


def test_an_answer_that_comes_with_a_cancellation() -> None:
    """The call is over and its caller is gone, in one turn of the loop: what came with the answer is closed."""

    async def race() -> None:
        async with facing() as child:
            task = asyncio.create_task(child.peer.call(0, METHODS["total"], (iter(()),)))
            number = (await child.answered(Call)).call_id
            before = len(open_fds())
            child.says(Reply(number, b"\x01", (Handle("file"),)), fds=[2])
            child.peer._readable()
            assert len(open_fds()) == before + 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(open_fds()) == before

    asyncio.run(race())
