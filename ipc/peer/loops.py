"""What an asynchronous peer needs of an event loop, in as few steps as each allows.

Not through anyio: its tasks and events cost several times what the loops themselves do, and a child that runs asyncio
has no anyio. Readiness wakes a callback; a call parks its task and is woken by it. See docs/performance.md.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import trio

Start: TypeAlias = Callable[..., Any]
"""Starts a function as a task of the host's task group: ``start(function, *arguments)``."""


class Waiting(Protocol):
    """What a task can park on."""

    waiter: Any


class Loop(Protocol):
    """One event loop, for one peer."""

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call *callback* whenever *fd* is readable, until `unwatch` or `close`."""
        ...

    def unwatch(self, fd: int) -> None:
        """End `watch`."""
        ...

    def watch_writable(self, fd: int, callback: Callable[[], bool]) -> None:
        """Call *callback* when *fd* is writable, until it returns True."""
        ...

    def soon(self, callback: Callable[[], None]) -> None:
        """Call *callback* in the next turn of the loop."""
        ...

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call *callback* after *seconds*, unless `close` comes first, or another `later`: there is one timer."""
        ...

    async def park(self, record: Waiting) -> None:
        """Wait until `wake` is called with ``record.waiter``."""
        ...

    def wake(self, waiter: Any) -> None:
        """Wake what is parked on *waiter*; None is nobody."""
        ...

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> Any:
        """Start a task; return what `cancel` takes. `close` cancels it."""
        ...

    def cancel(self, task: Any) -> None:
        """Cancel a task that `spawn` started."""
        ...

    async def pause(self) -> None:
        """Let others run."""
        ...

    async def close(self) -> None:
        """End all that was begun here, and wait for its end."""
        ...


class AsyncioLoop:
    """asyncio, and what follows its protocol, such as uvloop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watched: set[int] = set()
        self._written: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """See `Loop.watch`."""
        self._watched.add(fd)
        self._loop.add_reader(fd, callback)

    def unwatch(self, fd: int) -> None:
        """See `Loop.unwatch`."""
        self._watched.discard(fd)
        self._loop.remove_reader(fd)

    def watch_writable(self, fd: int, callback: Callable[[], bool]) -> None:
        """See `Loop.watch_writable`."""

        def writable() -> None:
            if callback():
                self._written.discard(fd)
                self._loop.remove_writer(fd)

        self._written.add(fd)
        self._loop.add_writer(fd, writable)

    def soon(self, callback: Callable[[], None]) -> None:
        """See `Loop.soon`."""
        self._loop.call_soon(callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """See `Loop.later`."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, callback)

    async def park(self, record: Waiting) -> None:
        """See `Loop.park`."""
        record.waiter = future = self._loop.create_future()
        try:
            await future
        finally:
            record.waiter = None

    def wake(self, waiter: Any) -> None:
        """See `Loop.wake`."""
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> asyncio.Task[None]:
        """See `Loop.spawn`."""
        task = self._loop.create_task(function(*arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self, task: Any) -> None:
        """See `Loop.cancel`. A task that has not begun does so first: else it could not answer."""
        if inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_CREATED:
            self._loop.call_soon(task.cancel)
        else:
            task.cancel()

    async def pause(self) -> None:
        """See `Loop.pause`."""
        await asyncio.sleep(0)

    async def close(self) -> None:
        """See `Loop.close`."""
        for fd in self._watched:
            self._loop.remove_reader(fd)
        for fd in self._written:
            self._loop.remove_writer(fd)
        self._watched.clear()  # other fds may have these numbers by the time of a second close
        self._written.clear()
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Parked:
    """A trio task that waits; it may be woken once."""

    __slots__ = ("asleep", "task")

    def __init__(self, task: Any) -> None:
        self.task = task
        self.asleep = True


class TrioLoop:
    """trio. *start* starts tasks in a nursery that outlives this."""

    def __init__(self, start: Start) -> None:
        import trio

        self._trio = trio
        self._start = start
        self._scopes: set[trio.CancelScope] = set()
        self._watching: dict[int, trio.CancelScope] = {}
        self._timer: trio.CancelScope | None = None
        self._ended = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """See `Loop.watch`."""

        async def watching() -> None:
            wait = self._trio.lowlevel.wait_readable
            while True:
                await wait(fd)
                callback()

        self._watching[fd] = self.spawn(watching)

    def unwatch(self, fd: int) -> None:
        """See `Loop.unwatch`."""
        self._watching.pop(fd).cancel()

    def watch_writable(self, fd: int, callback: Callable[[], bool]) -> None:
        """See `Loop.watch_writable`."""

        async def watching() -> None:
            await self._trio.lowlevel.wait_writable(fd)
            while not callback():
                await self._trio.lowlevel.wait_writable(fd)

        self.spawn(watching)

    def soon(self, callback: Callable[[], None]) -> None:
        """See `Loop.soon`."""
        self._token.run_sync_soon(callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """See `Loop.later`."""

        async def sleeping() -> None:
            await self._trio.sleep(seconds)
            callback()

        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.spawn(sleeping)

    async def park(self, record: Waiting) -> None:
        """See `Loop.park`."""
        lowlevel = self._trio.lowlevel
        parked = record.waiter = _Parked(lowlevel.current_task())

        def abort(_raise: object) -> Any:
            parked.asleep = False
            return lowlevel.Abort.SUCCEEDED

        try:
            await lowlevel.wait_task_rescheduled(abort)
        finally:
            record.waiter = None

    def wake(self, waiter: Any) -> None:
        """See `Loop.wake`."""
        if waiter is not None and waiter.asleep:
            waiter.asleep = False
            self._trio.lowlevel.reschedule(waiter.task)

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> trio.CancelScope:
        """See `Loop.spawn`."""
        scope = self._trio.CancelScope()
        self._scopes.add(scope)
        self._start(self._run, scope, function, arguments)
        return scope

    async def _run(
        self, scope: trio.CancelScope, function: Callable[..., Coroutine[Any, Any, None]], arguments: tuple[Any, ...]
    ) -> None:
        with scope:
            try:
                await function(*arguments)
            finally:
                self._scopes.discard(scope)
                if not self._scopes:
                    self._ended.set()

    def cancel(self, task: Any) -> None:
        """See `Loop.cancel`."""
        task.cancel()

    async def pause(self) -> None:
        """See `Loop.pause`."""
        await self._trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """See `Loop.close`."""
        self._ended = self._trio.Event()
        for scope in list(self._scopes):
            scope.cancel()
        if self._scopes:
            await self._ended.wait()


def apart(group: BaseExceptionGroup[BaseException]) -> tuple[Exception | None, BaseException]:
    """Return what failed in *group*, if anything did, and the rest, such as a cancellation.

    trio has both in one group where a task is cancelled and fails in its cleanup; its nursery wants the rest alone.
    """
    failed, rest = group.split(Exception)
    return failed, rest or group


def current_loop(library: str, start: Start) -> Loop:
    """Return the adapter of the loop that runs now; *library* is what sniffio or anyio call it."""
    return TrioLoop(start) if library == "trio" else AsyncioLoop()
