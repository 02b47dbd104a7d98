"""The same media job on several backends, side by side: what came out, how long a launch took, what is enforced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from belljar import Protection
from belljar.host.command.render import with_verdict
from belljar.ipc.errors import printable
from belljar.sandbox.protection import Verdict
from thumbnails import MediaJob

HEADINGS = ("backend", "thumbnails", "launch ms", "enforced", "partly", "open")


@dataclass
class Trial:
    """The job on one backend; *trouble* says why there is none, with what to do about it."""

    backend: str
    job: MediaJob
    trouble: str = ""

    @property
    def pixels(self) -> bytes:
        """The contact sheet, for a comparison."""
        return self.job.sheet().tobytes()


def trials_table(trials: Sequence[Trial]) -> Table:
    """A row for each backend; the operations are those of the protection report of the child for pictures."""
    table = Table(title="the same job on each backend", title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "backend" else "right")
    table.add_column("what is not wholly enforced")
    for trial in trials:
        table.add_row(trial.backend, *(_broken(trial) if trial.trouble else _worked(trial)))
    table.caption = Text(
        "launch ms: the child for pictures / the one for videos, both at once and warm-ups included;\n"
        "the first launches also start the guard and the zygotes"
    )
    table.caption_justify = "left"
    return table


def _worked(trial: Trial) -> list[str]:
    tiles = [tile for tiles in trial.job.tiles.values() for tile in tiles]
    totals = {host.process.name: host.timeline["total"] for host in reversed(trial.job.hosts)}
    launches = " / ".join(f"{totals[name]:.0f}" for name in ("thumbnailer", "video") if name in totals)
    made = f"{sum(tile.image is not None for tile in tiles)} of {len(tiles)}"
    held = next((host.protection for host in trial.job.hosts if host.protection), None)
    return [made, launches, *(_operations(held) if held else [])]


def _operations(held: Protection) -> list[str]:
    verdicts = (Verdict.ENFORCED, Verdict.PARTLY, Verdict.OPEN)
    numbers = [str(len(with_verdict(held, verdict))) for verdict in verdicts]
    return [*numbers, "nothing is enforced" if numbers[:2] == ["0", "0"] else _lacking(held)]


def _lacking(held: Protection) -> str:
    parts = {word: with_verdict(held, word) for word in (Verdict.OPEN, Verdict.PARTLY)}
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in parts.items() if names)


def _broken(trial: Trial) -> list[Text | str]:
    return ["-", "-", "-", "-", "-", Text(printable(trial.trouble), style="red")]


def sheets_differ(trials: Sequence[Trial]) -> list[str]:
    """The backends whose contact sheet is not, pixel for pixel, that of the first one that works."""
    working = [trial for trial in trials if not trial.trouble]
    return [trial.backend for trial in working if trial.pixels != working[0].pixels]


def sheets_text(trials: Sequence[Trial]) -> Text:
    """One line on whether all contact sheets are the same."""
    working = [trial.backend for trial in trials if not trial.trouble]
    if different := sheets_differ(trials):
        return Text(f"the contact sheets of {', '.join(different)} differ from that of {working[0]}", style="bold red")
    if len(working) > 1:
        return Text(f"the contact sheet is identical on all {len(working)} backends, pixel for pixel", style="green")
    return Text(f"only {working[0]} made a contact sheet" if working else "there is no contact sheet")
