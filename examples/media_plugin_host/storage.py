"""What a sealed plugin cannot do for itself: an identity that outlives it, and records on the disk.

A plugin of Gecko's (GMP) is given a *storage id* and has a *record store*, both kept by the host for each plugin and
each origin, the site that it works for. So a plugin remembers what it did for one site, and cannot tell another site.
The host alone touches the disk, and offers both as a service; what the plugin asks of it is hostile.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import secrets
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from belljar import ServiceRefused
from belljar.host.config.place import quoted
from command import Trouble

MOST_RECORDS = 16  # of one plugin for one origin
SALT_BYTES = 32
UNFINISHED = ".unfinished"  # no record has this name; one is enough, for one process at a time writes to a folder
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class Profile:
    """The folder of all records, and of the secret that their owners' identities come from.

    Raises:
        Trouble: the folder or its secret cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with _on_disk(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._salt = _salt(folder / "salt")

    @contextmanager
    def records(self, plugin: str, origin: str) -> Generator[Records]:
        """The records of *plugin* for *origin*, which the block has for itself. Raises Trouble if another has them."""
        path = self.folder / "records" / self._derive("records", plugin, origin).hex()
        with ExitStack() as owned:
            with _on_disk(path):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            owned.callback(os.close, folder)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Trouble(f"the records of {plugin} for {quoted(origin)} are in use: wait for that run") from None
            yield Records(folder, self._derive("storage id", plugin, origin))

    def _derive(self, purpose: str, plugin: str, origin: str) -> bytes:
        message = json.dumps([purpose, plugin, origin]).encode()  # a list: no two of them read alike
        return hmac.digest(self._salt, message, "sha256")


@contextmanager
def _on_disk(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise Trouble(f"could not use {path}: {error.strerror} (choose another folder with --out)") from None


def _salt(path: Path) -> bytes:
    """The secret in the file *path*, made at first use; the lock is for two runs that both find none."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "r+b") as file:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_mode & 0o077:
            raise Trouble(f"others may read {path}: delete the profile, or chmod 600 if nobody has")
        salt = file.read()
        if not salt:
            salt = secrets.token_bytes(SALT_BYTES)
            file.write(salt)
            file.flush()
            os.fsync(fd)
    if len(salt) != SALT_BYTES:
        raise Trouble(f"{path} holds {len(salt)} bytes and not {SALT_BYTES}: delete the profile")
    return salt


class Records:
    """The records below *folder*, an fd that the owner keeps open and locked, as a service for their plugin.

    Names and sizes are those of the interface `RecordStore`: belljar checks them before anything is called here.
    """

    def __init__(self, folder: int, storage_id: bytes) -> None:
        self._folder = folder
        self._storage_id = storage_id

    def storage_id(self) -> bytes:
        """What nobody computes without the profile's secret."""
        return self._storage_id

    def read(self, name: str) -> bytes:
        """What the record holds, or nothing."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
        except FileNotFoundError:
            return b""
        with open(fd, "rb") as file:
            return file.read()

    def write(self, name: str, data: bytes) -> None:
        """All of the record or, if the machine stops in between, the old one: see rename(2). Raises ServiceRefused."""
        try:
            if data:
                self._write(name, data)
            else:
                self._delete(name)
            os.fsync(self._folder)
        except OSError as error:  # of which the plugin, and so the user, learns all but the path
            raise ServiceRefused(f"the host could not write the record {name}: {error.strerror}") from error

    def _write(self, name: str, data: bytes) -> None:
        if len({name, *os.listdir(self._folder)} - {UNFINISHED}) > MOST_RECORDS:
            raise ServiceRefused(f"there are {MOST_RECORDS} records: that is the most")
        with open(os.open(UNFINISHED, NEW_FILE, 0o600, dir_fd=self._folder), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(UNFINISHED, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)
