"""What an error of a step says about a name that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return " (did you mean ...?)" with that of *valid* which was probably meant, or a list of all if they are few."""
    names = sorted(valid)
    if close := get_close_matches(name[:100], names, 1):
        return f" (did you mean {close[0]!r}?)"
    return f" (there is: {', '.join(names)})" if len(names) <= 20 else ""
