"""What a child says that its plugin declares, held against an interface."""

from __future__ import annotations

from typing import Protocol

from belljar.ipc.interface import declared
from belljar.ipc.interface.compare import Sides, first_difference
from belljar.ipc.interface.describe import describe
from belljar.ipc.interface.errors import ValueUnfit
from belljar.ipc.interface.fitting import pack, unpack

from ..everything import Everything
from ..target import Target


class Small(Protocol):
    """Another interface."""

    def add(self, first: int, second: int = 3) -> int: ...


OURS = [describe(Everything), describe(Small)]
SIDES = Sides("the interface", "the plugin")


def take(data: bytes) -> None:
    """Compare. The answer is one line of printable words."""
    theirs = unpack(data)
    for ours in OURS if theirs is not None else ():
        assert theirs is not None
        for wanted, found in ((ours, theirs), (theirs, ours)):
            said = first_difference(wanted, found, SIDES)
            assert said.isprintable()
            assert len(said) < 2000


TARGET = Target(lambda: [pack(each.__name__, declared(each)) for each in (Everything, Small)], take, (ValueUnfit,))
