"""docs/hostile-messages.md: what became of the messages, how the host stood meanwhile, how the other child answered."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..ipc.page import machine
from .babbler import BATCHES, WEIGHTS
from .run import PAUSE, Run

PAGE = Path(__file__).parents[2] / "docs/hostile-messages.md"
PLOT = PAGE.with_suffix(".svg")

_INTRODUCTION = """\
# Hostile messages

What becomes of a host whose child says all there is to say. Written by `scripts/bench hostile`, which takes some
minutes; `scripts/bench hostile --messages 20000` prints a rough picture and writes nothing. `scripts/test` does that
too, and `scripts/test --nightly` the whole run. Single places are fuzzed by `scripts/fuzz` (CONTRIBUTING.md).

- A sealed child says what a seed makes it say, as fast as the host takes it. When it is killed, the next one goes on.
- A message is a frame, or a datagram that is none. Each is counted twice: by the host as it comes, and from the seed.
- *ignored by rule*: it crossed something that is over, or was for nobody. *acted on*: it was valid. *breach*:
  `PeerProtocolError`, and the child is dead. *behind a breach*: in the same datagram; nobody looked at it.
- Meanwhile another child is called every {pause:g} ms, by the same host process. *launches alone*: children are
  launched and killed in turn that say nothing, for that alone takes a core.
"""


def text(found: Run) -> str:
    """Return the page."""
    return "\n".join(_text(found)) + "\n"


def _text(found: Run) -> Iterator[str]:
    account = found.account
    yield _INTRODUCTION.format(pause=PAUSE * 1000)
    yield from ("| what became of them | messages | share |", "| --- | ---: | ---: |")
    for name, count in (
        ("ignored by rule", account.ignored),
        ("acted on", account.acted),
        ("breach, and a dead child", account.breaches),
        ("behind a breach", account.behind),
        ("all", account.messages),
    ):
        yield f"| {name} | {count:,} | {100 * count / account.messages:.2f} % |"
    yield from ("", "| what was said | share of datagrams | in a datagram | messages |", "| --- | ---: | ---: | ---: |")
    for kind, weight in WEIGHTS.items():
        most = BATCHES[kind]
        yield f"| {kind} | {weight} % | {f'1 to {most}' if most > 1 else 1} | {found.said[kind]:,} |"
    yield from ("", "| | host |", "| --- | ---: |", *_host(found), "")
    yield from (
        "| calls of another child during | calls | median ms | p99 ms | worst ms |",
        "| --- | ---: | ---: | ---: | ---: |",
    )
    for name, took in found.latencies.items():
        median, p99, worst = (1000 * value for value in spread(took))
        yield f"| {name} | {len(took):,} | {median:.2f} | {p99:.2f} | {worst:.1f} |"
    yield from ("", "![memory and fds of the host](hostile-messages.svg)", "", machine())


def _host(found: Run) -> Iterator[str]:
    account, first, last = found.account, found.samples[0], found.samples[-1]
    yield f"| children | {found.launches:,} |"
    yield f"| messages a second, launches included | {account.messages / found.seconds:,.0f} |"
    yield f"| memory at first and at last | {first.resident / 2**20:.1f} and {last.resident / 2**20:.1f} MiB |"
    yield f"| growth, last quarter over first | {found.grown / 2**20:.1f} MiB |"
    yield f"| fds at first and at last | {first.fds} and {last.fds} |"
    yield f"| different reasons to kill a child | {len(found.reasons)} |"


def spread(took: Sequence[float]) -> tuple[float, float, float]:
    """Return median, p99 and maximum."""
    return statistics.median(took), statistics.quantiles(took, n=100)[-1], max(took)
