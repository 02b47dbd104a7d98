"""Objects by reference: an argument whose type is an interface stays where it is, and the other side calls it."""

from __future__ import annotations

import inspect
from typing import Any

from .attachments import Attached, Attaching
from .errors import ValueUnfit

_OF_VALUES = ("collections.abc", "typing")
"""Their abstract classes, such as Sequence and Mapping, say what a value is made of; nobody calls it from afar."""


def is_interface(kind: Any) -> bool:
    """Whether *kind* is a Protocol or an abstract class that somebody declared for calls."""
    if not isinstance(kind, type) or kind.__module__ in _OF_VALUES:
        return False
    return bool(kind.__dict__.get("_is_protocol")) or inspect.isabstract(kind)


def encode_reference(value: object, interface: type, attaching: Attaching) -> int:
    """Offer *value* to the other side. `ValueUnfit` if it does not have the methods; `TypeError` as `check_closed`."""
    from .declared import check_closed, declared  # which knows of references: an interface can refer to itself

    check_closed(interface)
    for name in declared(interface):
        if not callable(getattr(value, name, None)):
            raise ValueUnfit(f"{type(value).__name__} has no method {name!r}, which {interface.__name__} declares")
    return attaching.export(interface, value)


def decode_reference(number: int, interface: type, attached: Attached) -> object:
    """Return an object that stands for the other side's."""
    return attached.proxy(interface, number)
