"""numpy arrays as attachments: the elements stay where they are, and no pickle is read.

What arrives is read-only and not copied, in C order. An annotation such as ``NDArray[np.uint8]`` or
``np.ndarray[tuple[int, int], np.dtype[np.float32]]`` is checked, on both sides.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from .adapters import Adapter, Number
from .attachments import Attached, Attaching
from .buffers import bytes_of, keep
from .errors import ValueUnfit

MOST_BYTES = 2**48
"""More than any memory holds, and far from what numpy cannot count."""

LAST_CHARACTER = 0x10FFFF
"""Of Unicode; Python makes no text of what is beyond."""

# Booleans, numbers, times, and text of fixed width. No objects, which are pointers, and no records. Times count in
# units of at least 1: numpy divides by that, and a 0 would end the process by SIGFPE.
_DType = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[<>|](b1|[iu][1248]|f(2|4|8|16)|c(8|16|32)|[SU][1-9][0-9]{0,5}|[mM]8(\[([1-9][0-9]{0,5})?[a-zA-Z]{1,2}\])?)\Z"
    ),
]
_Length = Annotated[int, msgspec.Meta(ge=0, le=MOST_BYTES)]
_Shape = Annotated[tuple[_Length, ...], msgspec.Meta(max_length=32)]
_Wire = tuple[_DType, _Shape, Number]


def _encode(value: Any, kind: Any, attaching: Attaching) -> tuple[str, tuple[int, ...], int]:
    array: NDArray[Any] = value
    if not isinstance(value, np.ndarray):
        raise ValueUnfit(f"Expected `ndarray`, got `{type(value).__name__}`")
    _check_kind(kind, array.dtype, array.ndim)
    try:
        msgspec.convert([array.dtype.str, array.shape, 0], _Wire)
    except msgspec.ValidationError:
        raise ValueUnfit(f"arrays of {array.dtype} and {array.ndim} dimensions cannot be sent") from None
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)  # times have no buffer protocol of their own
    return array.dtype.str, array.shape, attaching.buffer(bytes_of(flat))


def _decode(wire: tuple[str, tuple[int, ...], int], kind: Any, attached: Attached) -> Any:
    name, shape, number = wire
    dtype = _dtype(name)
    _check_kind(kind, dtype, len(shape))
    if math.prod(length or 1 for length in shape) * dtype.itemsize > MOST_BYTES:
        raise ValueUnfit(f"no array has the shape {shape}")
    buffer = attached.buffer(number)
    if math.prod(shape) * dtype.itemsize != len(buffer):
        raise ValueUnfit(f"an array of {dtype} with the shape {shape} has not {len(buffer)} bytes")
    if not len(buffer):
        return np.empty(shape, dtype)
    array = np.frombuffer(buffer.view.toreadonly(), dtype)
    if dtype.kind == "U" and array.view(f"{dtype.byteorder}u4").max() > LAST_CHARACTER:
        raise ValueUnfit("an array of text has numbers that are no characters")
    keep(buffer, array)  # the base of all that is made of it
    return array.reshape(shape)


def _dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError as error:  # a unit of time that is none
        raise ValueUnfit(str(error)) from None


def _check_kind(kind: Any, dtype: np.dtype[Any], dimensions: int) -> None:
    """Raise `ValueUnfit` unless an array of *dtype* and so many *dimensions* fits the annotation *kind*."""
    shape, scalar = (*get_args(kind), Any, Any)[:2]
    lengths = get_args(shape)
    wanted: Any = next(iter(get_args(scalar)), Any)
    # One, or those of a union.
    scalars = [each for each in get_args(wanted) or (wanted,) if each is not Any and isinstance(each, type)]
    if scalars and not any(np.issubdtype(dtype, each) for each in scalars):
        raise ValueUnfit(f"Expected an array of {' or '.join(each.__name__ for each in scalars)}, got one of {dtype}")
    if lengths and ... not in lengths and len(lengths) != dimensions:
        raise ValueUnfit(f"Expected an array of {len(lengths)} dimensions, got one of {dimensions}")


ADAPTER = Adapter(_Wire, _encode, _decode, "ndarray")
