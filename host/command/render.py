"""Tables for people: a launch's stages, the layers that the kernel shows and what they come to, as rich draws them.

Every text is put into a `Text`, never into markup, and only after `printable`: a detail may quote what a child said.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...ipc.errors import printable
from ...ipc.stage import Stage
from ...sandbox.protection import LayerStatus, OperationStatus, Protection, Verdict

_BAR_WIDTH = 24
_TOTAL = "total"


def pids_table(*, launched_pid: int | None, child_pid: int | None, claimed_pid: int | None) -> Table:
    """Return the three pids of a child, each with what it is good for."""
    table = Table("pid", "", "what it is", title="pids", title_justify="left")
    table.columns[1].justify = "right"
    table.add_row("launched", str(launched_pid), "what the host waits for")
    table.add_row("child", str(child_pid), "from the kernel's credentials: what the host checks and kills")
    table.add_row("claimed", str(claimed_pid), "what the child said: for logs, never used", style="dim")
    return table


def timeline_table(timeline: Mapping[str, float]) -> Table:
    """Return the milliseconds of each stage in order, the steps of early init below it, the total last."""
    table = Table("#", "stage", "ms", "", title="timeline", title_justify="left")
    table.columns[2].justify = "right"
    parts = {label: time for label, time in timeline.items() if label != _TOTAL}
    longest = max(parts.values(), default=0.0)
    for label, time in sorted(parts.items(), key=lambda entry: _rank(entry[0])):
        bar = "█" * round(_BAR_WIDTH * time / longest) if longest > 0 else ""
        stage = _stage(label)
        name = printable(label) if stage else f"  {printable(label)}"
        table.add_row(str(int(stage)) if stage else "", Text(name), f"{time:.2f}", Text(bar, style="cyan"))
    if _TOTAL in timeline:
        table.add_section()
        table.add_row("", _TOTAL, f"{timeline[_TOTAL]:.2f}", "")
    return table


def protection_table(protection: Protection) -> Table:
    """Return each layer: asked for by name, promised, engaged, and with what limit as the kernel shows it."""
    table = Table(title="protection, layer by layer", title_justify="left")
    for heading in ("layer", "asked", "promised", "engaged"):
        table.add_column(heading, no_wrap=True)
    table.add_column("as the kernel shows it, and its limit")
    for status in protection.layers:
        shown = Text(printable(status.detail))
        if status.limit:
            shown.append(f"\nlimit: {printable(status.limit)}", style="yellow")
        table.add_row(Text(str(status.layer)), _yes(status.asked), _yes(status.promised), _engaged(status), shown)
    notes = "".join(f"\n{printable(note)}" for note in protection.notes)
    table.caption = Text(f"read from outside for {printable(protection.threads_in_words())}{notes}")
    table.caption_justify = "left"
    return table


def operations_table(protection: Protection) -> Table:
    """Return each operation: the verdict, the layers that refuse it, and why it is not refused wholly."""
    table = Table(title="protection, operation by operation", title_justify="left")
    for heading in ("operation", "verdict"):
        table.add_column(heading, no_wrap=True)
    table.add_column("refused by")
    table.add_column("why not wholly, and what the policy grants")
    for status in protection.operations:
        table.add_row(Text(str(status.operation)), _verdict(status), Text(", ".join(status.layers)), _why(status))
    table.caption = Text(counts(protection))
    table.caption_justify = "left"
    return table


def counts(protection: Protection) -> str:
    """Return how many operations have each verdict, such as "21 enforced, 2 partly"."""
    found = {verdict: with_verdict(protection, verdict) for verdict in Verdict}
    return ", ".join(f"{len(operations)} {verdict}" for verdict, operations in found.items() if operations)


def with_verdict(protection: Protection, *verdicts: Verdict) -> list[str]:
    """Return the operations that have one of *verdicts*, in the report's order."""
    return [str(status.operation) for status in protection.operations if status.verdict in verdicts]


def launch_report(
    name: str,
    protection: Protection,
    timeline: Mapping[str, float],
    *,
    launched_pid: int | None,
    child_pid: int | None,
    claimed_pid: int | None,
    operations: bool = True,
) -> RenderableType:
    """Return all that is known of one launched child under its name; the operations only if they are asked for."""
    return Group(
        Text(printable(name), style="bold"),
        pids_table(launched_pid=launched_pid, child_pid=child_pid, claimed_pid=claimed_pid),
        timeline_table(timeline),
        protection_table(protection),
        operations_table(protection) if operations else Text(f"operations: {counts(protection)}"),
    )


def _engaged(status: LayerStatus) -> Text:
    if status.engaged:
        return Text("partly", style="yellow") if status.limit else Text("yes", style="green")
    return Text("MISSING", style="bold red") if status.promised else Text("no", style="dim")


def _yes(value: bool) -> Text:
    return Text("yes") if value else Text("no", style="dim")


_STYLES = {Verdict.ENFORCED: "green", Verdict.PARTLY: "yellow", Verdict.GRANTED: "cyan", Verdict.OPEN: "bold red"}


def _verdict(status: OperationStatus) -> Text:
    return Text(str(status.verdict), style=_STYLES[status.verdict])


def _why(status: OperationStatus) -> Text:
    granted = f"the policy grants {status.granted}" if status.granted else ""
    return Text(printable("; ".join(part for part in (granted, status.why) if part)))


def _stage(label: str) -> Stage | None:
    """Return the stage that *label* names, by its words or by its name in the code."""
    return Stage.__members__.get(label.upper().replace(" ", "_").replace("-", "_"))


def _rank(label: str) -> float:
    """Return the place in the order; what is no stage is a step of early init."""
    return _stage(label) or Stage.EARLY_INIT + 0.5
