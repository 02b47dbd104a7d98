"""Types that msgspec does not know: how each is written as one that it does, with attachments beside it.

Those of belljar, numpy and Pillow are found when an annotation names them, and not before: a child imports nothing
for a type that it does not use. An application adds its own with `adapt`, in the module that declares the interface,
which both sides import.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, get_origin

import msgspec

from .attachments import Attached, Attaching
from .reference import decode_reference, encode_reference, is_interface

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
"""Which attachment of the message, or which object of the other side."""


@dataclass(frozen=True)
class Adapter:
    """How the values of one class travel.

    Attributes:
        wire: the type of what stands in the message, known to msgspec; all that arrives is checked against it, so it
            should say all of what fits, with a ``max_length`` for every container.
        encode: ``(value, annotation, attaching)`` to what stands in the message; raises `ValueUnfit`.
        decode: ``(what stood in the message, annotation, attached)`` to the value; raises `ValueUnfit`. It comes from
            the other side: of the right type, and otherwise anything.
        name: of one of belljar's own, for `describe`.
        check: raises `TypeError` if an annotation does not say enough.
    """

    wire: Any
    encode: Callable[[Any, Any, Attaching], Any]
    decode: Callable[[Any, Any, Attached], Any]
    name: str = ""
    check: Callable[[Any], object] = bool


_PACKAGE = __name__.rpartition(".")[0]
_MEMORY = f"{_PACKAGE.rpartition('.')[0]}.memory.buffer"
_HOMES = {
    f"{_MEMORY}.Buffer": "buffers",
    f"{_MEMORY}.SharedBuffer": "buffers",
    f"{_MEMORY}.SealedBuffer": "buffers",
    f"{_PACKAGE}.fd.Fd": "fd",
    "numpy.ndarray": "arrays",
    "PIL.Image.Image": "images",
}

_OWN = ("buffers", "fd")

_adapters: dict[type, Adapter] = {}


def adapt(
    kind: type,
    *,
    wire: Any,
    encode: Callable[[Any, Any, Attaching], Any],
    decode: Callable[[Any, Any, Attached], Any],
) -> None:
    """Let values of the class *kind* travel in calls; see `Adapter`. Call it before an interface uses the class.

    Raises:
        TypeError: msgspec does not know *wire*, or the class travels already.
    """
    if adapter_of(kind) is not None:
        raise TypeError(f"{kind.__name__} has an adapter already")
    msgspec.msgpack.Decoder(wire)
    _adapters[kind] = Adapter(wire, encode, decode)


def load_adapters() -> None:
    """Import the adapters of all modules that are loaded: after its seal a child finds no file of them."""
    for name, home in _HOMES.items():
        if home in _OWN or name.rpartition(".")[0] in sys.modules:
            import_module(f".{home}", _PACKAGE)


def adapter_of(kind: Any) -> Adapter | None:
    """Return the adapter of the class or generic class *kind*, or None."""
    origin = get_origin(kind) or kind
    if not isinstance(origin, type):
        return None
    found = _adapters.get(origin)
    home = _HOMES.get(f"{origin.__module__}.{origin.__qualname__}")
    if found is None and home is not None:
        found = _adapters[origin] = import_module(f".{home}", _PACKAGE).ADAPTER
    elif found is None and is_interface(origin):
        found = _adapters[origin] = Adapter(Number, encode_reference, decode_reference)
    return found


def is_shared(kind: Any) -> bool:
    """Whether *kind* is `SharedBuffer`, which is not imported to find out."""
    return isinstance(kind, type) and f"{kind.__module__}.{kind.__qualname__}" == f"{_MEMORY}.SharedBuffer"


def adapter_of_value(value: object) -> tuple[type, Adapter]:
    """Return the class of *value* that has an adapter, and the adapter; `TypeError` if none has."""
    for base in type(value).__mro__:
        if not is_interface(base) and (found := adapter_of(base)):
            return base, found
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")
