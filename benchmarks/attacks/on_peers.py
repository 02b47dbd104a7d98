"""The attacks on peers. Each function is a host's side; the functions that a worker runs stand beside it.

Pools are not shut down, for one that was attacked may never end: `one` ends their workers.
"""

from __future__ import annotations

import inspect
import multiprocessing as mp
import os
import socket
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import _ResultItem  # pyright: ignore[reportPrivateUsage] - as an attacker would
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import msgspec

from .outcome import Outcome, judged, open_fds, peak_mib

SECRET = "the secret of tenant B"
BOMB_ITEMS = 4_000_000
BOMB = b"\xdd" + BOMB_ITEMS.to_bytes(4, "big") + b"\x90" * BOMB_ITEMS
"""A msgpack array of empty arrays: 4 MB that become 70 times as much."""
BOMB_MIB = 100
"""More than this is more than a host can have meant to give for 4 MB."""
FDS = 250


def queues() -> tuple[Any, Any]:
    """Return the queues of calls and of results, which all workers of a pool share, from the frames below this one."""
    below = (frame.frame.f_locals for frame in inspect.stack(0))
    return next((found["call_queue"], found["result_queue"]) for found in below if "call_queue" in found)


def pool() -> ProcessPoolExecutor:
    """Return a pool of two, so that one worker attacks and one works."""
    return ProcessPoolExecutor(2, mp_context=mp.get_context("spawn"))


def slow(text: str) -> str:
    """Return *text*, after a while."""
    time.sleep(0.5)
    return text


def forge() -> None:
    """Answer the call of somebody else, which is the pool's first."""
    _, results = queues()
    results.put(_ResultItem(0, result="forged"))


def forged_result() -> Outcome:
    """A worker answers the call of another one."""
    workers = pool()
    victim = workers.submit(slow, "true")
    workers.submit(forge)
    return judged(victim.result() == "forged", "the caller of another worker got it", "the caller got its own answer")


def steal() -> str:
    """Take the next call, whoever it is for."""
    calls, _ = queues()
    return str(calls.get(timeout=10).args)


def stolen_arguments() -> Outcome:
    """A worker takes the arguments of a call that was not given to it."""
    workers = pool()
    workers.submit(slow, "busy")
    thief = workers.submit(steal)
    workers.submit(slow, SECRET)
    return judged(SECRET in thief.result(), "a worker read the arguments of another call", "a worker read nothing")


def shrink(name: str) -> None:
    """Cut a block of shared memory off under the host."""
    block = SharedMemory(name)
    os.ftruncate(block._fd, 0)  # type: ignore[attr-defined]  # pyright: ignore[reportPrivateUsage]
    os._exit(0)


def shrunk_memory() -> Outcome:
    """A worker shrinks memory that the host reads."""
    block = SharedMemory(create=True, size=1 << 20)
    worker = mp.get_context("spawn").Process(target=shrink, args=(block.name,))
    worker.start()
    worker.join()
    return judged(False, "", f"the host read {bytes(block.buf or b'')[:1]!r}")


def flood(name: str) -> None:
    """Send as many fds as fit."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(name)
        socket.send_fds(sock, [b"x"], [2] * FDS)


def fd_flood() -> Outcome:
    """A worker sends more fds than anybody asked for."""
    name = f"\0belljar-benchmark-{os.getpid()}"
    with socket.create_server(name, family=socket.AF_UNIX) as listening:
        worker = mp.get_context("fork").Process(target=flood, args=(name,))
        worker.start()
        sock, _ = listening.accept()
        before = open_fds()
        with sock:
            socket.recv_fds(sock, 1, FDS)
        worker.join()
        kept = open_fds() - before
        return judged(kept > FDS // 2, f"{FDS} fds are open in the host", "no fd was kept")


def msgpack_bomb() -> Outcome:
    """A worker sends 4 MB that decode to much more."""
    before = peak_mib()
    msgspec.msgpack.decode(BOMB)
    return judged(
        peak_mib() - before > BOMB_MIB, f"4 MB took more than {BOMB_MIB} MiB of the host", "took little memory"
    )


class Evil:
    """What runs code wherever it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Say what to run."""
        return eval, ("__import__('os').getpid()",)


def make_evil() -> Evil:
    """Return a result."""
    return Evil()


def pickled_code() -> Outcome:
    """A worker's result runs code in the host."""
    ran_in: Any = pool().submit(make_evil).result()
    return judged(ran_in == os.getpid(), "the worker's code ran in the host", "no code of the worker ran in the host")
