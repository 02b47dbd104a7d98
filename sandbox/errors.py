"""The errors of confinement."""

from __future__ import annotations

from ..ipc.errors import BelljarError


class SandboxError(BelljarError):
    """A step of the confinement failed."""


class PolicyError(SandboxError):
    """A policy contradicts itself or cannot be read."""


class BackendUnavailable(SandboxError):
    """A backend, or a layer that it promises, does not work on this machine."""
