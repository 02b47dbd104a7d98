"""As much of msgpack as the protocol needs: nil, booleans, integers, floats, text, bytes, arrays and maps.

See https://github.com/msgpack/msgpack/blob/master/spec.md; no extension types.
"""

from __future__ import annotations

import struct
from typing import Any


def pack(value: Any) -> bytes:
    """Return *value* as msgpack; lengths and integers in their widest form, which every reader takes."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return struct.pack(">Bq", 0xD3, value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        text = value.encode()
        return struct.pack(">BI", 0xDB, len(text)) + text
    if isinstance(value, bytes):
        return struct.pack(">BI", 0xC6, len(value)) + value
    if isinstance(value, (list, tuple)):
        return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(pack, value))
    pairs = [pack(key) + pack(item) for key, item in value.items()]
    return struct.pack(">BI", 0xDF, len(pairs)) + b"".join(pairs)


def unpack(data: bytes) -> Any:
    """Return the value in *data*."""
    return _Reader(data).value()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        (value,) = struct.unpack(">" + form, self.take(struct.calcsize(form)))
        return value

    def value(self) -> Any:
        first = self.number("B")
        if first <= 0x7F or first >= 0xE0:
            return first if first <= 0x7F else first - 256
        if first <= 0x8F:
            return self.map(first & 0x0F)
        if first <= 0x9F:
            return self.array(first & 0x0F)
        if first <= 0xBF:
            return self.take(first & 0x1F).decode()
        if first in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[first]
        if 0xCA <= first <= 0xD3:
            return self.number("fdBHIQbhiq"[first - 0xCA])
        return self.sized(first)

    def sized(self, first: int) -> Any:
        if 0xC4 <= first <= 0xC6:
            return self.take(self.number("BHI"[first - 0xC4]))
        if 0xD9 <= first <= 0xDB:
            return self.take(self.number("BHI"[first - 0xD9])).decode()
        count = self.number("HIHI"[first - 0xDC])
        return self.array(count) if first <= 0xDD else self.map(count)

    def array(self, count: int) -> list[Any]:
        return [self.value() for _ in range(count)]

    def map(self, count: int) -> dict[Any, Any]:
        return {self.value(): self.value() for _ in range(count)}
