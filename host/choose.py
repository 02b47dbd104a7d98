"""Which backend a launch gets, or why none: ``backend = "auto"`` and the floor that ``require`` sets. Stage 1.

Nothing is ever chosen below the floor, and a choice that is not the first is said aloud. ``auto`` goes through
belljar's own backends, strongest first. It takes `none`, which confines nothing, only if ``prefer`` names it, and so a
backend of another package: installing one must not change what confines a child. What each layer will come to is
foreseen here from the backend's promises and the policy, and looked at in stage 8.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..ipc.messages import Landlock
from ..sandbox import landlock
from ..sandbox.backends import BACKENDS, host_half
from ..sandbox.base import HostHalf
from ..sandbox.errors import SandboxError
from ..sandbox.layers import Layer
from ..sandbox.policy import Policy
from ..sandbox.probe import Machine, explain
from ..sandbox.protection import OperationStatus, planned
from ..sandbox.protection.operations import unmet
from ..sandbox.protection.verify import Expectation
from ..sandbox.seccomp.answers import Rights
from .config.process_type import Process

log = logging.getLogger("belljar.host")

DEFAULT_FLOOR = (Layer.SECCOMP.value, Layer.NO_NEW_PRIVS.value)
"""What ``auto`` asks for when ``require`` is not given. ``require = []`` asks for nothing."""


class Refusal(NamedTuple):
    """A backend that cannot be taken, and why, with the remedy."""

    backend: str
    why: str


def choose(process: Process, machine: Machine) -> HostHalf:
    """Return the host half of the backend that *process* shall be launched with.

    Raises:
        SandboxError: none works here and meets the floor; names cause and remedy for each.
    """
    if machine.failure:
        raise SandboxError(f"what works here could not be tried: {machine.failure}")
    if process.backend != "auto":
        half = host_half(process.backend)
        if why := refusal(half, process, machine):
            raise SandboxError(f"backend {half.name!r} cannot be used here: {why}")
        return half
    refused: list[Refusal] = []
    for name in process.prefer or [name for name in BACKENDS if name != "none"]:
        taken, why = _judge(name, process, machine)
        if taken is not None:
            _tell(process, name, refused)
            return taken
        refused.append(Refusal(name, why))
    names_by_reason: dict[str, list[str]] = {}
    for name, why in refused:
        names_by_reason.setdefault(why, []).append(name)
    reasons = "; ".join(f"{', '.join(names)}: {why}" for why, names in names_by_reason.items())
    raise SandboxError(f"no backend works here and meets the floor of this process type: {reasons}")


def _judge(name: str, process: Process, machine: Machine) -> tuple[HostHalf | None, str]:
    """Return the half of the backend *name* if it can be taken, or else why not."""
    try:
        half = host_half(name)
    except SandboxError as error:  # another package's, which cannot be loaded
        return None, str(error)
    why = refusal(half, process, machine)
    return (None, why) if why else (half, "")


def refusal(half: HostHalf, process: Process, machine: Machine) -> str:
    """Return why *half* cannot be taken for *process* on *machine*, empty if it can."""
    if missing := explain(machine.missing(half.requires)):
        return missing
    if unable := half.unable(process.policy, machine):
        return f"{unable}; choose another backend, or take that out of the policy"
    if not floor_of(process):
        return ""
    return below_floor(process, half.promises(process.policy), foreseen(half, process.policy, machine))


def floor_of(process: Process) -> Sequence[str]:
    """Return what must be enforced on a child of *process*."""
    if process.require is not None:
        return process.require
    return DEFAULT_FLOOR if process.backend == "auto" else ()


def below_floor(process: Process, layers: Mapping[Layer, str], operations: Sequence[OperationStatus]) -> str:
    """Return what *layers* and *operations* lack of the floor, with a remedy; empty if that is nothing."""
    floor = floor_of(process)
    if not (problems := unmet(floor, layers, operations)):
        return ""
    remedy = "choose another backend, or ask for less in require"
    return f"it is below the floor, require = {list(floor)}: {', '.join(problems)}; {remedy}"


def foreseen(half: HostHalf, policy: Policy, machine: Machine) -> tuple[OperationStatus, ...]:
    """Return what *half* will enforce, operation by operation, if it keeps its promises."""
    promised = half.promises(policy)
    granted: Landlock | None = None
    if Layer.LANDLOCK in promised:
        granted = landlock.grant(landlock.inner(policy), machine.landlock_abi)
    return planned(Expectation(half.name, promised, policy, rights_of(half, policy), granted))


def rights_of(half: HostHalf, policy: Policy) -> Rights:
    """Return what the filter of *half* knows of *policy*."""
    return Rights.of(policy, own_pid_only=half.own_pid_only)


def _tell(process: Process, chosen: str, refused: list[Refusal]) -> None:
    for name, why in refused:
        log.warning("%s: auto chose %s and not %s: %s", process.name, chosen, name, why)
