"""The fuzzer's targets without the fuzzer: their examples, and a few changes to each. ``scripts/fuzz`` goes on."""

from __future__ import annotations

import os

import pytest

from .target import Finding, Judge, Target, inputs, load, names

CHANGED = {"zmq": 20, "async_peer": 150, "shared_peer": 150}
"""Inputs beside the examples, where each takes long."""


@pytest.mark.parametrize("name", names())
def test_every_input_is_taken_or_refused(name: str) -> None:
    """What is said is taken or a refusal of the target's; no fd and no memory stays. Some of it is taken."""
    target = load(name)
    judge = Judge(target)
    for data in inputs(target, seed=7, count=CHANGED.get(name, 400)):
        judge(data)
    assert 0 < judge.refused < judge.taken * 0.9


def test_what_stays_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An fd that a target forgets is a finding, and so is an error that is no refusal of it."""
    monkeypatch.setattr("tests.fuzz.target.PATIENCE", 0.0)
    forgotten: list[int] = []
    judge = Judge(Target(list, lambda data: forgotten.append(os.dup(0)) if data else None, (ValueError,)))
    judge(b"")
    with pytest.raises(Finding, match="an fd stayed"):
        judge(b"x")
    for fd in forgotten:
        os.close(fd)
    with pytest.raises(ZeroDivisionError):
        Judge(Target(list, lambda data: 1 // len(data), (ValueError,)))(b"")
