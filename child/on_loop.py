"""Serving on an asyncio event loop: calls run at the same time, each as a task, and are really cancelled.

Loaded only by the step ``asyncio`` (`belljar.child.steps.asyncio`), before the seal: other children have no asyncio.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

from ..ipc.channel.base import Channel, EndOfChannel
from ..ipc.datagram import Datagram
from ..ipc.errors import CallError, ServiceError
from ..ipc.frames import Shutdown
from ..ipc.interface import Declared
from ..ipc.peer.asynchronous import AsyncPeer, current_call
from ..ipc.peer.blocking import Cancelled
from ..ipc.peer.loops import AsyncioLoop
from ..ipc.peer.outbox import CannotSend
from ..ipc.peer.records import Answers, Incoming, Outgoing
from ..ipc.peer.side import Side
from ..ipc.peer.store import Store
from .dispatch import ChildPeer, ChildSide
from .refused import RefusedImports
from .services import Services

PATIENCE = 3600.0
"""Seconds that the host may take to end a service call that was given up. Nothing follows from it."""


class ChildOnLoop(ChildPeer, AsyncPeer):
    """The peer of a child with an event loop; make it where that loop runs. ``serve`` is its whole life."""

    def __init__(self, channel: Channel, side: Side, store: Store, answers: Answers) -> None:
        super().__init__(
            channel,
            side,
            store,
            {0: answers},
            loop=AsyncioLoop(),
            broke=self._is_over,
            late=_is_late,
            explain=_explain,
            grace=PATIENCE,
            concurrent=True,
        )
        self._takers[Shutdown] = self._take_shutdown
        self._thread = threading.get_ident()
        self._under_way: set[Incoming] = set()
        self._is_shut = False
        self._over = asyncio.Event()

    async def serve(self) -> None:
        """Answer calls until the host says shutdown and those under way are done, all but streams.

        Raises:
            EndOfChannel: the host is gone.
            PeerProtocolError: it broke the protocol.
        """
        self.start()
        await self._over.wait()
        if self.ended is not None:
            raise self.ended
        self._flush()
        for data, fds in self._outbox.waiting:
            self.channel.wait_send(data, fds, None)

    def ask(self, target: int, method: Declared, arguments: tuple[Any, ...]) -> Any:
        """Call the host: what is returned is to be awaited, or is an asynchronous iterator."""
        if method.kind == "stream":
            return self.stream(target, method, arguments)
        if method.kind == "notify":
            return self.notify(target, method, arguments)
        return self._asked(target, method, arguments)

    async def _asked(self, target: int, method: Declared, arguments: tuple[Any, ...]) -> Any:
        try:
            return await self.call(target, method, arguments)
        except CallError as error:  # calls are nested too deep
            raise ServiceError(str(error)) from None

    def checkpoint(self) -> None:
        """Look at what has come, if this is the loop's thread. Raises `Cancelled` if the call was given up."""
        if threading.get_ident() == self._thread:
            self._readable()
        call = current_call()
        if self.ended is not None or (call is not None and call.cancelled):
            raise Cancelled

    def _is_over(self, error: BaseException) -> None:
        self._over.set()
        if isinstance(error, CannotSend):  # else the host would not know why the child ended
            with suppress(Exception):  # the plugin may have closed it, or put something else in its place
                print(f"the channel to the host failed: {error}", flush=True)

    def _take_shutdown(self, frame: Shutdown, received: Datagram) -> None:
        self._is_shut = True
        for incoming in self._under_way:
            if incoming.answer.declared.kind == "stream":  # the host reads no more of it
                incoming.cancelled = True
                self._cancelled(incoming)
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._is_shut and not self._under_way:
            self._over.set()

    def _start(self, incoming: Incoming) -> None:
        self._under_way.add(incoming)
        super()._start(incoming)

    async def _run(self, incoming: Incoming) -> None:
        try:
            await super()._run(incoming)
        except (SystemExit, KeyboardInterrupt, Cancelled):
            return  # that is its answer, as in a child without loop, and no end of the loop
        except BaseException as error:
            if self._answering.get(incoming.call_id) is incoming:  # a group of the plugin's that cannot be split
                self._fail(incoming, error)
            raise
        finally:
            self._under_way.discard(incoming)
            if self.idle is not None:
                self.idle()
            self._end_if_idle()


def _is_late(call: Outgoing) -> None:
    """The host is trusted."""


async def _explain(method: str, error: Exception) -> Exception:
    """Return what a plugin gets that calls *method* of a service."""
    return error if isinstance(error, EndOfChannel) else ServiceError(f"could not call {method}: {error}")


def make_peer(
    channel: Channel, answers: Answers, refused: RefusedImports, services: Services, max_payload: int
) -> ChildOnLoop:
    """Return the peer of a child on the loop that runs now, whose plugin has *answers*."""
    return ChildOnLoop(channel, ChildSide(refused, services), Store(max_payload, copies=False), answers)
