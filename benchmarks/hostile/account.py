"""What became of each message of a hostile child, as its host's peer took it."""

# It looks into a peer that knows nothing of it.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from belljar import ProcessHost
from belljar.ipc.datagram import Datagram
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.frames import Attached, Cancel, Credit, End, Failed, Frame, Items, Notify, Reply
from belljar.ipc.peer.asynchronous import AsyncPeer


@dataclass
class Account:
    """Messages: frames, and datagrams that are none.

    Attributes:
        datagrams: in how many they came.
        acted: on these the host acted: answered them, logged them, woke a reader.
        ignored: these crossed something that is over, or were for nobody; a rule says that nothing happens.
        breaches: with these the child broke the protocol; each was its child's last.
        behind: these came in the same datagram behind a breach, and were not looked at.
    """

    datagrams: int = 0
    acted: int = 0
    ignored: int = 0
    breaches: int = 0
    behind: int = 0

    @property
    def messages(self) -> int:
        """All of them."""
        return self.acted + self.ignored + self.breaches + self.behind

    def end(self, reason: str) -> None:
        """The child has ended for *reason*: perhaps for arguments, at which nobody had looked before."""
        if not self.breaches and reason.startswith("it broke the protocol"):
            self.acted -= 1
            self.breaches += 1

    def __iadd__(self, other: Account) -> Account:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        return self


class Accountant:
    """Looks over the shoulder of the peer of *host*: it notes in *account* what comes, and what becomes of it."""

    def __init__(self, host: ProcessHost, account: Account) -> None:
        self.account = account
        self._peer = peer = host._conversation.ready_peer("babble")
        self._frames = self._taken = 0
        self._receive, self._take, self._decode = peer.channel.receive, peer.take, peer._decode
        peer.channel.receive = self._on_receive  # type: ignore[method-assign]
        peer.take = self._on_take  # type: ignore[method-assign]
        peer._decode = self._on_decode
        for kind, taker in list(peer._takers.items()):
            peer._takers[kind] = self._watched(taker)

    def _on_receive(self) -> Datagram | None:
        if self._peer.ended is not None:  # its last words, of which only the log is heard
            return self._receive()
        try:
            return self._receive()
        except PeerProtocolError:
            self.account.datagrams += 1
            self.account.breaches += 1
            raise

    def _on_decode(self, data: bytes | memoryview) -> Any:
        frames = self._decode(data)
        self._frames = len(frames)
        return frames

    def _on_take(self, received: Datagram) -> None:
        self.account.datagrams += 1
        self._frames, self._taken = 1, 0
        try:
            self._take(received)
        except PeerProtocolError:
            self.account.breaches += 1
            self.account.behind += self._frames - self._taken - 1
            raise
        self.account.acted += self._frames - self._taken  # by the short way of a peer, which asks no taker

    def _watched(self, taker: Any) -> Any:
        def take(frame: Frame, received: Datagram) -> None:
            is_ignored = ignored_by_rule(self._peer, frame)
            taker(frame, received)
            self._taken += 1
            if is_ignored:
                self.account.ignored += 1
            else:
                self.account.acted += 1

        return take


def ignored_by_rule(peer: AsyncPeer, frame: Frame) -> bool:
    """Whether nothing may come of *frame*, which *peer* is about to take, if it is not a breach."""
    match frame:
        case Notify():
            answer = peer._targets.get(frame.target, {}).get(frame.method)
            return answer is None or answer.declared.kind != "notify"
        case Reply() | Failed():
            return frame.call_id not in peer._calls
        case Cancel():
            incoming = peer._answering.get(frame.call_id)
            return incoming is None or incoming.cancelled
        case Items() | End():
            return frame.call_id not in (peer._answering if frame.stream else peer._calls)
        case Credit() if frame.stream:
            call = peer._calls.get(frame.call_id) or peer._given_up.get(frame.call_id)
            return call is None or frame.stream - 1 not in call.writers
        case Credit():
            called = peer._answering.get(frame.call_id)
            return called is None or called.answer.declared.kind != "stream"
        case Attached():
            offered = peer.store._offered
            return offered is None or offered.generation != frame.generation
        case _:
            return False
