"""The errors of confinement."""

from __future__ import annotations

from ..ipc.errors import BelljarError


class SandboxError(BelljarError):
    """A step of the confinement failed."""


class PolicyError(SandboxError):
    """A policy contradicts itself or cannot be read."""


class BackendUnavailable(SandboxError):
    """A backend, or a layer that it promises, does not work here: why, and what to do where that is known."""

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(f"{cause}; {remedy}" if remedy else cause)
        self.cause = cause
        self.remedy = remedy
