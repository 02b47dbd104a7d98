"""``belljar plan --observe``: launch a process type, and hold what each step left against what it declares.

A step that a zygote shares reports nothing, so here the child takes all steps itself. What a step after the seal leaves
nobody sees: a sealed child has no /proc to look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ....ipc.errors import printable
from ....sandbox.declaration import Leaves
from ...config.process_type import Process, plan_of
from ...process_host import ProcessHost
from ..at_seal import AtSeal
from ..compare import StepReport, observed, unseen
from ..find import Planned, preload_entry
from ..step import Step
from ..written import toml_of
from .rows import leaves_words


class Observation(NamedTuple):
    """What one launch of *process* showed: how each of its *steps* went, and what there was at the seal."""

    process: Process
    steps: tuple[Planned, ...]
    reports: Mapping[str, StepReport]
    at_seal: AtSeal | None

    @property
    def differs(self) -> bool:
        """Whether anything was left that is not declared."""
        return bool(self._changed()) or (self.at_seal is not None and self.at_seal.undeclared is not None)

    def _changed(self) -> dict[str, dict[str, Any]]:
        """Return what ``leaves`` should say, by step, for each that left more than it declares."""
        declared = {step.name: step.declaration.leaves for step in self.steps}
        reports = (report for report in self.reports.values() if report.undeclared is not None)
        return {report.name: observed(report.left, declared[report.name]) for report in reports}

    def text(self, base: Path) -> str:
        """Return all of it for people, with what to paste into a file in the folder *base*."""
        width = max((len(step.name) for step in self.steps), default=0)
        lines = [f"  {step.name:<{width}}  {line}" for step in self.steps for line in self._of(step)]
        lines += [f"  {'at the seal':<{width}}  {line}" for line in _of_seal(self.at_seal)]
        if pasted := self.toml(base):
            lines += ["", f"# in [process.{self.process.name}], in place of these keys:", *pasted.splitlines()]
        # Line by line: a thread may have a line break in its name, and what follows would pass for a line of ours.
        return "\n".join(map(printable, [f"what the steps of {self.process.name} left:", *lines]))

    def _of(self, step: Planned) -> Iterator[str]:
        if step.late:
            yield "stands after the seal, where nobody sees what it leaves"
        elif (report := self.reports.get(step.name)) is not None:
            if report.failure:
                yield f"failed, and is optional: {report.failure}"
            beyond = report.undeclared
            yield f"NOT DECLARED: {beyond.sentence}" if beyond else f"as declared, in {report.took:.1f} ms"
            if missing := unseen(report.left, step.declaration.leaves):
                words = "; ".join(leaves_words(msgspec.convert(missing, Leaves)))
                yield f"declared, and not seen this time: {words}"

    def toml(self, base: Path) -> str:
        """Return the keys of the process type with which no step would differ; empty if none does."""
        changed = self._changed()
        if not changed:
            return ""
        by_name = {step.name: step for step in self.steps}
        modules = {preload_entry(module).name: module for module in self.process.preload}
        kept = [module for name, module in modules.items() if name not in changed]
        names = [name for name in modules if name in changed]
        names += [step.name for step in self.process.early_init if isinstance(step, Step)]
        entries = [f"    {_entry(by_name[name], changed.get(name), base)}," for name in names]
        preload = [f"preload = {toml_of(kept)}"] if modules else []
        return "\n".join([*preload, "early_init = [", *entries, "]"])

    def as_json(self, base: Path) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "differs": self.differs,
            "steps": [msgspec.to_builtins(report) for report in self.reports.values()],
            "at_seal": msgspec.to_builtins(self.at_seal),
            "toml": self.toml(base),
        }


async def observe(process: Process) -> Observation:
    """Launch *process*, end it, and return what its steps left.

    Raises:
        BelljarError: as `ProcessHost` does.
    """
    resolved = process.resolve()
    entries = (*map(preload_entry, resolved.preload), *resolved.early_init)
    alone = tuple(
        msgspec.structs.replace(entry, declared={**entry.declared, "shared": False})
        for entry in entries
        if isinstance(entry, Step)  # and not a str: it is resolved
    )
    async with ProcessHost(msgspec.structs.replace(resolved, preload=(), early_init=alone)) as host:
        pass
    return Observation(resolved, plan_of(resolved).steps, host.early_init, host.at_seal)


def _of_seal(seen: AtSeal | None) -> Iterator[str]:
    if seen is None:
        return
    threads = [f"{name} ({count})" for name, count in seen.left.threads.items()]
    fds = [f"{fd.kind} {fd.what}" for fd in seen.left.fds]
    yield f"threads beside the first: {', '.join(threads) or 'none'}; fds of early init: {', '.join(fds) or 'none'}"
    if seen.undeclared is not None:
        yield f"NOT DECLARED by any step, and there only after its end: {seen.undeclared.sentence}"


def _entry(step: Planned, leaves: Mapping[str, Any] | None, base: Path) -> str:
    """Return *step* as an entry of ``early_init``, with other *leaves* if they are given."""
    entry = step.entry
    table: dict[str, Any] = {"step": entry.step.removeprefix(f"{base}/")}
    if step.name != step.declared.name:
        table["name"] = step.name
    table |= entry.options | entry.declared | ({"leaves": leaves} if leaves is not None else {})
    return toml_of(table if len(table) > 1 else table["step"])
