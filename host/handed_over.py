"""What a `SyncHost` has in place of a `Conversation`: the threads of the application call, and this looks after it.

All of it but what threads call directly runs in the event loop of the host.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ..ipc.channel.base import Channel
from ..ipc.frames import Log
from ..ipc.messages import Ready
from ..ipc.peer.loops import Start
from ..ipc.peer.records import Answers
from ..ipc.peer.shared import SharedPeer
from ..ipc.peer.store import Store
from .calls import HostSide
from .conversation import Conversation, Owner
from .judge import Judge
from .pump import Pump

MAX_RECORDS = 1024
"""Records of the child's logging that may wait for the event loop; more are dropped and counted."""


class HandedOver(Conversation):
    """Calls in both directions, made and answered by threads. From `start` on there are ``shared`` and ``pump``.

    Attributes:
        over: Set when the channel is at its end, or is to be brought there.
    """

    shared: SharedPeer
    pump: Pump
    _is_ready = False

    def __init__(self, owner: Owner, make_proxy: Callable[[type, int], object]) -> None:
        super().__init__(owner)
        self.over = asyncio.Event()
        self._make_proxy = make_proxy
        self._loop = asyncio.get_running_loop()
        self._is_concurrent = False
        self._next_look: asyncio.TimerHandle | None = None
        self._records: deque[Log] = deque()
        self._dropped = 0

    def start(self, channel: Channel, targets: Mapping[int, Answers], start_soon: Start, ready: Ready) -> None:
        """See `Conversation.start`."""
        process = self._owner.process
        self._description, self._is_concurrent = ready.description, ready.concurrent
        self.judge = Judge(process, self._owner.kill)
        self.shared = SharedPeer(
            channel,
            HostSide(process.name, self._owner.took_refusals, self._make_proxy),
            Store(process.max_payload, arena_limit=process.shared_memory),
            targets,
            over=self._hear_end,
            gave_up=lambda: self._soon(self._look),
            rouse=lambda: self.pump.rouse(),
        )
        self.shared.on(Log, self._record)
        self._is_ready = True
        self.pump = Pump(self.shared, f"belljar {process.name} pump")

    @property
    def peer(self) -> SharedPeer | None:
        """See `Conversation.peer`."""
        return self.shared if self._is_ready else None

    async def shut_down(self) -> None:
        """See `Conversation.shut_down`."""
        self.shared.shut_down()

    async def close(self) -> None:
        """End all calls. The child has ended, so the threads that are in the channel leave it at once."""
        if self._is_ready:
            self.shared.close()
            self._log()

    # From any thread.

    def _soon(self, function: Callable[..., Any], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed, and all of this over
            self._loop.call_soon_threadsafe(function, *arguments)

    def _hear_end(self, error: BaseException) -> None:
        self.pump.stop()
        self._soon(self._take_end, error)

    def _record(self, frame: Log) -> None:
        """Leave *frame* to the loop: handlers of the application may do anything, and who reads holds locks."""
        if len(self._records) == MAX_RECORDS:
            self._dropped += 1
            return
        self._records.append(frame)
        if len(self._records) == 1:
            self._soon(self._log)

    # In the loop.

    def _log(self) -> None:
        while self._records:
            self._owner.child_log.take(self._records.popleft())
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._owner.child_log.take(Log("", 0, "", 0.0, dropped=dropped))

    def _take_end(self, error: BaseException) -> None:
        self.judge.broke(error)
        if not isinstance(error, Exception):
            self._owner.kill(f"a call was interrupted ({type(error).__name__}) while it was sent or answered")
        self.over.set()

    def _look(self) -> None:
        """Look for calls that were given up and do not end, now and as long as there are some."""
        grace = self._owner.process.cancel_grace
        if (late := self.shared.late(grace, concurrent=self._is_concurrent)) is not None:
            self.judge.late(late)
        if self._next_look is not None:
            self._next_look.cancel()
        self._next_look = self._loop.call_later(grace / 4, self._look) if self.shared.waits_in_vain else None
