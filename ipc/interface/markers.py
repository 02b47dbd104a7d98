"""What an interface says of a method beyond its types: decorators that only leave a mark on the function.

class Player(Protocol):
    @notify
    async def hint(self, text: str) -> None: ...

    @raises(BadPicture)
    async def decode(self, data: bytes) -> Picture: ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_NOTIFY = "__belljar_notify__"
_RAISES = "__belljar_raises__"


def notify(function: F) -> F:
    """Mark a method as one-way: its caller waits for no answer, and learns of no error."""
    setattr(function, _NOTIFY, True)
    return function


def raises(*classes: type[Exception]) -> Callable[[F], F]:
    """Declare which errors of a method reach its caller as their own class, each made anew from one text.

    Raises:
        TypeError: one is no class of exceptions, cannot be made from one text, or shares its name with another.
    """
    for each in classes:
        _check_made_from_text(each)
    if len({each.__name__ for each in classes}) < len(classes):
        raise TypeError("two declared errors of one name cannot be told apart; rename one")

    def mark(function: F) -> F:
        setattr(function, _RAISES, classes)
        return function

    return mark


def is_notify(function: object) -> bool:
    """Whether `notify` marked *function*."""
    return bool(getattr(function, _NOTIFY, False))


def declared_errors(function: object) -> dict[str, type[Exception]]:
    """Return what `raises` declared for *function*, by name."""
    return {each.__name__: each for each in getattr(function, _RAISES, ())}


def _check_made_from_text(error: Any) -> None:
    if not (isinstance(error, type) and issubclass(error, Exception)):
        raise TypeError(f"{error!r} is not a class of exceptions")
    try:
        inspect.signature(error).bind("text")
    except TypeError:
        raise TypeError(f"{error.__name__} cannot be declared: it is not made from one text") from None
    except ValueError:  # a class of C without a signature: ValueError is made from one text, UnicodeDecodeError is not
        try:
            error("text")
        except TypeError:
            raise TypeError(f"{error.__name__} cannot be declared: it is not made from one text") from None
