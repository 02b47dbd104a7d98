"""A plugin that reads what its host publishes."""

from __future__ import annotations

import msgspec

from belljar import Topic, subscription


class Score(msgspec.Struct):
    """Where a game stands."""

    home: int
    note: str = ""


class Weather(msgspec.Struct):
    """How warm it is."""

    degrees: float


SCORES = Topic("scores", Score)
SCORES_TOO = Topic("scores.too", Score)
WEATHER = Topic("weather", Weather)


class Listens:
    """Subscribes as it is made, and waits when it is told to."""

    def __init__(self) -> None:
        self.subscription = subscription(SCORES, WEATHER)

    def next(self, seconds: float) -> str:
        return repr(self.subscription.receive(seconds))

    def missed(self) -> tuple[int, int, int]:
        """Read all that is there."""
        while self.subscription.receive(0.5) is not None:
            pass
        seen = self.subscription.seen(SCORES)
        return seen.first, seen.received, seen.dropped
