"""The allocator: no two ranges overlap, nothing is lost, and it is quick."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from belljar.ipc.memory.allocate import ALIGNMENT, LARGE, PAGE, Allocator, NotAllocated

SIZE = 64 * PAGE
LENGTHS = st.one_of(st.integers(1, 4096), st.integers(LARGE - 64, 3 * LARGE), st.just(SIZE))


def align(length: int) -> int:
    return PAGE if length >= LARGE else ALIGNMENT


def mask(start: int, end: int) -> int:
    """Return a number with one bit for each block of `ALIGNMENT` bytes."""
    return (1 << end // ALIGNMENT) - (1 << start // ALIGNMENT)


def range_of(offset: int, length: int) -> int:
    return mask(offset, offset + -(-length // align(length)) * align(length))


class Allocations(RuleBasedStateMachine):
    """Compares an `Allocator` with a plain map of the blocks that are taken."""

    offsets = Bundle("offsets")

    @initialize()
    def begin(self) -> None:
        self.allocator = Allocator(SIZE)
        self.ranges: dict[int, int] = {}
        self.taken = self.peak = 0

    @rule(target=offsets, length=LENGTHS)
    def allocate(self, length: int) -> int:
        offset = self.allocator.allocate(length)
        if offset is None:
            assert not any(self.fits(start, length) for start in range(0, SIZE, align(length)))
            return -1
        assert offset % align(length) == 0
        assert self.fits(offset, length)
        self.ranges[offset] = range_of(offset, length)
        self.taken |= self.ranges[offset]
        self.peak = max(self.peak, self.taken.bit_count())
        return offset

    def fits(self, offset: int, length: int) -> bool:
        wanted = range_of(offset, length)
        return not wanted & self.taken and wanted < 1 << SIZE // ALIGNMENT

    @rule(offset=consumes(offsets) | st.integers(0, SIZE))
    def free(self, offset: int) -> None:
        if offset not in self.ranges:
            with pytest.raises(NotAllocated):
                self.allocator.free(offset)
            return
        self.allocator.free(offset)
        self.taken ^= self.ranges.pop(offset)

    @invariant()
    def agrees(self) -> None:
        holes = list(self.allocator.holes())
        assert sum(mask(start, end) for start, end in holes) == mask(0, SIZE) ^ self.taken
        assert all(end < start for (_, end), (start, _) in pairwise(holes))
        assert self.allocator.used == self.taken.bit_count() * ALIGNMENT
        assert self.allocator.peak == self.peak * ALIGNMENT
        assert self.allocator.end == self.taken.bit_length() * ALIGNMENT


Allocations.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_allocations_agree_with_a_model = Allocations.TestCase


def test_a_range_that_is_freed_is_the_next_to_be_taken() -> None:
    """Memory that was touched is used again before any other is touched."""
    allocator = Allocator(SIZE)
    first = allocator.allocate(LARGE)
    assert first is not None
    allocator.allocate(LARGE)
    allocator.free(first)
    assert allocator.allocate(LARGE) == first


@pytest.mark.parametrize("length", [0, -1])
def test_nothing_has_no_offset(length: int) -> None:
    """A length that is not positive is an error and not a range."""
    with pytest.raises(ValueError, match="could not allocate"):
        Allocator(PAGE).allocate(length)


@pytest.mark.parametrize("size", [0, -PAGE, PAGE - 1])
def test_an_arena_is_made_of_pages(size: int) -> None:
    """A size that is no positive number of pages is refused."""
    with pytest.raises(ValueError, match="not a number of pages"):
        Allocator(size)
