"""The same attacks on belljar: what the host saw of each."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from pathlib import Path

import anyio

from belljar import BelljarError, Policy, Process, ProcessHost

from .on_peers import BOMB_ITEMS, BOMB_MIB, FDS, SECRET
from .outcome import Outcome, judged, open_fds, peak_mib

HOSTILE = f"{Path(__file__).parent / 'hostile.py'}:Hostile"
LARGE = 1 << 20
OWN = "for the child that listens"
HONEST = f"{Path(__file__).parent / 'honest.py'}:Honest"


def host(plugin: str) -> ProcessHost:
    """Return a host, not entered yet."""
    return ProcessHost(Process(plugin=plugin, policy=Policy.media()))


async def answer(call: Awaitable[object]) -> object:
    """Return what came of a call: its result, or the name of the error."""
    try:
        return await call
    except BelljarError as error:
        return type(error).__name__


async def forged_result() -> Outcome:
    """A child answers calls that were not made to it."""
    found, said = "", list[object]()

    async def forge(evil: ProcessHost) -> None:
        said.append(await answer(evil.call("forge")))

    async with host(HONEST) as victim, host(HOSTILE) as evil, anyio.create_task_group() as tasks:
        tasks.start_soon(forge, evil)
        found = await victim.call("slow", "true")
    return judged(found != "true", "the caller got a forged answer", f"{said[0]}: the caller got the true answer")


async def stolen_arguments() -> Outcome:
    """A child listens for the calls of another one, and hears its own."""
    heard: list[object] = []

    async def listen(evil: ProcessHost) -> None:
        heard.append(await answer(evil.call("listen", 0.5)))

    async with host(HONEST) as victim, host(HOSTILE) as evil, anyio.create_task_group() as tasks:
        tasks.start_soon(listen, evil)
        await victim.call("slow", SECRET)
        await answer(evil.call("listen", OWN, timeout=0.05))
    if OWN not in str(heard):
        raise RuntimeError(f"it is deaf: it heard {heard}")
    return judged(
        SECRET in str(heard), "a child read the arguments of another call", "a child hears its own calls only"
    )


async def shrunk_memory() -> Outcome:
    """A child shrinks memory that the host reads: what they share, and what it sends itself."""
    async with host(HOSTILE) as evil:
        await evil.call("take_arenas", returns=bytes)
        done = await evil.call("listen", bytes(LARGE), returns=list[str])
    async with host(HOSTILE) as evil:
        said = await answer(evil.call("shrink"))
    if {"taken: host", "taken: child"} - set(done):
        raise RuntimeError(f"not all arenas came: {done}")
    refused = len(done) == 2 and said == "PeerProtocolError"
    return judged(not refused, f"{done}; {said!r:.60}", "EPERM at what is shared; PeerProtocolError for its own")


async def fd_flood() -> Outcome:
    """A child sends more fds than anybody asked for."""
    async with host(HONEST), host(HOSTILE) as evil:
        before = open_fds()
        said = await answer(evil.call("stuff", FDS))
        kept = open_fds() - before
    return judged(kept > 0, f"{kept} fds are open in the host", f"{said}: no fd was kept")


async def msgpack_bomb() -> Outcome:
    """A child sends 4 MB that decode to much more."""
    async with host(HOSTILE) as evil:
        before = peak_mib()
        said = await answer(evil.call("bomb", BOMB_ITEMS))
        grown = peak_mib() - before
    return judged(grown > BOMB_MIB, f"4 MB took more than {BOMB_MIB} MiB of the host", f"{said}: not decoded")


async def pickled_code() -> Outcome:
    """A child answers with a pickle."""
    async with host(HOSTILE) as evil:
        said = await answer(evil.call("pickled"))
    return judged(said == os.getpid(), "the child's code ran in the host", f"{said}: nothing is unpickled")
