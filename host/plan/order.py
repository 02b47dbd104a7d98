"""Put the steps in order: what they declare of each other, and that a single thread comes before others.

A step stands where it was listed unless something moves it. All steps come before the seal but those that say
``after = ["seal"]`` and those that come after such a one.
"""

from __future__ import annotations

import functools
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ...sandbox.declaration import SEAL, SINGLE_THREADED, Declaration


class Edge(NamedTuple):
    """``first`` comes before ``second``, because of ``why``; ``declared`` if a person said so."""

    first: str
    second: str
    why: str
    declared: bool = True


class Ordered(NamedTuple):
    """The names of the steps in order, those after the seal, and what fixed the place of each."""

    names: tuple[str, ...]
    late: frozenset[str]
    edges: tuple[Edge, ...]


class Unordered(Exception):
    """The declarations contradict each other: each edge of ``circle`` ends where the next begins, round and round.

    The text names the steps, what each declares, and the remedy.
    """

    def __init__(self, circle: tuple[Edge, ...]) -> None:
        declared = [edge.why for edge in circle if edge.declared]
        remedy = "take one of these away" if declared else "let one of them end its threads before it returns"
        if len(circle) == 1:
            text = f"{declared[0]}, which is itself; {remedy.replace('one of these', 'that')}"
        else:
            reasons = "; ".join(f"{edge.first} before {edge.second}: {edge.why}" for edge in circle)
            text = f"these steps wait for each other, so that none can be first ({reasons}); {remedy}"
        super().__init__(text)
        self.circle = circle


@functools.lru_cache(maxsize=256)
def order(steps: tuple[tuple[str, Declaration], ...]) -> Ordered:
    """Return the order of the *steps*, each with its name; remembered, for each launch asks. Raises `Unordered`."""
    names = [name for name, _ in steps]
    edges = _declared_edges(steps)
    late = _behind(SEAL, _followers(edges))
    edges += [
        Edge(name, SEAL, f"early init comes before the seal, and {name} declares nothing else", False)
        for name, declaration in steps
        if name not in late and SEAL not in declaration.before
    ]
    # What is declared contradicts itself, or not; only then does what follows from it count.
    _sorted([*names, SEAL], edges)
    edges += _thread_edges(steps, edges)
    ordered = _sorted([*names, SEAL], edges)
    return Ordered(tuple(name for name in ordered if name != SEAL), frozenset(late), tuple(edges))


def path(edges: Iterable[Edge], start: str, end: str) -> tuple[Edge, ...]:
    """Return a shortest chain of *edges* from *start* to *end*, empty if there is none."""
    came: dict[str, Edge] = {}
    waiting = [start]
    by_first = defaultdict[str, list[Edge]](list)
    for edge in edges:
        by_first[edge.first].append(edge)
    for name in waiting:
        for edge in by_first[name]:
            if edge.second not in came:
                came[edge.second] = edge
                waiting.append(edge.second)
    if end not in came:
        return ()
    chain = [came[end]]
    while chain[-1].first != start:
        chain.append(came[chain[-1].first])
    return tuple(reversed(chain))


def _declares(name: str, word: str, other: str) -> str:
    return f"{name} declares {word} = ['{other}']"


def _declared_edges(steps: Sequence[tuple[str, Declaration]]) -> list[Edge]:
    known = {name for name, _ in steps} | {SEAL}
    edges: dict[Edge, None] = {}  # one that is declared twice counts once
    for name, declaration in steps:
        for other in known.intersection(declaration.after):
            edges[Edge(other, name, _declares(name, "after", other))] = None
        for other in known.intersection(declaration.before):
            edges[Edge(name, other, _declares(name, "before", other))] = None
    return sorted(edges)


def _thread_edges(steps: Sequence[tuple[str, Declaration]], edges: Sequence[Edge]) -> list[Edge]:
    """A step that needs a single thread comes before each that leaves others; not where the contrary is declared."""
    followers = _followers(edges)
    leaving = {name: declaration.leaves.threads for name, declaration in steps if declaration.leaves.threads}
    single = [name for name, declaration in steps if SINGLE_THREADED in declaration.needs]
    before = {other: _behind(other, followers) for other in leaving} if single else {}
    return [
        Edge(alone, other, f"{alone} needs a single thread, and {other} leaves threads ({', '.join(threads)})", False)
        for alone in single
        for other, threads in leaving.items()
        if other != alone and alone not in before[other]
    ]


def _followers(edges: Iterable[Edge]) -> Mapping[str, set[str]]:
    found = defaultdict[str, set[str]](set)
    for edge in edges:
        found[edge.first].add(edge.second)
    return found


def _behind(name: str, followers: Mapping[str, set[str]]) -> set[str]:
    """Return what comes after *name*, at however many removes."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        fresh = followers.get(waiting.pop(), set[str]()) - found
        found |= fresh
        waiting += fresh
    return found


def _sorted(names: Sequence[str], edges: Sequence[Edge]) -> list[str]:
    """Return *names* so that every edge holds: the next is always the first listed that waits for nothing."""
    place = {name: index for index, name in enumerate(names)}
    waits = Counter(edge.second for edge in edges)
    after = defaultdict[str, list[str]](list)
    for edge in edges:
        after[edge.first].append(edge.second)
    free = [index for index, name in enumerate(names) if not waits[name]]
    ordered: list[str] = []
    while free:
        name = names[heapq.heappop(free)]
        ordered.append(name)
        for other in after[name]:
            waits[other] -= 1
            if not waits[other]:
                heapq.heappush(free, place[other])
    if len(ordered) < len(names):
        raise Unordered(_circle([name for name in names if name not in ordered], edges))
    return ordered


def _circle(names: Sequence[str], edges: Sequence[Edge]) -> tuple[Edge, ...]:
    """Walk back from a step that waits until one comes twice: those between wait for each other."""
    walked: dict[str, Edge] = {}
    current = names[0]
    while current not in walked:
        walked[current] = next(edge for edge in edges if edge.second == current and edge.first in names)
        current = walked[current].first
    circle: list[Edge] = []
    while not circle or current != circle[0].second:
        circle.append(walked[current])
        current = walked[current].first
    return tuple(reversed(circle))
