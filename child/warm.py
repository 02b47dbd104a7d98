"""What the standard library would otherwise load on first use, when the seal no longer lets it.

Each line is a lazy import or a lazily read file that was seen to fail after the seal (docs/decisions). A zygote
does this once for all its children; a child that was exec'ed does it in stage 6.
"""

from __future__ import annotations

import codecs
import importlib
import locale
import time
import zoneinfo

_MODULES = (
    "_strptime",
    "bisect",
    "collections.abc",
    "ctypes",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "importlib.resources",
    "inspect",
    "io",
    "json",
    "linecache",
    "math",
    "random",
    "re",
    "ssl",
    "statistics",
    "struct",
    "tempfile",
    "textwrap",
    "threading",
    "traceback",
    "typing",
    "uuid",
    "zipfile",
    "zlib",
)
_CODECS = ("utf-8", "ascii", "latin-1", "cp437", "cp1252", "utf-16", "utf-32", "idna", "punycode", "unicode_escape")

_done = False


def standard_library() -> None:
    """Load it all, once a process; a child forked from a zygote that has done it does nothing."""
    global _done  # noqa: PLW0603
    if _done:
        return
    for module in _MODULES:
        importlib.import_module(module)
    for codec in _CODECS:
        codecs.lookup(codec)
    codecs.lookup_error("surrogateescape")
    "bücher.example".encode("idna")
    time.tzset()
    time.localtime()
    time.strptime("2000-01-01", "%Y-%m-%d")
    locale.getlocale()
    _time_zone("UTC")
    _done = True


def _time_zone(key: str) -> None:
    try:
        zoneinfo.ZoneInfo(key)
    except zoneinfo.ZoneInfoNotFoundError:  # a machine without tzdata: nothing to warm
        return
