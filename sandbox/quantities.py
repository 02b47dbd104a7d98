"""Sizes and durations as people write them: ``512MiB``, ``30s``.

Used wherever a file or a command line names a limit. Every error is a `ValueError` of one clause, so that msgspec and
the configuration can put the place in front of it.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

SIZE_UNITS: Final = {
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
DURATION_UNITS: Final = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "min": Fraction(60),
    "h": Fraction(3600),
}

# The kernel's rlimits and file sizes are signed 64-bit numbers wherever they are looked at.
MAX_SIZE: Final = (1 << 63) - 1
# A year: longer than any deadline means, and short enough for every clock and poll() that is handed it.
MAX_DURATION: Final = 366 * 24 * 3600

# Bounded, so that no length of digits costs time; ASCII only, so that no other script's digits slip in.
_QUANTITY: Final = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?) ?([A-Za-z]{0,4})")


def parse_size(value: str | int) -> int:
    """Return the bytes that *value* means: ``512MiB``, ``1.5 GB``, ``4096`` or a plain integer.

    KiB, MiB, GiB and TiB are powers of 1024; KB, MB, GB and TB powers of 1000; no unit means bytes.

    Raises:
        ValueError: Not a size, a fraction of a byte, or more than 2**63 - 1.
    """
    size = _parse(value, SIZE_UNITS, "a size such as 512MiB")
    if size.denominator != 1:
        raise ValueError(f"expected a whole number of bytes, got {value!r}")
    if size > MAX_SIZE:
        raise ValueError(f"expected a size below 8 EiB, got {value!r}")
    return int(size)


def parse_duration(value: str | float) -> float:
    """Return the seconds that *value* means: ``250ms``, ``10s``, ``2min``, ``1h`` or a plain number of seconds.

    Raises:
        ValueError: Not a duration, or longer than a year.
    """
    seconds = _parse(value, DURATION_UNITS, "a duration such as 10s or 250ms")
    if seconds > MAX_DURATION:
        raise ValueError(f"expected a duration of at most a year, got {value!r}")
    return float(seconds)


def format_size(size: int) -> str:
    """Write *size* bytes in the largest binary unit that loses nothing; `parse_size` reads it back."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def _parse(value: object, units: dict[str, int] | dict[str, Fraction], expected: str) -> Fraction:
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"expected {expected}, got {value!r}")
        return Fraction(match[1]) * _unit(match[2], units, value)
    # True is an int to Python; every comparison with nan is false, and no fraction is infinite.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"expected {expected}, got {value!r}")
    return Fraction(value)


def _unit(name: str, units: dict[str, int] | dict[str, Fraction], value: str) -> int | Fraction:
    """Look *name* up without regard to case; no name means the base unit."""
    if not name:
        return 1
    for unit, factor in units.items():
        if unit.lower() == name.lower():
            return factor
    raise ValueError(f"expected a unit of {', '.join(units)}, got {value!r}")
