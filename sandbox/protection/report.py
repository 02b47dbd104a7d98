"""The protection of one child as a value: each layer, each operation, and what else there is to know."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ...ipc.messages import Landlock
from ..layers import Layer
from .operations import Operation, OperationStatus, Verdict


@dataclass(frozen=True, slots=True)
class LayerStatus:
    """One layer: asked for by name, promised by the backend, shown by the kernel.

    Attributes:
        asked: ``require`` of the process type names it.
        promised: the backend must have it, or the child is killed.
        engaged: the kernel shows it.
        detail: what the kernel says.
        limit: what lacks in it although it is engaged, as the backend announced; empty for nothing.
        thread: the tid of a thread that lacks the layer, if some have it and some do not.
    """

    layer: Layer
    promised: bool
    engaged: bool
    detail: str
    thread: int | None = None
    limit: str = ""
    asked: bool = False

    @property
    def mark(self) -> str:
        """One word for people."""
        if self.engaged:
            return "partly" if self.limit else "engaged"
        return "MISSING" if self.promised else "-"


_NAMES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Protection:
    """All layers and operations of one child as read from outside, and over how many threads.

    Attributes:
        threads: how many there were while the child was stopped for the look, the main thread included.
        thread_names: how many of them have each name, the most frequent first. The child chose the names: at most 15
            bytes each, and printable.
    """

    layers: tuple[LayerStatus, ...]
    threads: int
    notes: tuple[str, ...] = ()
    operations: tuple[OperationStatus, ...] = ()
    backend: str = ""
    landlock: Landlock | None = None
    thread_names: Mapping[str, int] = field(default_factory=dict)

    def threads_in_words(self) -> str:
        """Return the number of threads and their names, such as "3 threads: driver x2, python"."""
        names = [name if count == 1 else f"{name} x{count}" for name, count in self.thread_names.items()]
        more = [f"{len(names) - _NAMES_SHOWN} other names"] if len(names) > _NAMES_SHOWN else []
        listed = ", ".join([*names[:_NAMES_SHOWN], *more])
        return f"{self.threads} thread{'' if self.threads == 1 else 's'}{': ' if listed else ''}{listed}"

    def shortfall(self) -> LayerStatus | None:
        """Return the first layer that was promised and is not there."""
        return next((status for status in self.layers if status.promised and not status.engaged), None)

    def engaged(self) -> frozenset[Layer]:
        """Return the layers that the kernel shows."""
        return frozenset(status.layer for status in self.layers if status.engaged)

    def operation(self, operation: Operation) -> OperationStatus:
        """Return what is enforced on *operation*."""
        return next(status for status in self.operations if status.operation is operation)

    def layer(self, layer: Layer) -> LayerStatus:
        """Return what is known of *layer*."""
        return next(status for status in self.layers if status.layer is layer)

    def enforced(self) -> Collection[Operation]:
        """Return the operations that are wholly refused."""
        return frozenset(status.operation for status in self.operations if status.verdict is Verdict.ENFORCED)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for a machine to read."""
        layers = [
            {
                "layer": status.layer.value,
                "asked": status.asked,
                "promised": status.promised,
                "engaged": status.engaged,
                "limit": status.limit,
                "detail": status.detail,
                "thread": status.thread,
            }
            for status in self.layers
        ]
        return {
            "backend": self.backend,
            "threads": self.threads,
            "thread_names": dict(self.thread_names),
            "layers": layers,
            "operations": [status.as_json() for status in self.operations],
            "landlock": None if self.landlock is None else msgspec.to_builtins(_by_fate(self.landlock)),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [f"{status.mark:<9} {status.layer.value:<22} {status.detail}" for status in self.layers]
        lines += [f"{status.verdict.value:<9} {status.operation.value:<22} {status}" for status in self.operations]
        lines.append(f"read for  {self.threads_in_words()}")
        return "\n".join([*lines, *(f"note      {note}" for note in self.notes)])


def _by_fate(landlock: Landlock) -> dict[str, object]:
    """Return landlock's features by what became of them: asked of the kernel, granted, not known to it."""
    asked = (*landlock.granted, *landlock.unknown)
    return {"abi": landlock.abi, "asked": asked, "granted": landlock.granted, "unknown": landlock.unknown}
