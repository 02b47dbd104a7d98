"""A child that is a thread of its host's process, for `belljar.testing`: the same peers, and none of the stages."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress

from ..ipc.channel.base import Channel, EndOfChannel
from ..ipc.frames import LogLevels
from ..ipc.interface.fitting import pack
from ..ipc.messages import Ready, encode
from ..ipc.peer.base import Peer
from ..ipc.peer.records import Answers
from .dispatch import make_peer, plugin_answers
from .refused import RefusedImports
from .services import Services, offer_here


def is_asynchronous(kind: type) -> bool:
    """Whether a plugin of this class needs an event loop."""
    functions = [getattr(kind, name) for name in dir(kind) if not name.startswith("_")]
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in functions)


def serve(channel: Channel, make: Callable[[], object], services: Services, max_payload: int, *, on_loop: bool) -> None:
    """Make the plugin in this thread, say that it is ready, and answer calls until shutdown or the end of *channel*.

    Raises whatever *make* raises, or `TypeError` if the plugin cannot be called.
    """
    offer_here(services)
    with suppress(EndOfChannel):
        if on_loop:
            _serve_on_loop(channel, make, services, max_payload)
            return
        answers = plugin_answers(make(), on_loop=False)
        services.peer = peer = make_peer(channel, answers, RefusedImports(), services, max_payload)
        try:
            _say_ready(peer, answers, concurrent=False)
            peer.serve()
        finally:
            peer.store.close()


def _serve_on_loop(channel: Channel, make: Callable[[], object], services: Services, max_payload: int) -> None:
    import asyncio

    from .on_loop import make_peer

    async def serving() -> None:
        answers = plugin_answers(make(), on_loop=True)
        services.peer = peer = make_peer(channel, answers, RefusedImports(), services, max_payload)
        try:
            _say_ready(peer, answers, concurrent=True)
            await peer.serve()
        finally:
            await peer.close()
            peer.store.close()

    asyncio.run(serving())


def _say_ready(peer: Peer, answers: Answers, *, concurrent: bool) -> None:
    peer.on(LogLevels, _set_no_level)
    description = pack("plugin", {name: answer.declared for name, answer in answers.items()})
    peer.channel.wait_send(encode(Ready(tuple(answers)[:64], {}, concurrent, description)), (), None)


def _set_no_level(frame: LogLevels) -> None:
    """The loggers of this process are those of the host, whose levels are its own affair."""
