"""Sizes and durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.sandbox.quantities import format_size, parse_duration, parse_size


@given(st.integers(0, (1 << 63) - 1))
def test_size_survives_writing(size: int) -> None:
    """A size is read back as it was written."""
    assert parse_size(format_size(size)) == size == parse_size(str(size)) == parse_size(size)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MiB", 512 << 20), ("1.5KiB", 1536), ("1 GB", 10**9), ("2tib", 2 << 40), (" 7 ", 7), ("0", 0)],
)
def test_size_takes_units(text: str, size: int) -> None:
    """KiB is 1024 and KB is 1000, in any case of letters."""
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("10s", 10), ("250ms", 0.25), ("2min", 120), ("1h", 3600), (1.5, 1.5)])
def test_duration_takes_units(text: str | float, seconds: float) -> None:
    """A duration is in seconds, unless it says otherwise."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value", ["", "MiB", "-1", "1e9", "0.5B", "1XB", "9" * 20, "9" * 10000, "٣MiB", "0x10", True, -1, float("nan"), []]
)
def test_no_size_is_a_value_error(value: str | int) -> None:
    """What is no size is refused in words, whatever its type."""
    with pytest.raises(ValueError, match="expected a"):
        parse_size(value)


@pytest.mark.parametrize("value", ["", "s", "1m", "-1s", "1e3s", "400000000s", float("inf"), float("nan"), False, None])
def test_no_duration_is_a_value_error(value: str | float) -> None:
    """What is no duration is refused in words; "1m" says minutes to one reader and metres to another."""
    with pytest.raises(ValueError, match="expected a"):
        parse_duration(value)


@given(st.text())
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    """Reading a size raises nothing but ValueError."""
    try:
        assert parse_size(text) >= 0
    except ValueError as error:
        assert "expected" in str(error)
