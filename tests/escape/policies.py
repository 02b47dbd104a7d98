"""The policies under which the attacks are made. More than one, because each right opens doors that must then hold."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from belljar import Limits, Policy

SHARED: Final[tuple[str, ...]] = ("media", "talks", "reads", "programs")
"""The policies of children that take all attacks on operations together; the others are for attacks that get their own
child."""

_SYSTEM: Final = tuple(path for path in ("/bin", "/lib", "/lib64", "/usr") if os.path.exists(path))
_MEDIA: Final = Policy.media()


def _programs(shared: str) -> Policy:
    return Policy(
        read_only=_SYSTEM,
        read_write=(shared,),
        subprocesses=True,
        threads=True,
        local_channels=True,
        limits=_MEDIA.limits,
    )


POLICIES: Final[dict[str, Callable[[str], Policy]]] = {
    "media": lambda shared: _MEDIA,
    "talks": lambda shared: Policy(
        network=("unix",), subprocesses=True, threads=True, local_channels=True, limits=_MEDIA.limits
    ),
    "reads": lambda shared: Policy(read_only=(shared,), threads=True, limits=_MEDIA.limits),
    "programs": _programs,
    "bombs": lambda shared: Policy(subprocesses=True, limits=Limits(processes=64)),
    "second": lambda shared: Policy(threads=True, limits=Limits(cpu=1)),
    "folder kept": lambda shared: _MEDIA,
}
"""Name -> the policy, given the folder that it may grant."""

MEANING: Final[dict[str, str]] = {
    "media": "the preset of that name",
    "talks": "media, and sub-processes, local channels and unix sockets",
    "reads": "threads, and one folder to read",
    "programs": "threads, sub-processes and local channels; the system's programs to read, one folder to write",
    "bombs": "sub-processes, 64 at most",
    "second": "threads, and one second of processor time",
    "folder kept": "media; but early init left a directory open",
}

WARM_UP: Final[dict[str, tuple[str, ...]]] = {"folder kept": ("terminal_and_code", "folder")}
EVERYWHERE: Final = ("terminal_and_code",)
