"""The child's side of calls: the plugin's methods as answers, and how its errors are told."""

from __future__ import annotations

from ..ipc.channel.base import Channel
from ..ipc.errors import ServiceError
from ..ipc.frames import Failed, FailureKind, Reply, decode_from_host
from ..ipc.interface import ArgumentsUnfit, ValueUnfit
from ..ipc.peer.blocking import BlockingPeer, Cancelled
from ..ipc.peer.records import Answers, Incoming, Outgoing
from ..ipc.peer.store import Store
from .errors_as_text import describe
from .refused import RefusedImports
from .services import Services

OWN_FRAMES = 3
"""The frames of belljar's at the root of what a plugin raised."""


class ChildSide:
    """How the child tells and hears errors (`belljar.ipc.peer.base.Side`)."""

    decode = staticmethod(decode_from_host)

    def __init__(self, refused: RefusedImports, services: Services) -> None:
        self._refused = refused
        self.refused = refused.take
        self.proxy = services.proxy

    def answered(self, call: Outgoing, answer: Reply | Failed) -> None:
        """The host's answers need no second look."""

    def heard(self, call: Outgoing, failed: Failed) -> Exception:
        """Return the error that the plugin gets: as its own class, if the interface declares it."""
        if failed.kind == "declared" and (kind := call.declared.raises.get(failed.error)) is not None:
            return kind(failed.text)
        return ServiceError(failed.text)

    def told(self, incoming: Incoming, error: BaseException) -> tuple[FailureKind, str, str, str]:
        """All that the plugin raises is told to the host, as text."""
        if isinstance(error, ArgumentsUnfit):
            return "argument", "", str(error), ""
        if isinstance(error, (ValueUnfit, BufferError)):
            return "result", type(error).__name__, str(error), ""
        if isinstance(error, Cancelled):
            return "cancelled", "", "as it was told to", ""
        text, trace = describe(error, own_frames=OWN_FRAMES, without_files=self._refused.is_watching)
        name = type(error).__name__
        return "declared" if name in incoming.answer.declared.raises else "exception", name, text, trace

    def lost(self, incoming: Incoming, error: BaseException) -> None:
        """Say on stderr what a notification raised: the host logs it."""
        _, trace = describe(error, own_frames=OWN_FRAMES, without_files=self._refused.is_watching)
        print(f"{incoming.answer.declared.name} was notified and raised:\n{trace}", flush=True)


def make_peer(
    channel: Channel, answers: Answers, refused: RefusedImports, services: Services, max_payload: int
) -> BlockingPeer:
    """Return the peer of a child whose plugin has *answers*."""
    side = ChildSide(refused, services)
    return BlockingPeer(channel, side, Store(max_payload, copies=False), {0: answers}, executor=True)
