"""The table: each attack, the peer that it is made on, what came of it there, and in belljar."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from .outcome import Outcome

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/attacks-on-peers.md"
TIMEOUT = 60.0

_INTRODUCTION = """\
# Attacks on peers

What a hostile child can do to its host by what it *says*: in Python's usual ways to have a child, and in belljar.
Written by `scripts/bench attacks`; `tests/test_attacks_on_peers.py` makes the attacks too, and holds this page to what
it sees. What a child can do to the *kernel* is in [attacks.md](attacks.md). What becomes of a host whose child says all
there is to say is in [hostile-messages.md](hostile-messages.md).

- Each attack is made on a host of its own. It got through where the host lost something: an answer, a secret, its
  memory, its fds, its life.
- A list without a `max_length` in your own interface is yours to bound: a child may fill it up to `max_payload`, and
  small things in a list take many times the memory that they had on the way.

| attack | peer | there | in belljar |
| --- | --- | --- | --- |
"""


class Attack(NamedTuple):
    """The name of its functions in `on_peers` and `on_belljar`, what it is in words, and on whom it is made."""

    name: str
    words: str
    peer: str


ATTACKS = (
    Attack("forged_result", "answer a call that another child has", "ProcessPoolExecutor"),
    Attack("stolen_arguments", "read the arguments of a call to another child", "ProcessPoolExecutor"),
    Attack("pickled_code", "answer with a pickle that runs code", "ProcessPoolExecutor"),
    Attack("shrunk_memory", "shrink memory that the host reads", "multiprocessing.shared_memory"),
    Attack("fd_flood", "send 250 fds", "socket.recv_fds"),
    Attack("msgpack_bomb", "send 4 MB of empty arrays", "msgspec without a type"),
)


def run(attack: Attack, side: Literal["peer", "belljar"]) -> Outcome:
    """Make an attack in a process of its own; what kills that process got through.

    Raises:
        RuntimeError: the attack itself is broken.
    """
    argv = [sys.executable, "-m", "benchmarks.attacks.one", side, attack.name]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    if done.returncode < 0:
        return Outcome(True, f"the host was killed by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        raise RuntimeError(f"{attack.name} on {side}: {done.stderr}")
    return msgspec.json.decode(done.stdout, type=Outcome)


def row(attack: Attack, there: Outcome, here: Outcome) -> str:
    """Return one line of the page."""
    return f"| {attack.words} | {attack.peer} | {_cell(there)} | {_cell(here)} |"


def _cell(outcome: Outcome) -> str:
    return f"{'**got through**' if outcome.got_through else 'refused'}: {outcome.seen}"


def write(rows: list[str]) -> None:
    """Write the page."""
    PAGE.write_text(_INTRODUCTION + "\n".join(rows) + "\n")
