"""One attack: ``python -m benchmarks.attacks.one SIDE NAME`` prints its `Outcome` as JSON, or dies of it."""

from __future__ import annotations

import inspect
import multiprocessing as mp
import os
import sys

import anyio
import msgspec

from . import on_belljar, on_peers

SIDES = {"peer": on_peers, "belljar": on_belljar}


def main(side: str, name: str) -> None:
    """Run it, and leave at once: a pool that was attacked may never end."""
    attack = getattr(SIDES[side], name)
    outcome = anyio.run(attack) if inspect.iscoroutinefunction(attack) else attack()
    print(msgspec.json.encode(outcome).decode(), flush=True)
    for process in mp.active_children():
        process.kill()
        process.join()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
