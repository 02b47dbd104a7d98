"""The step ``entropy-and-time``: random numbers that no other child draws, a time zone, a locale.

Facts (each has a test). *Entropy*: getrandom(2) is open to every sealed child, and os.urandom(), secrets and ssl use
it; /dev/urandom can no longer be opened. A child that a zygote forked begins with the zygote's state. Python seeds
`random` anew after a fork, and OpenSSL notices one by getpid(2), which is why no zygote has the pid that its children
have; numpy's global generator does not, so that all children would draw the same numbers. No step can reach a
generator that another step made for itself (``random.Random()``, ``numpy.random.default_rng()``): make those in the
plugin, where they get fresh seeds. The seed of str hashes stays the zygote's, the same for all its children.

*Time*: after the seal tzset(3) finds no zone and goes on with UTC, silently; ``zoneinfo.ZoneInfo`` raises. With
*time_zone* both know the zone of that name for the life of the child, and local time is of that zone. Without it, local
time is that of the host's /etc/localtime, read before the seal. (``warm-imports`` with ``zoneinfo`` loads all zones.)

*Locale*: setlocale(3) reads files, so that after the seal it knows no locale but C and C.UTF-8. With *locale* it is set
for all categories, and a child that goes to ``C`` and back finds it again.
"""

from __future__ import annotations

import os
import random
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

from ..step import StepError, early_init
from ._nearest import nearest

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


@early_init(needs=["files"], leaves={"environment": ["TZ"]}, after=["warm-imports"])
def entropy_and_time(time_zone: str = "", locale: str = "") -> ZoneInfo | None:
    """Seed what is loaded, in this child and not in a zygote; set *time_zone* (``Europe/Berlin``) and *locale*.

    Hands the zone on, if there is one.
    """
    _seed()
    if locale:
        _set_locale(locale)
    return _set_time_zone(time_zone) if time_zone else None


def _seed() -> None:
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _set_time_zone(name: str) -> ZoneInfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    try:
        zone = ZoneInfo(name)  # kept by what the step hands on, and so found again by its name
    except (ZoneInfoNotFoundError, ValueError):
        raise StepError(f"there is no time zone {name!r}{nearest(name, available_timezones())}") from None
    os.environ["TZ"] = name
    time.tzset()
    now = time.time()
    offset = datetime.fromtimestamp(now, zone).utcoffset()
    if offset is None or time.localtime(now).tm_gmtoff != offset.total_seconds():
        raise StepError(f"Python knows the time zone {name!r} and the C library does not; install tzdata of the system")
    return zone


def _set_locale(name: str) -> None:
    import locale

    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error as error:
        raise StepError(
            f"could not set the locale {name!r}: {error}; `locale -a` lists those of this machine"
        ) from None
