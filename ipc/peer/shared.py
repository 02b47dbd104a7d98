"""The blocking engine for several threads that call the same peer, as those of an application do.

Whoever waits reads for all, and answers what the other side calls meanwhile; `pump` does both while nobody waits. What
every call touches is guarded by one lock; it is not held while anybody waits for anything but room to send.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from ..channel.base import Channel, EndOfChannel
from ..datagram import Datagram
from ..interface.codec import Codec
from ..interface.declared import Declared
from ..messages import MAX_INLINE
from .base import Side
from .blocking import BlockingPeer
from .records import Answers, Incoming, Outgoing, Reader
from .store import Store


class _Stack(threading.local):
    """The calls that one thread answers, the innermost last."""

    def __init__(self) -> None:
        self.running: list[Incoming] = []


class SharedPeer(BlockingPeer):
    """A peer without executor; `call`, `notify` and streams may be used by any number of threads."""

    def __init__(self, channel: Channel, side: Side, store: Store, offers: Mapping[int, Answers]) -> None:
        self._stack = _Stack()
        self._guard = threading.RLock()
        super().__init__(channel, side, store, offers, executor=False)

    @property
    def _running(self) -> list[Incoming]:
        return self._stack.running

    @_running.setter
    def _running(self, value: list[Incoming]) -> None:
        """Each thread has its own from the start."""

    def call(self, target: int, method: Declared, arguments: tuple[Any, ...], timeout: float | None = None) -> Any:
        """See `BlockingPeer.call`. Here too is a short way for a call that is alone and has nothing attached."""
        if not method.is_simple or self._calls or self.store.is_read or self._stack.running or self.ended is not None:
            return super().call(target, method, arguments, timeout)
        payload = method.encode_arguments(arguments)
        if len(payload) > MAX_INLINE or not self._reading.acquire(False):
            return super().call(target, method, arguments, timeout)
        call = self._ask_at_once(target, method, payload, timeout)
        return self.finish(call)

    def _ask_at_once(self, target: int, method: Declared, payload: bytes, timeout: float | None) -> Outgoing:
        """Send a call and wait for the next datagram, which is nearly always its answer. This thread is the reader."""
        end = None if timeout is None else time.monotonic() + timeout
        try:
            with self._guard, self._sending:
                call, data = self._begin_at_once(target, method, payload, timeout)
                call.deadline = end
                try:
                    if not self.channel.send(data):
                        self._send_slowly(data, (), end)
                except BaseException:
                    self._calls.pop(call.call_id, None)  # it was not sent
                    raise
            self._read(end)
        except EndOfChannel as error:
            self.end(error)
            call.error, call.done = error, True
        finally:
            self._reading.release()
            if self._followers:
                self._tell_followers()
        return call

    def _send_call(
        self,
        target: int,
        method: Declared,
        arguments: tuple[Any, ...],
        timeout: float | None,
        *,
        many: bool = False,
    ) -> Outgoing:
        with self._guard:  # calls are sent in the order of their numbers
            return super()._send_call(target, method, arguments, timeout, many=many)

    def take(self, received: Datagram) -> None:
        """See `Peer.take`."""
        with self._guard:
            super().take(received)

    def _outcome(self, call: Outgoing) -> Any:
        with self._guard:
            return super()._outcome(call)

    def next_item(self, call_id: int, stream: int, reader: Reader, codec: Codec | None) -> Any:
        """See `Peer.next_item`."""
        with self._guard:
            return super().next_item(call_id, stream, reader, codec)

    def _give_up(self, call: Outgoing) -> None:
        with self._guard:
            super()._give_up(call)

    def pump(self) -> None:
        """Take what has come, and answer it; return at once if there is nothing, or if another thread reads."""
        self._take_what_came()
        while self._work():
            pass
