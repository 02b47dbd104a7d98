"""``belljar doctor``: what works on this machine, by feature and by backend, or why not and what to do."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..sandbox.backends import host_half, names
from ..sandbox.layers import Layer
from ..sandbox.policy import Policy
from ..sandbox.probe import FEATURES, LayerProbe, Machine, explain, probe
from ..sandbox.user import User, closed_to, resolve_user
from .place import printable

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
    """What works on this machine. ``system`` is one line for a bug report, ``user`` says whom children run as."""

    system: str
    user: str
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
    required = {name: host_half(name).requires for name in names()}
    return DoctorReport(
        system=f"{platform.system()} {platform.release()} {platform.machine()}, uid {os.geteuid()}",
        user=closed or f"children run as uid {user.uid}",
        features=tuple(_feature(seen.results[name], required) for name in FEATURES),
        backends=tuple(_backend(name, seen.missing(required[name])) for name in names()),
    )


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


def _backend(name: str, missing: list[LayerProbe]) -> BackendRow:
    confines = bool(host_half(name).promises(Policy()))
    return BackendRow(name, confines, not missing, tuple(result.name for result in missing), explain(missing))


def render(report: DoctorReport) -> RenderableType:
    """Return the report for rich: a table of features, why some are missing, and a table of backends."""
    return Group(_features_table(report), *_missing(report), _backends_table(report), Text(printable(report.user)))


def _features_table(report: DoctorReport) -> Table:
    table = Table(title=printable(f"features ({report.system})"), title_justify="left")
    for heading in ("feature", "layer", "works", "needed by"):
        table.add_column(heading, no_wrap=True)
    table.add_column("detail")
    for row in report.features:
        needed = ", ".join(row.required_by) or "optional"
        table.add_row(row.name, row.layer or "", _mark(row.works), needed, printable(row.detail) if row.works else "")
    return table


def _missing(report: DoctorReport) -> list[Text]:
    """Return a paragraph for each missing feature; in a column, sentences of this length would be unreadable."""
    return [
        Text.assemble(
            (row.name, "bold red"),
            *(f"\n  {printable(part)}" for part in (row.cause, f"remedy: {row.remedy}", row.detail) if part),
        )
        for row in report.features
        if not row.works
    ]


def _backends_table(report: DoctorReport) -> Table:
    table = Table("backend", "works", "why not and what to do", title="backends", title_justify="left")
    for row in report.backends:
        parts = (row.why_not, "" if row.confines else "confines nothing: for debugging and tests")
        table.add_row(row.name, _mark(row.works), Text("\n".join(printable(part) for part in parts if part)))
    return table


def _mark(works: bool) -> Text:
    return Text("yes", style="green") if works else Text("no", style="bold red")
