"""The late imports that the seal refused, also those that a library hid.

Libraries import lazily and swallow the failure: a sealed Pillow says "cannot identify image file" of every good
image, because the import of its plugins failed in silence. This finder stands last in ``sys.meta_path``: what
reaches it has been found by nobody. It finds nothing either, but remembers the name, which then travels with the
result or the error of the call. It is advice from the child about itself, for people; nothing relies on it.
(What was refused at the level of files is recorded by the host, from the kernel: `belljar.host.denials`.)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from ..ipc.messages import shorten

_MOST = 64
_LONGEST = 128


class RefusedImports:
    """A finder that finds nothing and remembers for what it was asked."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self.is_watching = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Remember *fullname*."""
        if len(self._names) < _MOST and len(fullname) <= _LONGEST:
            self._names[shorten(str.__str__(fullname), _LONGEST)] = None  # any text can be asked for, no UTF-8 either
        return None

    def take(self) -> tuple[str, ...]:
        """Return the names since the last call, each once."""
        if not self._names:
            return ()
        names = tuple(self._names)
        self._names.clear()
        return names

    def watch(self) -> None:
        """Stand last among the finders from now on."""
        self.is_watching = True
        sys.meta_path.append(self)
