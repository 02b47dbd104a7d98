"""The numbered stages."""

from __future__ import annotations

from belljar.ipc.stage import Stage


def test_the_stages_are_numbered_without_gap() -> None:
    """There are ten stages, numbered 1 to 10 in the order of the launch."""
    assert [int(stage) for stage in Stage] == list(range(1, 11))


def test_a_label_is_the_words_of_the_documentation() -> None:
    """A label is the name in lower case with spaces."""
    assert Stage.EARLY_INIT.label == "early init"
    assert Stage.READY.label == "ready"
