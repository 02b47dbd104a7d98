"""The step ``asyncio``: an event loop, made before the seal, on which the child serves afterwards.

With it, a plugin may have ``async def`` methods and asynchronous generators; calls run at the same time, each as a
task. Plain methods run in the loop, one at a time. Services are awaited: ``await service(Records).read(key)``.

Facts (each has a test). A loop takes an epoll instance and a pair of sockets, by which other threads wake it. Both are
refused to a sealed child that is not granted local channels, so the step makes them; to wait, to be woken and to watch
fds that are open takes nothing more, under any policy. What the loop makes later does: ``loop.run_in_executor``,
``asyncio.to_thread`` and name resolution start threads (`Policy.allow_threads`), connections take sockets, and
sub-processes are for no loop. Neither loop nor epoll instance can be a zygote's, for a fork would share them; only the
modules are, which the host's plan sees to (`belljar.host.plan.find.ON_LOOP`): 9 ms that a forked child does not pay.

The plugin is made while the loop runs: its ``__init__`` may call ``asyncio.create_task``. A plugin that is loaded early
(``load = "early"``) is made before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..step import early_init, scene

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


@early_init(needs=["files", "executable-memory"], leaves={"fds": ["eventpoll", "socket"]})
def asyncio() -> AbstractEventLoop:
    """Make the loop, hand it on, and take its ways once."""
    import asyncio

    scene.loop = asyncio.new_event_loop()
    scene.loop.run_until_complete(_exercise())
    return scene.loop


class _Sample:
    async def echo(self, data: bytes) -> bytes:
        return data


async def _exercise() -> None:
    """Answer one call on the loop, as the plugin will; what is loaded on first use is then there."""
    import asyncio

    from ...ipc import datagram
    from ...ipc.channel.over_socket import SocketChannel
    from ...ipc.frames import Call, Shutdown, encode
    from ..dispatch import plugin_answers
    from ..on_loop import make_peer
    from ..refused import RefusedImports
    from ..services import Services

    ours, theirs = datagram.control_pair()
    with ours, theirs:
        ours.send(encode([Call(1, 0, "echo", b"\x91\xc4\x01a")]))
        ours.send(encode([Shutdown()]))
        answers = plugin_answers(_Sample(), on_loop=True)
        peer = make_peer(SocketChannel(theirs), answers, RefusedImports(), Services(()), 1 << 16)
        async with asyncio.timeout(5):
            await peer.serve()
            await peer.close()
