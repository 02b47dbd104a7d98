"""``belljar doctor``: what works on this machine, by feature and by backend, or why not and what to do."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...ipc.errors import printable
from ...sandbox.backends import BACKENDS, host_half, names
from ...sandbox.base import HostHalf
from ...sandbox.errors import SandboxError
from ...sandbox.layers import Layer
from ...sandbox.policy import Policy
from ...sandbox.probe import FEATURES, LayerProbe, Machine, explain, probe
from ...sandbox.user import DEFAULT_FOR_ROOT, User, closed_to, resolve_user
from ..choose import refusal
from ..config.process_type import Process

_LAYERS = {
    "userns": Layer.USER_NS,
    "pidns": Layer.PID_NS,
    "netns": Layer.NET_NS,
    "ipcns": Layer.IPC_NS,
    "mountns": Layer.MOUNT_NS,
    "utsns": Layer.UTS_NS,
    "cgroupns": Layer.CGROUP_NS,
    "empty-root": Layer.EMPTY_ROOT,
    "capabilities": Layer.CAPABILITIES,
    "no-new-privs": Layer.NO_NEW_PRIVS,
    "seccomp": Layer.SECCOMP,
    "seccomp-tsync": Layer.SECCOMP,
    "landlock": Layer.LANDLOCK,
    "rlimits": Layer.RLIMITS,
}


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One feature of the kernel: the layer that it makes, if one, and the backends that cannot do without it."""

    name: str
    layer: str | None
    works: bool
    required_by: tuple[str, ...]
    cause: str
    remedy: str
    detail: str


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend: whether it confines at all, whether it works here, and the features that it misses."""

    name: str
    confines: bool
    works: bool
    missing: tuple[str, ...]
    why_not: str


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What works on this machine.

    Attributes:
        system: one line for a bug report.
        user: whom children run as, in words.
        auto: the backend that ``auto`` takes for the default policy, empty for none.
    """

    system: str
    user: str
    auto: str
    features: tuple[FeatureRow, ...]
    backends: tuple[BackendRow, ...]

    @property
    def exit_code(self) -> int:
        """0 if a backend that confines works, else 1."""
        return 0 if any(row.works and row.confines for row in self.backends) else 1

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


def doctor_report(machine: Machine | None = None) -> DoctorReport:
    """Return what *machine* can do, by default this one, tried now.

    Raises:
        SandboxError: ``BELLJAR_FAKE_MISSING`` holds a name that is no feature.
    """
    user = resolve_user("")
    closed = closed_to(user)
    seen = machine or probe(User.current() if closed else user)
    halves, broken = _halves()
    required = {name: half.requires for name, half in halves.items()}
    return DoctorReport(
        system=f"{platform.system()} {platform.release()} {platform.machine()}, uid {os.geteuid()}",
        user=closed or _user(user),
        auto=_auto(halves, seen),
        features=tuple(_feature(seen.results[name], required) for name in FEATURES),
        backends=(*(_backend(half, seen.missing(half.requires)) for half in halves.values()), *broken),
    )


def _halves() -> tuple[dict[str, HostHalf], list[BackendRow]]:
    """Return each backend by name, and a row for each of another package that cannot be loaded."""
    halves: dict[str, HostHalf] = {}
    broken: list[BackendRow] = []
    for name in names():
        try:
            halves[name] = host_half(name)
        except SandboxError as error:
            broken.append(BackendRow(name, True, False, (), str(error)))
    return halves, broken


def _user(user: User) -> str:
    if os.geteuid() != 0:
        return f"children run as this user, uid {user.uid}"
    return f"children of root run as {DEFAULT_FOR_ROOT}, uid {user.uid}, unless run_as names another user"


def _auto(halves: Mapping[str, HostHalf], machine: Machine) -> str:
    """Return what `choose.choose` would take for a process type that names nothing but its plugin."""
    plain = Process(plugin="plugin.py:Plugin", backend="auto")
    own = (half for name, half in halves.items() if name in BACKENDS and name != "none")
    return next((half.name for half in own if not refusal(half, plain, machine)), "")


def _feature(result: LayerProbe, required: dict[str, tuple[str, ...]]) -> FeatureRow:
    layer = _LAYERS.get(result.name)
    return FeatureRow(
        name=result.name,
        layer=None if layer is None else str(layer),
        works=result.works,
        required_by=tuple(name for name, features in required.items() if result.name in features),
        cause=result.cause,
        remedy=result.remedy,
        detail=result.detail,
    )


def _backend(half: HostHalf, missing: list[LayerProbe]) -> BackendRow:
    confines = bool(half.promises(Policy()))
    return BackendRow(half.name, confines, not missing, tuple(result.name for result in missing), explain(missing))


def render(report: DoctorReport) -> RenderableType:
    """Return the report for rich: a table of features, why some are missing, and a table of backends."""
    auto = f"auto takes {report.auto} for the default policy" if report.auto else "auto finds no backend here"
    users = Text(f"{printable(auto)}\n{printable(report.user)}")
    return Group(_features_table(report), *_missing(report), _backends_table(report), users)


def _features_table(report: DoctorReport) -> Table:
    """The layer that a feature makes stands in the JSON only: its name is much the same, and a terminal is narrow."""
    table = Table(title=printable(f"features ({report.system})"), title_justify="left")
    for heading in ("feature", "works"):
        table.add_column(heading, no_wrap=True)
    for heading in ("needed by", "detail"):
        table.add_column(heading, overflow="fold")
    for row in report.features:
        table.add_row(row.name, _mark(row.works), _needed_by(row, report), printable(row.detail) if row.works else "")
    return table


def _needed_by(row: FeatureRow, report: DoctorReport) -> str:
    if set(row.required_by) == {backend.name for backend in report.backends}:
        return "all backends"
    if set(row.required_by) == {backend.name for backend in report.backends if backend.confines}:
        return "all that confine"
    return ", ".join(row.required_by) or "optional"


def _missing(report: DoctorReport) -> list[Text]:
    """Return a paragraph for each cause; in a column, sentences of this length would be unreadable."""
    by_reason: dict[tuple[str, str, str], list[str]] = {}
    for row in report.features:
        if not row.works:
            by_reason.setdefault((row.cause, row.remedy, row.detail), []).append(row.name)
    return [
        Text.assemble(
            (", ".join(lost), "bold red"),
            *(f"\n  {printable(part)}" for part in (cause, f"remedy: {remedy}", detail) if part),
        )
        for (cause, remedy, detail), lost in by_reason.items()
    ]


def _backends_table(report: DoctorReport) -> Table:
    table = Table("backend", "works", "why not and what to do", title="backends", title_justify="left")
    for row in report.backends:
        parts = (row.why_not, "" if row.confines else "confines nothing: for debugging and tests")
        table.add_row(row.name, _mark(row.works), Text("\n".join(printable(part) for part in parts if part)))
    return table


def _mark(works: bool) -> Text:
    return Text("yes", style="green") if works else Text("no", style="bold red")
