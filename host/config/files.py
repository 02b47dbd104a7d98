"""Files that a configuration names: that they exist, and the nearest name when they do not."""

from __future__ import annotations

import keyword
import os
from pathlib import Path

from .place import Place, nearest, quoted

MAX_NAME = 256
"""Characters of a module's, class's or function's name (`belljar.ipc.messages.Name`)."""


def existing(place: Place, base: Path, entry: str) -> Path:
    """Return the absolute path of *entry*, which must exist below or beside *base*."""
    if not entry or "\0" in entry:
        raise place.error(f"expected a path, got {quoted(entry)}")
    try:
        path = Path(base, entry).absolute()
    except FileNotFoundError:
        raise place.error(f"the current folder is gone, so {quoted(entry)} must be a path from the root") from None
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise place.error(f"no such file or folder: {quoted(str(path))}{_nearest_file(path)}") from None
    except (OSError, ValueError) as error:
        raise place.error(f"could not look at {quoted(str(path))}: {_reason(error)}") from None
    return path


def _nearest_file(path: Path) -> str:
    try:
        beside = os.listdir(path.parent)
    except (OSError, ValueError):
        return f" (there is no folder {quoted(str(path.parent))})"
    hint = nearest(path.name, beside)
    return hint if "did you mean" in hint else ""


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def split_entry(entry: str, place: Place, expected: str) -> tuple[str, str]:
    """Return path and name of *entry*, which must read ``path:name``; *expected* says what, with an example."""
    path, _, name = entry.rpartition(":")
    if not path or len(name) > MAX_NAME or not name.isidentifier() or keyword.iskeyword(name):
        raise place.error(f"expected {expected}, got {quoted(entry)}")
    return path, name


def step_file(entry: str, base: Path, place: Place) -> tuple[Path, str]:
    """Return file and function of the early-init step *entry*, ``file.py:function``."""
    file, function = split_entry(entry, place, "a step such as 'warm.py:pillow'")
    path = existing(place, base, file)
    if path.suffix != ".py" or not path.is_file():
        raise place.error(f"expected a .py file, got {quoted(str(path))}")
    return path, function
