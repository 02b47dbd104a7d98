"""Where a value of the configuration stands, so that every error names it: file, key path, cause, nearest name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

import msgspec

from ...ipc.errors import printable
from ..errors import ConfigError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_INDEX = re.compile(r"\[\d+\]")

# msgspec speaks of JSON's types; TOML has its own names for them.
_TYPES = {
    "array": "a list",
    "object": "a table",
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
}


class Place(msgspec.Struct, frozen=True):
    """A value's source (a file, or ``process NAME`` for one made in Python) and its path of keys."""

    source: str
    keys: tuple[str, ...] = ()

    def at(self, *keys: str) -> Place:
        """Return the place of a value inside of this one."""
        return Place(self.source, (*self.keys, *keys))

    def error(self, text: str) -> ConfigError:
        """Return the error that says *text* of this place, as one line."""
        return ConfigError(": ".join(part for part in (printable(self.source), self.path(), text) if part))

    def path(self) -> str:
        """Return the keys as TOML writes them: ``process.thumbnailer.preload[0]``."""
        return "".join(map(_step, self.keys)).removeprefix(".")

    def unknown(self, what: str, name: str, valid: Iterable[str]) -> ConfigError:
        """Return the error for a *name* that is none of the *valid* ones, with the nearest of them."""
        return self.error(f"no such {what}: {quoted(name)}{nearest(name, valid)}")


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return the end of an error's sentence that points to the name that was probably meant."""
    names = sorted(valid)
    # Bounded: difflib takes quadratic time, and a name may be as long as its file.
    close = difflib.get_close_matches(name[:100], names, 1)
    if close:
        return f"; did you mean {quoted(close[0])}?"
    return f"; expected one of {', '.join(names)}" if names else ""


def types_in_words(text: str) -> str:
    """Return what msgspec says of a value, with TOML's names of its types, beginning in lower case."""
    words = re.sub(r"`([^`]*)`", lambda match: " or ".join(_TYPES.get(t, t) for t in match[1].split(" | ")), text)
    return words[:1].lower() + words[1:]


def quoted(text: str) -> str:
    """Return *text* in quotes, cut to 80 characters, with nothing in it that a terminal would obey."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _step(key: str) -> str:
    if _INDEX.fullmatch(key):
        return key
    return f".{key if _BARE_KEY.fullmatch(key) else quoted(key)}"
