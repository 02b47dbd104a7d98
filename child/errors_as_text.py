"""What a plugin raised, as text: the error itself never leaves the child.

An error is foreign code: its text, its attributes and the name of its class may raise in turn, or be no plain `str`.
"""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Iterator
from types import TracebackType

from .bundle import ROOT

_PACKAGE = __name__.partition(".")[0] + "."

_NAME = type.__dict__["__name__"]
"""What reads the name of a class, whatever its metaclass says."""


def describe(error: BaseException, *, without_files: bool) -> tuple[str, str]:
    """Return the text of *error* and its traceback, without what of belljar's called the plugin. Never raises.

    With *without_files* only the bundle's frames have source lines. To look for those of a library would be refused
    after the seal, and then be told as if the plugin had been refused something.
    """
    try:
        trace = _traceback(error, without_files=without_files)
    except BaseException:  # noqa: BLE001 - such as a SyntaxError of a plugin's own making, with a line that is no number
        trace = f"{class_name(error)}: (its traceback cannot be read)\n"
    return text_of(error), trace


def class_name(error: BaseException) -> str:
    """Return the name of the class of *error*."""
    return str.__str__(_NAME.__get__(type(error)))


def text_of(error: BaseException) -> str:
    """Return what *error* says, or that it cannot be read."""
    try:
        return str.__str__(str(error))  # which may return an heir of str
    except BaseException:  # noqa: BLE001 - a plugin's __str__ may raise anything
        return "(its text cannot be read)"


def _traceback(error: BaseException, *, without_files: bool) -> str:
    if without_files:
        for filename in _files(error):
            linecache.cache.setdefault(filename, (0, None, [], filename))
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and _is_own(trace):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _is_own(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__")).startswith(_PACKAGE)


def _files(error: BaseException) -> Iterator[str]:
    """Yield the files of all frames, those of causes and contexts too, but of the bundle."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        waiting += [found.__cause__, found.__context__]
        yield from (name for name in _names(found.__traceback__) if not name.startswith(ROOT))


def _names(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
