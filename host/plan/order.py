"""Put the steps in order: what they declare of each other, and that a single thread comes before others.

A step stands where it was listed unless something moves it. All steps come before the seal but those that say
``after = ["seal"]`` and those that come after such a one.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """The declarations contradict each other; the text names the steps, what each declares, and the remedy."""


def order(steps: Sequence[tuple[str, Declaration]]) -> Ordered:
    """Return the order of the *steps*, each with its name. Raises `Unordered`."""
    names = [name for name, _ in steps]
    edges = _declared_edges(steps)
    late = _behind(SEAL, edges)
    edges += [
        Edge(name, SEAL, "it says nothing else, and early init comes before the seal", False)
        for name in names
        if name not in late and not any(edge.first == name and edge.second == SEAL for edge in edges)
    ]
    # What is declared contradicts itself, or not; only then does what follows from it count.
    _sorted([*names, SEAL], edges)
    edges += _thread_edges(steps, edges)
    ordered = _sorted([*names, SEAL], edges)
    return Ordered(tuple(name for name in ordered if name != SEAL), frozenset(late), tuple(edges))


def _declared_edges(steps: Sequence[tuple[str, Declaration]]) -> list[Edge]:
    known = {name for name, _ in steps} | {SEAL}
    edges: list[Edge] = []
    for name, declaration in steps:
        edges += [
            Edge(other, name, f"{name} declares after = {other}") for other in declaration.after if other in known
        ]
        edges += [
            Edge(name, other, f"{name} declares before = {other}") for other in declaration.before if other in known
        ]
    return edges


def _thread_edges(steps: Sequence[tuple[str, Declaration]], edges: Sequence[Edge]) -> list[Edge]:
    """A step that needs a single thread comes before each that leaves others; not where the contrary is declared."""
    single = [name for name, declaration in steps if SINGLE_THREADED in declaration.needs]
    leaving = [(name, declaration.leaves.threads) for name, declaration in steps if declaration.leaves.threads]
    found: list[Edge] = []
    for alone in single:
        behind = _behind(alone, edges)
        for other, threads in leaving:
            if other != alone and alone not in _behind(other, edges) and other not in behind:
                found.append(
                    Edge(alone, other, f"{alone} needs a single thread, and {other} leaves {', '.join(threads)}", False)
                )
    return found


def _behind(name: str, edges: Sequence[Edge]) -> set[str]:
    """Return what comes after *name*, at however many removes."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        first = waiting.pop()
        fresh = {edge.second for edge in edges if edge.first == first} - found
        found |= fresh
        waiting += fresh
    return found


def _sorted(names: Sequence[str], edges: Sequence[Edge]) -> list[str]:
    """Return *names* so that every edge holds, each as early as it was listed."""
    ordered: list[str] = []
    left = list(names)
    while left:
        free = [name for name in left if not any(edge.second == name and edge.first in left for edge in edges)]
        if not free:
            raise Unordered(_circle(left, edges))
        ordered.append(free[0])
        left.remove(free[0])
    return ordered


def _circle(names: Sequence[str], edges: Sequence[Edge]) -> str:
    """Walk back from a step that waits, until one comes twice: those between wait for each other."""
    walked: list[Edge] = []
    current = names[0]
    while True:
        edge = next(edge for edge in edges if edge.second == current and edge.first in names)
        walked.append(edge)
        current = edge.first
        if any(other.second == current for other in walked):
            break
    start = next(index for index, other in enumerate(walked) if other.second == current)
    circle = walked[start:][::-1]
    reasons = "; ".join(f"{edge.first} before {edge.second}: {edge.why}" for edge in circle)
    return f"these steps wait for each other, so none can be first ({reasons}); take one of these away"
