"""A plugin that draws random numbers, tells the time and goes to another locale; and a step that shares a generator."""

from __future__ import annotations

import locale
import os
import random
import secrets
import ssl
import time
import uuid
import zoneinfo
from datetime import UTC, datetime
from pathlib import Path

from belljar import early_init, handed


@early_init(shared=True)
def generator() -> random.Random:
    """Make a generator, and draw a number of OpenSSL's, in a zygote if there is one."""
    ssl.RAND_bytes(8)
    return random.Random()


def shows(folder: Path) -> Path:
    """Have bubblewrap show *folder*."""
    return folder


class Draws:
    """Each method answers for this child only."""

    def numbers(self) -> dict[str, str]:
        """One number of each source."""
        return {
            "random": str(random.random()),
            "urandom": os.urandom(8).hex(),
            "secrets": secrets.token_hex(8),
            "uuid": str(uuid.uuid4()),
            "ssl": ssl.RAND_bytes(8).hex(),
            "own generator": str(random.Random().random()),
            "hash": str(hash("the seed of hashes")),
            "handed": str(handed("draws.py:generator").random()),
        }

    def numpy(self) -> list[float]:
        """One number of numpy's global generator, and one of a new generator."""
        import numpy

        return [float(numpy.random.random()), float(numpy.random.default_rng().random())]

    def device(self) -> str:
        """What becomes of opening /dev/urandom."""
        try:
            with open("/dev/urandom", "rb") as file:
                return f"{len(file.read(8))} bytes"
        except OSError as error:
            return type(error).__name__

    def local_offset(self, seconds: float) -> int:
        return time.localtime(seconds).tm_gmtoff

    def set_zone(self, name: str) -> int:
        """Set the local time zone as a program does that has no such step; return its offset."""
        os.environ["TZ"] = name
        time.tzset()
        return time.localtime(0).tm_gmtoff

    def in_zone(self, name: str) -> str:
        try:
            return datetime(2024, 7, 1, tzinfo=UTC).astimezone(zoneinfo.ZoneInfo(name)).isoformat()
        except zoneinfo.ZoneInfoNotFoundError as error:
            return str(error)

    def locale(self) -> str:
        return locale.setlocale(locale.LC_ALL)

    def set_locale(self, name: str) -> str:
        try:
            return locale.setlocale(locale.LC_ALL, name)
        except locale.Error as error:
            return str(error)
