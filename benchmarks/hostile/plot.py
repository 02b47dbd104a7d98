"""The host's memory and fds over the messages that it was sent."""

# matplotlib's stubs leave many parameters open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from .run import Run

POINTS = 500
"""Samples that are drawn."""


def draw(found: Run, path: Path) -> None:
    """Write the plot to *path*, in the format that its name says."""
    samples = found.samples[:: max(1, len(found.samples) // POINTS)]
    messages = [each.messages for each in samples]
    mpl.rcParams.update({"svg.hashsalt": "belljar", "svg.fonttype": "none"})  # text as text
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    memory, fds = figure.subplots(2, 1, sharex=True)
    memory.plot(messages, [each.resident / 2**20 for each in samples], color="#c0562f")
    memory.set_ylabel("resident MiB")
    fds.plot(messages, [each.fds for each in samples], color="#7d8b99")
    fds.set_ylabel("open fds")
    fds.set_xlabel(f"hostile messages, from {found.launches:,} children")
    for axes in (memory, fds):
        axes.margins(y=0.2)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
