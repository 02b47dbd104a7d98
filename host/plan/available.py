"""What there is of each need before and after the seal: what the layers of a backend and the policy leave of it.

Before the seal a child is trusted and has nearly all; what stage 3 has taken is gone for early init too. After the seal
it has what its policy grants. A backend that promises no layer takes nothing away, whatever the policy says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ...sandbox.declaration import Right
from ...sandbox.layers import Layer
from ...sandbox.policy import Policy


class Refused(NamedTuple):
    """Why a need cannot be met at a place: the layers that take it away, in words, and what would mend it."""

    layers: tuple[Layer, ...]
    why: str
    remedy: str


_CLOSED_BY: Mapping[Right, tuple[Layer, ...]] = {
    "files": (Layer.EMPTY_ROOT, Layer.LANDLOCK, Layer.SECCOMP),
    "devices": (Layer.EMPTY_ROOT, Layer.LANDLOCK, Layer.SECCOMP),
    "gpu": (Layer.SECCOMP,),
    "network": (Layer.NET_NS, Layer.SECCOMP),
    "local-sockets": (Layer.SECCOMP,),
    "threads": (Layer.SECCOMP,),
    "subprocesses": (Layer.SECCOMP,),
    "executable-memory": (Layer.SECCOMP,),
}
"""The layers that take a right away at the seal, unless the policy grants it."""

_KEYS: Mapping[Right, str] = {
    "files": "read_only or read_write",
    "devices": "devices",
    "gpu": "gpu",
    "network": "network",
    "local-sockets": "network = ['unix']",
    "threads": "threads",
    "subprocesses": "subprocesses",
    "executable-memory": "executable_memory",
}
"""The keys of a policy that grant it."""


class Surroundings(NamedTuple):
    """What a plan is held against: the backend's name, the layers it promises, and the policy."""

    backend: str
    promised: Mapping[Layer, str]
    policy: Policy
    landlock_reaches_threads: bool = False

    def before_seal(self, right: Right) -> Refused | None:
        """Return why there is no *right* in early init; None if there is."""
        if right != "network" or Layer.NET_NS not in self.promised:
            return None
        grant = "" if self.policy.grants(right) else f"grant {_KEYS[right]} in the policy, or "
        return Refused(
            (Layer.NET_NS,),
            f"{self.backend} gives the child a network namespace of its own in stage 3",
            f"{grant}choose a backend without one",
        )

    def after_seal(self, right: Right) -> Refused | None:
        """Return why there is no *right* once the child is sealed; None if there is."""
        if self.policy.grants(right):
            return self.before_seal(right)
        closing = tuple(layer for layer in _CLOSED_BY[right] if layer in self.promised)
        if not closing:
            return None
        return Refused(
            closing,
            f"the seal of {self.backend} takes it away ({', '.join(closing)}) and the policy does not grant it",
            f"grant {_KEYS[right]} in the policy",
        )
