"""What a plugin raised, as text: the error itself never leaves the child."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Iterator
from types import TracebackType

from .bundle import ROOT

_PACKAGE = __name__.partition(".")[0] + "."


def describe(error: BaseException, *, without_files: bool) -> tuple[str, str]:
    """Return the text of *error* and its traceback, without what of belljar's called the plugin.

    With *without_files* only the bundle's frames have source lines. To look for those of a library would be refused
    after the seal, and then be told as if the plugin had been refused something.
    """
    if without_files:
        for filename in _files(error):
            linecache.cache.setdefault(filename, (0, None, [], filename))
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and _is_own(trace):
        trace = trace.tb_next
    return _text(error), "".join(traceback.format_exception(type(error), error, trace))


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


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a plugin's __str__ may raise anything
        return "(its text cannot be read)"
