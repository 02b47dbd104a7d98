"""The state of a launch never goes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from belljar.host.state import Progress, State


@given(st.lists(st.sampled_from(State)))
def test_the_state_is_the_furthest_that_was_reached(news: list[State]) -> None:
    """In whatever order news arrive, the state is the latest of them, and only a later one is news."""
    progress = Progress()
    for state in news:
        before = progress.state
        assert progress.reach(state) == (state > before)
        assert progress.state == max(before, state)


def test_a_launch_begins_as_created() -> None:
    """Before anything happened the state is CREATED."""
    assert Progress().state is State.CREATED
