"""One file per way to confine, strongest first. To add a backend of ours, add a file and its name here.

Backends of other packages come by entry points of the group ``belljar.backends``: the name is the backend's, the
object a module with the classes ``HostSide`` and ``ChildSide`` (see `sandbox.base` and examples/outside_backend).
"""

from __future__ import annotations

import functools
import socket
from importlib import import_module
from typing import Any

from ..base import ChildHalf, HostHalf
from ..errors import SandboxError

BACKENDS = {
    "namespaces": "namespaces",
    "chrome-sandbox": "chrome_sandbox",
    "bubblewrap": "bubblewrap",
    "landlock": "landlock",
    "seccomp": "seccomp",
    "none": "none",
}
"""Name in configuration -> module of this package."""

ENTRY_POINTS = "belljar.backends"


def names() -> tuple[str, ...]:
    """Return the names of belljar's own backends, strongest first, then those of other packages."""
    return (*BACKENDS, *sorted(_outside()))


def host_half(name: str) -> HostHalf:
    """Return the host half of the backend *name*; `SandboxError` if there is none, or if it is none."""
    half: HostHalf = load(name).HostSide()
    if lacking := [member for member in _members(HostHalf) if not hasattr(half, member)]:
        raise _unusable(name, f"its HostSide has no {', '.join(lacking)}")
    return half


def child_half(name: str, link: socket.socket | None) -> ChildHalf:
    """Return the child half of the backend *name*, which owns *link*, its line to the zygote that forked it, if any."""
    half: ChildHalf = load(name).ChildSide(link)
    return half


def load(name: str) -> Any:
    """Return the module of the backend *name*; `SandboxError` if there is none, or if it cannot be loaded."""
    if name in BACKENDS:
        return import_module(f".{BACKENDS[name]}", __name__)
    if name not in (outside := _outside()):
        raise SandboxError(f"there is no backend {name!r}; known are {', '.join(names())}")
    try:
        module = outside[name].load()
    except ImportError as error:
        raise _unusable(name, str(error)) from error
    except Exception as error:  # another package's code, which may raise anything
        raise _unusable(name, f"{type(error).__name__}: {error}") from error
    for half in ("HostSide", "ChildSide"):
        if not hasattr(module, half):
            raise _unusable(name, f"it has no class {half}")
    return module


def _unusable(name: str, why: str) -> SandboxError:
    where = _outside()[name].value if name in _outside() else "belljar"
    return SandboxError(f"backend {name!r} of {where} cannot be loaded: {why}; mend or remove that package")


def _members(protocol: type) -> list[str]:
    return [member for member in vars(protocol) if not member.startswith("_")]


@functools.cache
def _outside() -> dict[str, Any]:
    """The entry points of other packages by name; one that takes the name of a backend of ours is not looked at."""
    from importlib.metadata import entry_points  # late: 20 ms that a child of one of our own backends can do without

    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS) if entry.name not in BACKENDS}
