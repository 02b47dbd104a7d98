"""The errors of values that do not fit their declared types; each text is for the person who wrote the call."""

from __future__ import annotations


class ArgumentsUnfit(Exception):
    """The arguments of a call do not fit the method."""


class ValueUnfit(ValueError):
    """A result, an item of a stream or a piece of an upload does not fit its type, or cannot be encoded."""
