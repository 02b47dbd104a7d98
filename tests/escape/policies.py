"""The policies under which the attacks are made. More than one, because each right opens doors that must then hold."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from belljar import Limits, Policy
from belljar.sandbox.danger import COVERT_CHANNELS, EXECUTABLE_MEMORY, NETWORK, OPEN_DIRECTORIES

SHARED: Final[tuple[str, ...]] = (
    "media",
    "forks",
    "talks",
    "reads",
    "writes",
    "programs",
    "online",
    "covert",
    "older thread",
)
"""The policies of children that take all attacks on operations together; the others are for attacks that get their own
child."""

_SYSTEM: Final = tuple(path for path in ("/bin", "/lib", "/lib64", "/usr") if os.path.realpath(path) == path)
_MEDIA: Final = Policy.media()


def _writes(shared: str) -> Policy:
    able = _MEDIA.allow_subprocesses().allow_local_channels()
    return able.allow_files(*_SYSTEM).allow_files_read_write(shared)


POLICIES: Final[dict[str, Callable[[str], Policy]]] = {
    "media": lambda shared: _MEDIA,
    "forks": lambda shared: _MEDIA.allow_subprocesses().allow_local_channels(),
    "talks": lambda shared: _MEDIA.allow_local_channels().allow_local_sockets(),
    "reads": lambda shared: _MEDIA.allow_files(shared),
    "writes": _writes,
    "programs": lambda shared: _writes(shared).allow_executable_memory(EXECUTABLE_MEMORY),
    "online": lambda shared: _MEDIA.allow_network(("inet", "inet6", "netlink"), NETWORK),
    "covert": lambda shared: _MEDIA.allow_covert_channels(
        ("keys", "locks", "vsock", "sysv-ipc", "posix-queues"), COVERT_CHANNELS
    ).allow_executable_memory(EXECUTABLE_MEMORY),
    "bombs": lambda shared: Policy(subprocesses=True, limits=Limits(processes=64)),
    "second": lambda shared: Policy(threads=True, limits=Limits(cpu=1)),
    "older thread": lambda shared: _MEDIA,
    "folder kept": lambda shared: _MEDIA,
    "folder allowed": lambda shared: _MEDIA.allow_open_directories(OPEN_DIRECTORIES),
}
"""Name -> the policy, given the folder that it may grant."""

MEANING: Final[dict[str, str]] = {
    "media": "the preset of that name",
    "forks": "media, and sub-processes and local channels",
    "talks": "media, and local channels and unix sockets",
    "reads": "media, and one folder to read",
    "writes": "media, and sub-processes and local channels; the system's programs to read, one folder to write",
    "programs": "what *writes* grants, and executable memory, without which no program runs",
    "online": "media, and inet, inet6 and netlink sockets",
    "covert": "media, and all covert channels, and executable memory",
    "bombs": "sub-processes, 64 at most",
    "second": "threads, and one second of processor time",
    "older thread": "media; the attacks run in a thread that early init started",
    "folder kept": "media; but early init left a directory open",
    "folder allowed": "media, and open directories; early init left one open",
}

WARM_UP: Final[dict[str, tuple[str, ...]]] = {
    "folder kept": ("terminal_and_code", "folder"),
    "folder allowed": ("terminal_and_code", "folder"),
    "older thread": ("terminal_and_code", "older_thread"),
}
EVERYWHERE: Final = ("terminal_and_code",)
