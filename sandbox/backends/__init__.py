"""One file per way to confine. To add a backend, add a file and its name here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..base import ChildHalf, HostHalf
from ..errors import SandboxError

BACKENDS = {
    "namespaces": "namespaces",
    "none": "none",
}
"""Name in configuration -> module of this package."""


def names() -> tuple[str, ...]:
    """Return the names of the backends, strongest first."""
    return tuple(BACKENDS)


def host_half(name: str) -> HostHalf:
    """Return the host half of the backend *name*; `SandboxError` if there is none."""
    half: HostHalf = load(name).HostSide()
    return half


def child_half(name: str, *, link_fd: int | None) -> ChildHalf:
    """Return the child half of the backend *name*, which takes *link_fd*, to whoever launched it, over."""
    half: ChildHalf = load(name).ChildSide(link_fd)
    return half


def load(name: str) -> Any:
    """Return the module of the backend *name*; `SandboxError` if there is none."""
    if name not in BACKENDS:
        raise SandboxError(f"there is no backend {name!r}; known are {', '.join(names())}")
    return import_module(f".{BACKENDS[name]}", __name__)
