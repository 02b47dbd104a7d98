"""Whether a type says all of what fits it."""

from __future__ import annotations

from typing import Any

import msgspec.inspect as inspect_types

from .adapters import adapter_of
from .shapes import info_of, parts_of, shape


def is_closed(kind: Any) -> bool:
    """Whether no place in *kind* is left open, such as the items of a plain ``list``."""
    adapter = shape(kind).adapter
    return not _takes_anything(info_of(adapter.wire if adapter else kind), set())


def _takes_anything(kind: Any, seen: set[int]) -> bool:
    """Look into what msgspec says of a type.

    A class that msgspec does not know fits its own instances: those of ``object`` are all that a message can hold.
    """
    if isinstance(kind, inspect_types.CustomType):
        adapter = adapter_of(kind.cls)
        return adapter is None or not is_closed(adapter.wire)
    if isinstance(kind, inspect_types.AnyType):
        return True
    if id(kind) in seen:  # a type may contain itself
        return False
    seen.add(id(kind))
    return any(_takes_anything(each, seen) for each in parts_of(kind))
