"""The medians as bars: one panel a work, in the mode in which it is judged."""

# matplotlib's stubs leave many parameters open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .results import Measured, Results, in_unit, works_of
from .work import Work

COLOURS = {"belljar": "#c0562f", "peer": "#7d8b99"}
UNITS = {"us": "microseconds (logarithmic), shorter is better", "k/s": "thousands a second", "GB/s": "GB a second"}


def draw(results: Results, path: Path) -> None:
    """Write the plot to *path*, the same for the same results."""
    panels = [(work, found) for work, mode, found in works_of(results) if mode == work.judged]
    bars = [len(work.rows) + 3 for work, _ in panels]  # room for the title and the axis
    mpl.rcParams.update({"svg.hashsalt": "belljar", "svg.fonttype": "none"})  # text as text
    figure = Figure(figsize=(10, 0.25 * sum(bars)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=bars)
    for axes, (work, found) in zip(grid.flat, panels, strict=True):
        _panel(axes, work, {name: row for name, row in found.items() if not row.failure})
    figure.savefig(path, metadata={"Date": None})


def _panel(axes: Axes, work: Work, found: dict[str, Measured]) -> None:
    rows = sorted(found, key=lambda name: found[name].median, reverse=True)
    values = [in_unit(work.unit, found[name].median) for name in rows]
    colours = [COLOURS["belljar" if name.startswith("belljar") else "peer"] for name in rows]
    axes.bar_label(axes.barh(rows, values, color=colours), fmt="%.3g", padding=3)
    axes.set_title(f"{work.title} ({work.judged})", loc="left")
    axes.set_xlabel(UNITS[work.unit])
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    if work.unit == "us":
        axes.set_xscale("log")  # a pool takes a hundred times as long as a socket
