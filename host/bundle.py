"""The plugin's files as one sealed memfd, made by the host (stage 1) and opened by the child (stage 9).

The host only copies bytes. It never parses, compiles or imports the plugin: the compiler of CPython is no boundary
(its documentation warns that source with enough nesting can crash the interpreter), and a host that is brought down
by a plugin's text has lost before any child exists. So a syntax error or a missing class is found by the sealed child
at stage 9, which reports it with file and line; a crash there costs only the child.

The text of a plugin may be hostile, and so may the folder that holds it. A link in it that leads out would carry a
file of the host into the child; a named pipe would block the host; a file that grows would not end. Each file is
therefore opened without following links, must be a plain one by the fd that is then read, and counts against a limit.

Every child gets a memfd of its own: children that shared one would share an inode, with its locks and times, and
could signal to each other through it. What is kept between launches is the zip in the host's memory, as long as
nothing that `os.stat` shows of the files has changed.
"""

from __future__ import annotations

import io
import os
import stat
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from ..ipc.payload import make_sealed
from .config.place import Place, quoted
from .config.process_type import Process, check_module_name

MAX_SIZE = 64 << 20
"""Bytes that all files of one bundle may have together."""

MAX_FILES = 4096

# Name in the zip, path, and what os.stat shows: device, inode, mtime, ctime, size. Equal marks mean equal content.
Mark: TypeAlias = tuple[str, str, int, int, int, int, int]

# Except for a file written twice within one tick of the kernel's clock: what is this young is not kept (as git does).
_SETTLED_NS = 100_000_000

Key: TypeAlias = tuple[str, tuple[str, ...]]

_cache: dict[Key, tuple[tuple[Mark, ...], bytes]] = {}
_CACHE_ENTRIES = 16
_lock = threading.Lock()


class Bundle:
    """A sealed memfd that holds a zip of the plugin's files, and the names under which the child finds the plugin.

    A context manager: it owns ``fd`` and closes it at the end. Sending the fd over a socket leaves it open here.
    """

    def __init__(self, fd: int, *, module: str, attribute: str, size: int) -> None:
        self.fd = fd
        self.module = module
        self.attribute = attribute
        self.size = size

    def fileno(self) -> int:
        """Return the fd, still owned by this object; -1 once closed."""
        return self.fd

    def close(self) -> None:
        """Close the fd. Closing twice does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_bundle(process: Process) -> Bundle:
    """Return the bundle of a resolved *process*; the caller closes it. Reads files, so it may block for their time.

    The plugin's file, or its whole package folder, and each entry of ``process.files`` stand at the top of the zip
    under their own names. ``__pycache__`` and names that begin with a dot are left out.

    Raises:
        ConfigError: a file cannot be read or put into a bundle, two files have one name, or there is too much.
        OSError: no memfd could be made (memfd_create(2)).
    """
    data = _zip_of(process)
    return Bundle(
        make_sealed(data, name="belljar-bundle"), module=process.module, attribute=process.attribute, size=len(data)
    )


def _zip_of(process: Process) -> bytes:
    key = (str(process.path), process.files)
    with _lock:
        marks = tuple(_entries(process))
        known = _cache.get(key)
        if known is not None and known[0] == marks:
            return known[1]
        data = _zip(marks, Place(f"process {process.name}"))
        _remember(key, marks, data)
        return data


def _remember(key: Key, marks: tuple[Mark, ...], data: bytes) -> None:
    _cache.pop(key, None)
    if max(changed for *_, changed, _size in marks) + _SETTLED_NS > time.time_ns():
        return
    while len(_cache) >= _CACHE_ENTRIES:
        del _cache[next(iter(_cache))]
    _cache[key] = (marks, data)


def _entries(process: Process) -> Iterator[Mark]:
    """Yield the marks of all files, each with its name in the zip first and its path second."""
    place = Place(f"process {process.name}")
    seen: dict[str, Path] = {}
    total = 0
    for key, root in [("plugin", process.path), *(("files", Path(entry)) for entry in process.files)]:
        for name, path in _walk(root, place.at(key)):
            mark = _mark(name, path, place.at(key))
            total += mark[-1]
            if name in seen:
                raise place.at(key).error(
                    f"{quoted(str(path))} and {quoted(str(seen[name]))} have one name in the bundle"
                )
            seen[name] = path
            if total > MAX_SIZE or len(seen) > MAX_FILES:
                raise place.at(key).error(
                    f"the plugin's files are over the limit of {MAX_SIZE >> 20} MiB or {MAX_FILES} files: "
                    f"pass large data in calls instead (reached at {quoted(str(path))})"
                )
            yield mark


def _walk(root: Path, place: Place) -> Iterator[tuple[str, Path]]:
    """Yield name in the zip and path of *root*, or of everything below it, in an order that is always the same."""
    root = Path(os.path.abspath(root)) if root.name == ".." else root
    if not root.name:
        raise place.error(f"expected a file or folder with a name, got {quoted(str(root))}")
    if root.suffix == ".py" or (root / "__init__.py").is_file():
        check_module_name(place, root.stem if root.suffix == ".py" else root.name)
    if not root.is_dir():
        yield _zip_name(root.name, root, place), root.resolve()
        return
    inside = root.resolve()
    for folder, folders, files in os.walk(root, onerror=lambda error: _unreadable(error, place)):
        folders[:] = sorted(name for name in folders if _is_kept(name))
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                raise place.error(f"{quoted(os.path.join(folder, name))} is a link to a folder: copy the folder")
        for name in sorted(filter(_is_kept, files)):
            path = Path(folder, name)
            target = path.resolve()
            if not target.is_relative_to(inside):
                raise place.error(
                    f"{quoted(str(path))} is a link that leads out of the folder, to {quoted(str(target))}"
                )
            yield _zip_name(f"{root.name}/{path.relative_to(root).as_posix()}", path, place), target


def _is_kept(name: str) -> bool:
    return name != "__pycache__" and not name.startswith(".")


def _unreadable(error: OSError, place: Place) -> None:
    raise place.error(f"could not read {quoted(str(error.filename))}: {error.strerror}") from None


def _zip_name(name: str, path: Path, place: Place) -> str:
    if not name.isascii() or not name.isprintable() or "\\" in name:
        raise place.error(f"expected a file name of plain ASCII characters, got {quoted(str(path))}")
    return name


def _mark(name: str, path: Path, place: Place) -> Mark:
    try:
        seen = path.stat()
    except OSError as error:
        raise place.error(f"could not look at {quoted(str(path))}: {error.strerror}") from None
    if not stat.S_ISREG(seen.st_mode):
        raise place.error(f"expected a plain file, got {quoted(str(path))}")
    return (name, str(path), seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size)


def _zip(marks: tuple[Mark, ...], place: Place) -> bytes:
    """Stored, not compressed: the child reads single members often, and need not have zlib."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, path, *_, size in marks:
            # A fixed date: the same files make the same bytes.
            archive.writestr(zipfile.ZipInfo(name), _read(path, size, place))
    return target.getvalue()


def _read(path: str, size: int, place: Place) -> bytes:
    try:
        with open(path, "rb", opener=_open_plain) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise place.error(f"expected a plain file, got {quoted(path)}")
            data = file.read(size + 1)
    except OSError as error:
        raise place.error(f"could not read {quoted(path)}: {error.strerror}") from None
    if len(data) != size:
        raise place.error(f"{quoted(path)} changed while it was read: try again")
    return data


def _open_plain(path: str, flags: int) -> int:
    """Follow no link, and do not wait for the writer of a named pipe that took the file's place."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
