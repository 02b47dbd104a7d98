"""What a child without event loop talks to its host through, against another host than its own."""

from __future__ import annotations

import io
from contextlib import redirect_stdout, suppress
from typing import Any

from belljar.child.dispatch import make_peer
from belljar.child.refused import RefusedImports
from belljar.child.services import Services
from belljar.ipc.channel.base import EndOfChannel
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.frames import LogLevels
from belljar.ipc.peer.records import MAX_UNDER_WAY, answers_of

from ..everything import Everything, Plain
from ..script import FROM_HOST, scripts
from ..target import Target
from ..waiting import ScriptedChannel


class Plugin(Plain):
    """`Everything`, and what a plugin asks of its host meanwhile."""

    host: Any

    def add(self, first: int, second: int) -> int:
        return int(self.host.add(first, second)) if first == 5 else first + second


def take(data: bytes) -> None:
    """Let a child serve what a script says, until the host hangs up."""
    channel = ScriptedChannel(data)
    services, plugin = Services(("Everything",)), Plugin()
    peer = make_peer(channel, answers_of(Everything, plugin), RefusedImports(), services, 1 << 20)
    peer.on(LogLevels, lambda frame: None)
    services.peer, plugin.host = peer, services.proxy(Everything, 1)
    try:
        with suppress(EndOfChannel), redirect_stdout(io.StringIO()):  # what notifications raise
            peer.serve()
        assert len(peer._answering) <= MAX_UNDER_WAY
    finally:
        peer.end(EndOfChannel())
        peer.store.close()
        channel.close()


TARGET = Target(lambda: scripts(FROM_HOST, 0), take, (PeerProtocolError,))
