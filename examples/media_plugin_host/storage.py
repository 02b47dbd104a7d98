"""What a sealed plugin cannot do for itself: an identity that outlives it, and records on the disk.

A plugin of Gecko's (GMP) is given a *storage id* and has a *record store*, both kept by the host for each plugin and
each origin, the site that it works for. So a plugin remembers what it did for one site, and cannot tell another site.
The host alone touches the disk. What the plugin asks for is hostile: names and sizes are checked here, all of one
result's wishes before the first is granted.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import re
import secrets
from collections.abc import Awaitable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from belljar.host.place import quoted
from command import Trouble, in_time
from interfaces import Read, Stored, Wishes, Write

NAME = re.compile(r"[a-z0-9-]{1,64}")
MOST_BYTES = 64 << 10  # of one record
MOST_RECORDS = 16  # of one plugin for one origin
MOST_ROUNDS = 8  # of wishes and answers for one call
SALT_BYTES = 32
UNFINISHED = ".unfinished"  # no record has this name; one is enough, for one process at a time writes to a folder
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Trouble):
    """A plugin asked for what no plugin may have; nothing of what it asked with it was done."""


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

    def storage_id(self, plugin: str, origin: str) -> bytes:
        """32 bytes that *plugin* gets for *origin*: without the secret nobody computes those of another."""
        return self._derive("storage id", plugin, origin)

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
            yield Records(folder, path)

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
    """The records below *folder*, an fd that the owner keeps open and locked; *path* is for people."""

    def __init__(self, folder: int, path: Path) -> None:
        self._folder = folder
        self.path = path

    def serve(self, wishes: Sequence[Read | Write]) -> list[bytes]:
        """Grant *wishes* in their order; one answer for each: what is read, or nothing. Raises Refused, Trouble."""
        for wish in wishes:
            _check(wish)
        with _on_disk(self.path):
            self._check_number(wishes)
            return [self._read(wish.name) if isinstance(wish, Read) else self._write(wish) for wish in wishes]

    def _check_number(self, wishes: Sequence[Read | Write]) -> None:
        written = {wish.name for wish in wishes if isinstance(wish, Write) and wish.data}
        number = len(written.union(os.listdir(self._folder)) - {UNFINISHED})
        if written and number > MOST_RECORDS:
            raise Refused(f"the plugin wants {number} records: {MOST_RECORDS} is the most")

    def _read(self, name: str) -> bytes:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
        except FileNotFoundError:
            return b""
        with open(fd, "rb") as file:
            return file.read(MOST_BYTES)

    def _write(self, wish: Write) -> bytes:
        """All of the record or, if the machine stops in between, the old one: see rename(2)."""
        if wish.data:
            with open(os.open(UNFINISHED, NEW_FILE, 0o600, dir_fd=self._folder), "wb") as file:
                file.write(wish.data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(UNFINISHED, wish.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        else:
            with suppress(FileNotFoundError):
                os.unlink(wish.name, dir_fd=self._folder)
        os.fsync(self._folder)
        return b""


def _check(wish: Read | Write) -> None:
    if not NAME.fullmatch(wish.name):
        raise Refused(f"the plugin named a record {quoted(wish.name)}: 1 to 64 of a-z, 0-9 and '-' would do")
    if isinstance(wish, Write) and len(wish.data) > MOST_BYTES:
        raise Refused(f"the plugin's record {wish.name!r} has {len(wish.data)} bytes: {MOST_BYTES} is the most")


async def settle(plugin: Stored, call: Awaitable[Wishes], records: Records) -> None:
    """Await *call* of *plugin* and grant what it wishes, until it wishes nothing more. Raises Refused, Trouble.

    So a plugin asks its host for something, as long as calls go from host to child only.
    """
    wishes, rounds = await in_time(call), 0
    while wishes:
        if rounds == MOST_ROUNDS:
            raise Refused(f"the plugin wished for more after {MOST_ROUNDS} rounds of answers: that is the most")
        wishes = await in_time(plugin.serve(records.serve(wishes)))
        rounds += 1
