"""Which backends could keep a policy on this machine, and why the others could not."""

from __future__ import annotations

from typing import NamedTuple

from .backends import host_half, names
from .policy import Policy
from .probe import explain, probe
from .user import resolve_user


class Verdict(NamedTuple):
    """Whether the backend called *backend* could enforce a policy; *why* not, else empty."""

    backend: str
    works: bool
    why: str


def could_enforce(policy: Policy) -> list[Verdict]:
    """Return a verdict on each backend, strongest first, for the user whom children run as. Probing takes 0.3 s once.

    Raises:
        PolicyError: The policy contradicts itself.
        SandboxError: ``BELLJAR_FAKE_MISSING`` holds a name that is no feature.
    """
    policy.check()
    return [_judge(name, policy) for name in names()]


def _judge(name: str, policy: Policy) -> Verdict:
    half = host_half(name)
    if not half.promises(policy):
        return Verdict(name, False, "it confines nothing: for debugging and tests")
    machine = probe(resolve_user(""))
    why = explain(machine.missing(half.requires)) or half.unable(policy, machine)
    return Verdict(name, not why, why)
