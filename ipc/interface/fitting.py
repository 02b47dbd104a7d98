"""Descriptions on their way: what one side declares, as bytes in a message, and whether an interface fits it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from ..errors import reason
from .compare import Sides, first_difference
from .declared import Declared
from .describe import MAX_DESCRIPTION, MAX_FIELDS, Description, check, describe, described
from .errors import ValueUnfit
from .shapes import UNDECODABLE

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Description).decode


def pack(name: str, methods: Mapping[str, Declared]) -> bytes:
    """Return what *methods* declare, of something called *name*; nothing if that is too much for a message.

    Nor if there are more than a description can name: those that it left out would seem to be missing.
    """
    if len(methods) > MAX_FIELDS:
        return b""
    packed = _encode(described(name, methods))
    return packed if len(packed) <= MAX_DESCRIPTION else b""


def unpack(packed: bytes) -> Description | None:
    """Return the description in *packed*; None if there is none. `ValueUnfit` if it is malformed."""
    if not packed:
        return None
    try:
        description = _decode(packed)
    except UNDECODABLE as error:
        raise ValueUnfit(f"a description does not fit its type: {reason(error)}") from None
    check(description)
    return description


@lru_cache(maxsize=256)
def misfit(interface: type, packed: bytes, sides: Sides) -> str:
    """Return the first thing in which *interface* and what the other side declares differ; nothing if they fit.

    `ValueUnfit` if *packed* is malformed.
    """
    found = unpack(packed)
    return "" if found is None else first_difference(describe(interface), found, sides)
