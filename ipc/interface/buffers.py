"""`Buffer`, `SharedBuffer` and `SealedBuffer` as attachments: bytes that are not copied into the message."""

from __future__ import annotations

import weakref
from typing import Any, TypeAlias

from ..memory.buffer import Buffer, SealedBuffer, SharedBuffer
from .adapters import Adapter, Number
from .attachments import Attached, Attaching
from .errors import ValueUnfit

BufferLike: TypeAlias = Buffer | bytes | bytearray | memoryview
"""For parameters: whatever its caller has; who is called gets a `Buffer`."""


def bytes_of(value: Any) -> memoryview:
    """Return the bytes of a `Buffer` or of anything with the buffer protocol, a copy only if they are scattered."""
    try:
        view = memoryview(value.view if isinstance(value, Buffer) else value)
    except TypeError:
        raise ValueUnfit(f"Expected bytes or a buffer, got `{type(value).__name__}`") from None
    if not view.nbytes:
        return memoryview(b"")
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())


def keep(buffer: Buffer, owner: object) -> None:
    """Keep *buffer* unreleased as long as *owner*, which looks at its view, is there."""
    weakref.finalize(owner, buffer.release).atexit = False


def _encode(value: Any, kind: Any, attaching: Attaching) -> int:
    if isinstance(value, SealedBuffer):
        return attaching.sealed(value)
    if kind is SealedBuffer:
        with _sealed(value) as buffer:
            return attaching.sealed(buffer)
    return attaching.shared(value) if isinstance(value, SharedBuffer) else attaching.buffer(bytes_of(value))


def _decode(number: int, kind: Any, attached: Attached) -> Buffer:
    if kind is SealedBuffer:
        try:
            return attached.sealed(number)
        except ValueError as error:
            raise ValueUnfit(str(error)) from None
    return attached.shared(number) if kind is SharedBuffer else attached.buffer(number)


def _sealed(value: Any) -> SealedBuffer:
    try:
        return SealedBuffer.seal(bytes_of(value))
    except ValueError as error:
        raise ValueUnfit(str(error)) from None


ADAPTER = Adapter(Number, _encode, _decode, "buffer")
