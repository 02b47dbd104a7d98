"""The step ``warm-imports``: push a real sample through each library, so that none of its imports is left for later.

Facts (each has a test): libraries import their parts, and C code opens files and loads modules, when that is first
needed; once sealed that fails, and many hide it. Pillow then says of every good picture that it cannot identify it,
Python that an encoding is unknown, and OpenSSL trusts nobody. An ``import`` alone does not help: only the whole way
does, in and out, with every format. Which sample goes which way stands in the files of ``_warm``, one for each library,
beside what it takes and leaves:

    idna       domain names: the codec of Python, and the package idna with its tables, if it is installed
    locale     all encodings that Python knows, gettext and calendar
    numpy      its sub-packages, files in memory, text, linear algebra; starts threads where there are processors
    pillow     every format that Pillow reads and writes, with colours, animation, metadata, drawing, filters
    pyav       H.264, VP9, AAC, MP3, Opus in MP4, Matroska, WebM and MPEG-TS, to and fro; filters, resampling, errors
    ssl        a handshake in memory, and the certificates that this machine trusts
    zoneinfo   all time zones

There is no default: each library is memory that every child of this type then has, up to a hundred megabytes. Two of
them hand something on: ``handed("warm-imports")["ssl"]`` is an `ssl.SSLContext` for clients that knows the machine's
certificates, and ``["zoneinfo"]`` holds the zones, by name, so that ``zoneinfo.ZoneInfo`` goes on finding them.

A zygote does all of it once for all its children. With numpy it finds threads afterwards and leaves the step, with all
its libraries, to each child. So give numpy an entry of its own, which declares them:

    { step = "warm-imports", name = "numpy", libraries = ["numpy"], leaves = { threads = ["python*"] } }
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any, Final

from ..step import StepError, early_init
from ._nearest import nearest

LIBRARIES: Final = ("idna", "locale", "numpy", "pillow", "pyav", "ssl", "zoneinfo")


@early_init(needs=["files", "executable-memory"], shared=True)
def warm_imports(libraries: tuple[str, ...]) -> dict[str, Any]:
    """Warm *libraries* up, in their order, and hand on what some of them keep for the plugin."""
    for library in libraries:
        if library not in LIBRARIES:
            raise StepError(f"there is no warm-up for {library!r}{nearest(library, LIBRARIES)}")
    found = {library: _warm(library) for library in libraries}
    return {library: kept for library, kept in found.items() if kept is not None}


def _warm(library: str) -> object:
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is old in it, such as a format
            return import_module(f"._warm.{library}", __package__).warm()
    except ModuleNotFoundError as error:
        raise StepError(f"could not warm {library} up: {error}; install it, or leave it out") from error
