"""Values that msgspec does not know: buffers, arrays, images, references, and an application's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Protocol, TypeAlias

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from belljar.ipc.interface import ArgumentsUnfit, ValueUnfit, adapt, check_closed, codec, declared, notify
from belljar.ipc.interface.buffers import BufferLike
from belljar.ipc.memory.buffer import Buffer

from .attachments_in_memory import Attached, Attaching

Matrix: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float64]]


class Progress(Protocol):
    """What a caller lends."""

    def done(self, part: float) -> None: ...


class Loose(Protocol):
    """What a caller should not lend."""

    def take(self, anything: Any) -> None: ...


class Tile(msgspec.Struct):
    """Adapted values within another."""

    name: str
    pixels: NDArray[np.uint8]
    raw: Buffer | None = None


class Painter(Protocol):
    """Takes and gives attachments."""

    async def store(self, name: str, data: BufferLike, scale: int = 1) -> Buffer: ...

    async def draw(self, progress: Progress | None, tiles: list[Tile]) -> list[Tile]: ...

    async def blur(
        self, image: Image.Image, kernel: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    ) -> Image.Image: ...

    async def lend(self, loose: Loose) -> None: ...

    def rows(self, count: int) -> AsyncIterator[NDArray[np.uint8]]: ...


PAINTER = declared(Painter)


class Bar:
    """A progress bar."""

    def done(self, part: float) -> None: ...


def through(name: str, *arguments: Any) -> tuple[Any, ...]:
    """Return *arguments* as they arrive."""
    attaching = Attaching()
    payload = PAINTER[name].encode_arguments(PAINTER[name].bind(arguments, {}), attaching)
    return tuple(PAINTER[name].decode_arguments(payload, Attached(attaching)))


def value_through(kind: Any, value: Any) -> Any:
    """Return *value* as it arrives."""
    attaching = Attaching()
    payload = codec(kind).encode(value, attaching)
    assert len(payload) < 200
    return codec(kind).decode(payload, Attached(attaching))


@pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc"), Buffer(memoryview(b"abc"))])
def test_whatever_holds_bytes_arrives_as_a_buffer(data: Any) -> None:
    """A parameter for a buffer takes anything with bytes in it; they are not in the message."""
    name, buffer, scale = through("store", "name", data, 2)
    assert (name, type(buffer), bytes(buffer), scale) == ("name", Buffer, b"abc", 2)
    assert not PAINTER["store"].plain


def test_scattered_bytes_are_gathered() -> None:
    """A view with gaps arrives as its bytes in a row, an empty one as nothing."""
    assert bytes(through("store", "", memoryview(b"abcdef")[::2])[1]) == b"ace"
    assert bytes(through("store", "", np.empty((0, 3)))[1]) == b""


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(12, dtype=">i4").reshape(3, 2, 2)[:, ::-1],
        np.asfortranarray(np.eye(3)),
        np.array(1.5),
        np.empty((0, 5), np.complex64),
        np.array(["a", "bc"]),
        np.array(["2026-11-28"], "M8[D]"),
        np.array(["2026-11-28"], ">M8[7D]"),
        np.array(["\U0010ffff", ""]).astype(">U1"),
        np.zeros(3, bool),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_arrive_equal_and_read_only(array: NDArray[Any]) -> None:
    """An array arrives with its type, shape and elements, over the very memory that was received."""
    arrived = value_through(np.ndarray, array)
    assert arrived.dtype == array.dtype
    np.testing.assert_array_equal(arrived, array)
    assert not arrived.size or not arrived.flags.writeable
    assert not arrived.size or not arrived.flags.owndata


def test_an_array_keeps_its_buffer() -> None:
    """A buffer is not released before the last view of the array that was made of it is gone."""
    attaching = Attaching()
    payload = codec(NDArray[np.uint8]).encode(np.arange(10, dtype=np.uint8), attaching)
    attached = Attached(attaching)
    part = codec(NDArray[np.uint8]).decode(payload, attached)[2:][1:]
    assert (attached.released, part[0]) == (0, 3)
    del part
    assert attached.released == 1


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (np.ndarray, np.array([object()]), "arrays of object"),
        (np.ndarray, np.zeros(2, "i4,f4"), "cannot be sent"),
        (np.ndarray, [1, 2], "Expected `ndarray`, got `list`"),
        (NDArray[np.uint8], np.zeros(2), "Expected an array of uint8, got one of float64"),
        (
            np.ndarray[tuple[int, int], np.dtype[np.float64]],
            np.zeros(2),
            "Expected an array of 2 dimensions, got one of 1",
        ),
        (Image.Image, b"", "Expected `Image`"),
        (Image.Image, Image.new("P", (2, 2)), "an image of mode P"),
        (Buffer, "text", "Expected bytes or a buffer, got `str`"),
    ],
)
def test_what_an_adapter_cannot_send_is_unfit(kind: Any, value: Any, reason: str) -> None:
    """A value that is not of the annotation, or that could not be rebuilt without a pickle, is not sent."""
    with pytest.raises(ValueUnfit, match=reason):
        codec(kind).encode(value, Attaching())


@pytest.mark.parametrize(
    ("kind", "wire", "reason"),
    [
        (np.ndarray, ["|O", [1], 0], "Expected `str` matching regex"),
        (np.ndarray, ["|V8", [1], 0], "Expected `str` matching regex"),
        (np.ndarray, ["i4,O", [1], 0], "Expected `str` matching regex"),
        (np.ndarray, ["<M8[x]", [1], 0], "Invalid datetime unit"),
        (np.ndarray, ["<M8[0s]", [1], 0], "Expected `str` matching regex"),  # numpy would divide by it: SIGFPE
        (np.ndarray, ["<m8[000D]", [1], 0], "Expected `str` matching regex"),
        (np.ndarray, ["<U1", [2], 2], "numbers that are no characters"),
        (np.ndarray, ["<U999999", [0, 2**48], 0], "no array has the shape"),
        (NDArray[np.float32 | np.float64], ["<i8", [1], 0], "Expected an array of float32 or float64, got one of"),
        (np.ndarray[tuple[int, int]], ["<f8", [1], 0], "Expected an array of 2 dimensions, got one of 1"),
        (set[Any], [{}], "unhashable"),
        (np.ndarray, ["<f8", [2], 0], "has not 8 bytes"),
        (np.ndarray, ["<f8", [], 3], "nothing has the number 3"),
        (np.ndarray, ["<f8", [-1], 0], ">= 0"),
        (np.ndarray, ["<f8", [2**40, 2**40], 0], "no array has the shape"),
        (np.ndarray, ["<f8", [0, 2**48, 2**48], 0], "no array has the shape"),
        (np.ndarray, ["<f8", [1] * 33, 0], "length <= 32"),
        (NDArray[np.float32], ["<f8", [1], 0], "Expected an array of float32, got one of float64"),
        (Image.Image, ["RGB", 1, 2, 0], "has not 8 bytes"),
        (Image.Image, ["RGB", 2**40, 2, 0], "<= 1048576"),
        (Image.Image, ["XYZ", 1, 2, 0], "Invalid enum value"),
        (Image.Image, ["RGBA", 1, 2], "length 4"),
        (list[NDArray[np.uint8]], [["|u1", [9], 0]], r"has not 8 bytes - at `\$\[0\]`"),
        (Tile, {"name": "", "pixels": ["|u1", [8], -1]}, r">= 0 - at `\$"),
    ],
)
def test_a_hostile_description_is_refused_before_anything_is_made(kind: Any, wire: Any, reason: str) -> None:
    """Type, shape and size are checked against the eight bytes that came, before there is memory for them."""
    attaching = Attaching()
    attaching.buffer(memoryview(bytes(8)))
    attaching.kept += [None, memoryview(b"\xff\xff\xff\x7f" * 2)]
    with pytest.raises(ValueUnfit, match=reason):
        codec(kind).decode(msgspec.msgpack.encode(wire), Attached(attaching))


@given(st.binary(max_size=40), st.sampled_from([np.ndarray, Image.Image, Tile, list[Buffer], Buffer | None]))
def test_any_bytes_are_a_value_or_do_not_fit(payload: bytes, kind: Any) -> None:
    """Whatever a message holds where an adapted value should stand, it is one or it is unfit."""
    attaching = Attaching()
    attaching.buffer(memoryview(bytes(8)))
    try:
        codec(kind).decode(payload, Attached(attaching))
    except ValueUnfit:
        return


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16"])
def test_images_arrive_equal(mode: str) -> None:
    """An image arrives with its mode, size and pixels."""
    image = Image.frombytes(
        mode, (3, 2), bytes(range(6 * {"I;16": 2}.get(mode, 4)))[: len(Image.new(mode, (3, 2)).tobytes())]
    )
    arrived = value_through(Image.Image, image)
    assert (arrived.mode, arrived.size, arrived.tobytes()) == (image.mode, image.size, image.tobytes())


def test_adapted_values_may_be_within_others() -> None:
    """Structs and lists carry arrays and buffers, each attached."""
    tile = Tile("a", np.arange(4, dtype=np.uint8), Buffer(memoryview(b"raw")))
    _, (first, second) = through("draw", None, [tile, Tile("b", tile.pixels)])
    assert (first.name, bytes(first.raw), second.name, second.raw) == ("a", b"raw", "b", None)
    np.testing.assert_array_equal(second.pixels, tile.pixels)


def test_large_data_belongs_into_attachments() -> None:
    """A message with adapted values within others is small but for those: what stands there has no type at first."""
    with pytest.raises(ArgumentsUnfit, match="use a Buffer for large data"):
        through("draw", None, [Tile("x" * 300_000, np.zeros(1, np.uint8))])
    bomb = msgspec.msgpack.encode([None, [{"name": "", "pixels": [[]] * 300_000}]])
    with pytest.raises(ArgumentsUnfit, match="use a Buffer for large data"):
        PAINTER["draw"].decode_arguments(bomb, Attached(Attaching()))


def test_an_interface_among_the_parameters_is_a_reference() -> None:
    """An object with the methods of the parameter's interface is lent; the other side gets what stands for it."""
    bar = Bar()
    assert through("draw", bar, []) == (bar, [])
    assert through("draw", None, []) == (None, [])
    with pytest.raises(ArgumentsUnfit, match="argument 'progress': int has no method 'done', which Progress declares"):
        through("draw", 5, [])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Sequence[str], ["a"]),
        (Mapping[str, Sequence[int]], {"a": [1]}),
        (Sequence, [1, "a"]),
        (Sequence[int] | None, []),
    ],
    ids=str,
)
def test_an_abstract_collection_is_a_value_and_no_interface(kind: Any, value: Any) -> None:
    """What `collections.abc` declares and msgspec knows travels as its elements, as an argument and as a result."""

    class Takes:
        def call(self, argument): ...  # type: ignore[no-untyped-def]

    Takes.call.__annotations__ = {"argument": kind, "return": kind}
    method = declared(Takes)["call"]
    assert method.decode_arguments(method.encode_arguments(method.bind((value,), {}))) == (value,)
    assert method.result.decode(method.result.encode(value)) == value


def test_what_is_lent_takes_nothing_open() -> None:
    """The other side calls what is lent to it, so each parameter needs a type."""
    with pytest.raises(ArgumentsUnfit, match=r"Loose\.take: give the parameter 'anything' a type"):
        through("lend", type("Takes", (), {"take": print})())


def test_a_reference_is_never_a_part_of_a_value() -> None:
    """An interface as the type of a field or an item is an error that says so."""

    class Nested(Protocol):
        def lend(self, bars: list[Progress]) -> None: ...

    with pytest.raises(TypeError, match=r"method 'Nested\.lend' .*Progress is an interface; it can be an argument"):
        declared(Nested)


def test_a_reference_is_never_more_than_an_argument_of_a_call() -> None:
    """Of a result, an item or a notification nobody could say how long it is offered."""

    class Returned(Protocol):
        def lend(self) -> Progress | None: ...

    class Yielded(Protocol):
        def lend(self) -> Iterator[Progress]: ...

    class Uploaded(Protocol):
        def lend(self, bars: Iterator[Progress]) -> None: ...

    class Told(Protocol):
        @notify
        def lend(self, bar: Progress) -> None: ...

    for interface in (Returned, Yielded, Uploaded, Told):
        with pytest.raises(TypeError, match=r"'\w+\.lend' .*Progress is an interface; it can be an argument of a call"):
            declared(interface)


def test_without_attachments_nothing_is_attached() -> None:
    """Where no attachment can travel, a value that needs one is unfit, on its way out and in."""
    with pytest.raises(ValueUnfit, match="nothing can be attached"):
        codec(list[Buffer]).encode([Buffer(memoryview(b""))])
    for kind, wire in ((Buffer, 0), (list[Buffer], [0])):
        with pytest.raises(ValueUnfit, match="nothing was attached"):
            codec(kind).decode(msgspec.msgpack.encode(wire))
    with pytest.raises(ValueUnfit, match="nothing can be attached"):
        codec(Buffer).encode(b"")


def test_many_values_share_their_attachments() -> None:
    """The results of many calls may have attachments too, each its own."""
    attaching = Attaching()
    payload = codec(Buffer).encode_many([b"a", b"b"], attaching)
    assert [bytes(each) for each in codec(Buffer).decode_many(payload, 2, Attached(attaching))] == [b"a", b"b"]
    store = PAINTER["store"]
    payload = store.encode_many([("a", b"1"), ("b", b"2")], attaching)
    assert [bytes(data) for _, data in store.decode_many(payload, Attached(attaching))] == [b"1", b"2"]


def test_an_application_adds_its_own_types() -> None:
    """A class with an adapter travels as the type that the adapter says, once."""
    wire: Any = tuple[int, Annotated[int, msgspec.Meta(ge=1)]]
    options: Any = {
        "wire": wire,
        "encode": lambda value, kind, attaching: (value.numerator, value.denominator),
        "decode": lambda wire, kind, attached: Fraction(*wire),
    }
    adapt(Fraction, **options)
    with pytest.raises(TypeError, match="Fraction has an adapter already"):
        adapt(Fraction, **options)

    class Clock(Protocol):
        def tick(self, times: list[Fraction]) -> Fraction: ...

    check_closed(Clock)
    assert value_through(list[Fraction], [Fraction(1, 3)]) == [Fraction(1, 3)]
    for kind, value in ((Fraction, [1, 3]), (list[Fraction], [[1, 3]])):  # where a message came without attachments
        assert codec(kind).decode(msgspec.msgpack.encode(value), None) in (Fraction(1, 3), [Fraction(1, 3)])
    with pytest.raises(ValueUnfit, match=">= 1"):
        codec(Fraction).decode(msgspec.msgpack.encode([1, 0]), Attached(Attaching()))


def test_an_interface_without_arrays_imports_no_numpy() -> None:
    """A child pays for numpy, Pillow and the memory of both sides only if an annotation names them."""
    program = """
import sys
from typing import Any, Protocol, TypeAlias
from belljar.ipc.interface import declared
class Plain(Protocol):
    def call(self, data: bytes, other: Any) -> list[int]: ...
declared(Plain)
print([name for name in ("numpy", "PIL", "asyncio", "belljar.ipc.memory", "socket") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
