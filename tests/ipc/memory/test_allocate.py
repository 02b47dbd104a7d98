"""The allocator: no two ranges overlap, nothing is lost, and it is quick."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from belljar.ipc.memory.allocate import ALIGNMENT, LARGE, PAGE, Allocator, NotAllocated

SIZE = 64 * PAGE
LENGTHS = st.one_of(st.integers(1, 4096), st.integers(LARGE - 64, 3 * LARGE), st.just(SIZE))


class Allocations(RuleBasedStateMachine):
    """Compares an `Allocator` with a plain set of the blocks of 64 bytes that are taken."""

    offsets = Bundle("offsets")

    @initialize()
    def begin(self) -> None:
        self.allocator = Allocator(SIZE)
        self.taken: dict[int, set[int]] = {}
        self.peak = 0

    @rule(target=offsets, length=LENGTHS)
    def allocate(self, length: int) -> int:
        offset = self.allocator.allocate(length)
        align = PAGE if length >= LARGE else ALIGNMENT
        if offset is None:
            assert not any(self._fits(start, length) for start in range(0, SIZE, align))
            return -1
        assert offset % align == 0
        assert self._fits(offset, length)
        self.taken[offset] = self._blocks(offset, length)
        self.peak = max(self.peak, sum(map(len, self.taken.values())))
        return offset

    @rule(offset=consumes(offsets))
    def free(self, offset: int) -> None:
        if self.taken.pop(offset, None) is None:
            with pytest.raises(NotAllocated):
                self.allocator.free(offset)
        else:
            self.allocator.free(offset)

    @rule(offset=st.integers(0, SIZE))
    def free_anything(self, offset: int) -> None:
        if offset not in self.taken:
            with pytest.raises(NotAllocated):
                self.allocator.free(offset)

    @invariant()
    def agrees(self) -> None:
        taken = set[int]().union(*self.taken.values())
        holes = list(self.allocator.holes())
        free = {block for start, end in holes for block in range(start, end, ALIGNMENT)}
        assert free == set(range(0, SIZE, ALIGNMENT)) - taken
        assert all(end < start for (_, end), (start, _) in zip(holes, holes[1:], strict=False))
        assert self.allocator.used == len(taken) * ALIGNMENT
        assert self.allocator.peak == self.peak * ALIGNMENT
        assert self.allocator.end == max(taken, default=-ALIGNMENT) + ALIGNMENT
        assert self.allocator.largest_free == max((end - start for start, end in holes), default=0)

    @staticmethod
    def _blocks(offset: int, length: int) -> set[int]:
        align = PAGE if length >= LARGE else ALIGNMENT
        return set(range(offset, offset + -(-length // align) * align, ALIGNMENT))

    def _fits(self, offset: int, length: int) -> bool:
        blocks = self._blocks(offset, length)
        return max(blocks) < SIZE and not any(blocks & taken for taken in self.taken.values())


Allocations.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_allocations_agree_with_a_model = pytest.mark.filterwarnings("default")(Allocations.TestCase)


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
