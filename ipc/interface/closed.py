"""Whether a type says all of what fits it."""

from __future__ import annotations

from typing import Any

import msgspec
import msgspec.inspect as inspect_types


def is_closed(kind: Any) -> bool:
    """Whether no place in *kind* is left open, such as the items of a plain ``list``."""
    return not _takes_anything(inspect_types.type_info(kind), set())


def _takes_anything(kind: Any, seen: set[int]) -> bool:
    """Look into what msgspec says of a type.

    A class that msgspec does not know fits its own instances: those of ``object`` are all that a message can hold.
    """
    if isinstance(kind, (inspect_types.AnyType, inspect_types.CustomType)):
        return True
    if isinstance(kind, tuple):
        return any(_takes_anything(each, seen) for each in kind)
    if not isinstance(kind, msgspec.Struct) or id(kind) in seen:
        return False
    seen.add(id(kind))  # a type may contain itself
    return any(_takes_anything(getattr(kind, name), seen) for name in kind.__struct_fields__)
