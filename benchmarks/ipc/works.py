"""All works and all goals."""

from __future__ import annotations

from typing import Literal, NamedTuple

from . import calls, data
from .work import Row, Work

WORKS: tuple[Work, ...] = (calls.CALL, calls.CALLS, data.ECHO_LARGE, data.ECHO_MIB, data.ITEMS, data.BESIDE)


def find(work: str, row: str) -> Row:
    """Return a row by its names."""
    rows = next(each.rows for each in WORKS if each.name == work)
    return next(each for each in rows if each.name == row)


class Goal(NamedTuple):
    """What is held against a row.

    *than* is ``us``, ``k/s`` or the row that it is compared with; a ratio is above 1 where *row* takes longer
    (`at most`), or where it does more (`at least`). Without a *limit* the ratio of p99 and median is told, no more.
    """

    text: str
    work: Work
    row: str
    kind: Literal["at most", "at least", "p99/median"]
    limit: float = 0.0
    than: str = ""


GOALS = (
    Goal("typed call, asyncio", calls.CALL, calls.ASYNCIO, "at most", 2.2, calls.RAW),
    Goal("typed call, asyncio", calls.CALL, calls.ASYNCIO, "at most", 1.0, calls.PIPE),
    Goal("typed call, trio", calls.CALL, calls.TRIO, "at most", 4.0, calls.RAW),
    Goal("typed call, uvloop", calls.CALL, calls.UVLOOP, "at most", 2.0, calls.RAW),
    Goal("typed call, SyncHost", calls.CALL, calls.SYNC, "at most", 1.6, calls.RAW),
    Goal("typed call, zmq channel", calls.CALL, calls.ON_ZMQ, "at most", 2.0, calls.ZMQ),
    Goal("calls/s, two children, many in flight", calls.CALLS, calls.ASYNCIO, "at least", 7.0, calls.POOL),
    Goal("calls/s, two children, map(chunksize=64)", calls.CALLS, calls.MAP, "at least", 300.0, "k/s"),
    Goal("33 MiB echo, both directions", data.ECHO_LARGE, data.BUFFER, "at least", 0.5, data.MEMCPY),
    Goal("33 MiB echo, both directions", data.ECHO_LARGE, data.BUFFER, "at least", 10.0, data.POOL),
    Goal("1 MiB echo", data.ECHO_MIB, data.BUFFER, "at least", 2.0, data.STREAM),
    Goal("stream, 1 KiB items", data.ITEMS, calls.ASYNCIO, "at least", 100.0, "k/s"),
    Goal("small call beside a 33 MiB transfer", data.BESIDE, data.SAME, "p99/median"),
    Goal("the same, to another child", data.BESIDE, data.OTHER, "p99/median"),
)
