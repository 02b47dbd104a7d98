"""What the standard library would otherwise load on first use, when the seal no longer lets it.

Each line is a lazy import or a lazily read file that was seen to fail after the seal (docs/decisions). A zygote
does this once for all its children; a child that was exec'ed does it in stage 6.
"""

from __future__ import annotations

import codecs
import importlib
import io
import locale
import time
import types
import zipfile
import zoneinfo
from collections.abc import Callable

import msgspec

from ..ipc import datagram
from ..ipc.channel.over_socket import SocketChannel
from ..ipc.frames import Call, Shutdown, encode
from ..ipc.interface import Declared, declared_by
from ..ipc.interface.adapters import load_adapters
from ..ipc.peer.records import Answer
from .bundle import BundleImporter
from .dispatch import make_peer
from .refused import RefusedImports
from .services import Services

_MODULES = (
    "_strptime",
    "bisect",
    "collections.abc",
    "concurrent.futures.thread",  # loaded on first use of ThreadPoolExecutor, so also by asyncio
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
_OURS = (".publish",)
"""What plugins find in `belljar` and nothing else here loads."""

_CODECS = (
    "utf-8",
    "ascii",
    "latin-1",
    "cp437",
    "cp1252",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "idna",
    "punycode",
    "unicode_escape",
)

_done = False


def standard_library() -> None:
    """Load it all, once a process; a child forked from a zygote that has done it does nothing."""
    global _done  # noqa: PLW0603
    if _done:
        return
    for module in _MODULES:
        importlib.import_module(module)
    for module in _OURS:
        importlib.import_module(module, __package__)
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


def own_runtime() -> None:
    """Push a small plugin through stages 9 and 10, so that no child pays for the first time of anything."""
    load_adapters()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("belljar_sample.py", _SAMPLE)
    importer = BundleImporter(archive.getvalue())
    module = types.ModuleType("belljar_sample")
    module.__loader__ = importer
    importer.exec_module(module)
    _answer_one_call(*declared_by(module.Sample())["echo"])


def _answer_one_call(method: Declared, function: Callable[..., object]) -> None:
    ours, theirs = datagram.control_pair()
    refused, services = RefusedImports(), Services(())
    peer = make_peer(SocketChannel(theirs), {"echo": Answer(method, function)}, refused, services, 1 << 16)
    with ours, theirs:
        ours.send(encode([Call(1, 0, "echo", msgspec.msgpack.encode([b"sample"]))]))
        ours.send(encode([Shutdown()]))
        peer.serve()


_SAMPLE = """
class Sample:
    def echo(self, data: bytes) -> bytes:
        return data
"""
