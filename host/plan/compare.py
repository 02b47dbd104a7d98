"""Hold what a step left, as the child reports it, against what it declared.

The report comes from the child while it is trusted, and is still only text from a child: it is bounded by its message,
compared by names, and shown through `printable`. Nothing is enforced by it; what a seal cannot bear is refused by the
seal itself, or found in stage 8.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import msgspec

from ...ipc.errors import printable
from ...ipc.messages import Left, StepEnded
from ...sandbox.declaration import FD_KINDS, Leaves
from ...sandbox.quantities import format_size
from .find import Planned


class StepReport(NamedTuple):
    """How a step went: ``took`` in milliseconds; ``failure`` is not empty for an optional step that failed."""

    name: str
    took: float
    failure: str
    left: Left
    undeclared: Undeclared | None

    @classmethod
    def of(cls, step: Planned, ended: StepEnded) -> StepReport:
        """Make the report of what the child said at the end of *step*."""
        found = undeclared(ended.left, step.declaration.leaves)
        return cls(step.name, ended.took, printable(ended.failure), ended.left, found)


class Undeclared(NamedTuple):
    """What was left and not declared: the words to add to ``leaves``, and a sentence for people."""

    leaves: dict[str, Any]
    sentence: str


def undeclared(left: Left, leaves: Leaves) -> Undeclared | None:
    """Return what *left* has that *leaves* does not allow; None if that is nothing."""
    threads = _beyond(left.threads, leaves.threads)
    fds = [fd for fd in left.fds if fd.kind not in leaves.fds]
    environment = _beyond(left.environment, leaves.environment)
    signals = [entry for entry in left.signals if entry.partition(" ")[0] not in leaves.signals]
    executable = 0 if leaves.executable_memory else left.executable_memory
    parts = [
        _part("threads", [f"{name} ({left.threads[name]})" for name in threads]),
        _part("fds", [f"{fd.kind} {fd.what}" for fd in fds]),
        f"{format_size(executable)} of executable memory" if executable else "",
        _part("changed variables", environment),
        _part("signals", signals),
    ]
    said = [part for part in parts if part]
    if not said:
        return None
    words: dict[str, Any] = {
        "threads": sorted(_patterns(threads)),
        "fds": sorted({fd.kind if fd.kind in FD_KINDS else "other" for fd in fds}),
        "executable_memory": bool(executable),
        "environment": [_escaped(name) for name in environment],
        "signals": sorted({entry.partition(" ")[0] for entry in signals}),
    }
    return Undeclared({key: value for key, value in words.items() if value}, "; ".join(said))


def observed(left: Left, leaves: Leaves) -> dict[str, Any]:
    """Return *leaves* with what was left beside, as TOML keys: what ``plan --observe`` offers to paste."""
    declared: dict[str, Any] = msgspec.to_builtins(leaves)
    found = undeclared(left, leaves)
    for key, value in (found.leaves if found else {}).items():
        declared[key] = value if isinstance(value, bool) else [*declared[key], *value]
    return {key: value for key, value in declared.items() if value}


def unseen(left: Left, leaves: Leaves) -> dict[str, Any]:
    """Return what *leaves* allows and *left* has not: it may have been there on another machine, or never."""
    signals = {entry.partition(" ")[0] for entry in left.signals}
    kinds = {fd.kind for fd in left.fds}
    found: dict[str, Any] = {
        "threads": [pattern for pattern in leaves.threads if not _any_fits(left.threads, pattern)],
        "fds": [kind for kind in leaves.fds if kind not in kinds],
        "executable_memory": leaves.executable_memory and not left.executable_memory,
        "environment": [pattern for pattern in leaves.environment if not _any_fits(left.environment, pattern)],
        "signals": [name for name in leaves.signals if name not in signals],
    }
    return {key: value for key, value in found.items() if value}


def _any_fits(names: Iterable[str], pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)


def _patterns(names: Iterable[str]) -> set[str]:
    """Return patterns that fit *names*: one for all that differ in the number at their end, as those of a pool do."""
    stems = Counter(name.rstrip(string.digits) for name in names)
    return {
        f"{_escaped(stem)}*" if stem != name and stems[stem] > 1 else _escaped(name)
        for name in names
        for stem in [name.rstrip(string.digits)]
    }


def _escaped(name: str) -> str:
    """Return the pattern that fits *name* only: what a child calls a thread may look like another pattern."""
    return re.sub(r"[*?[]", r"[\g<0>]", name)


def _beyond(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns)]


def _part(what: str, names: Sequence[str]) -> str:
    return f"{what} {', '.join(names)}" if names else ""
