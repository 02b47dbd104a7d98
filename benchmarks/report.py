"""Tables of the benchmarks: medians of interleaved rounds and their ratios, for seconds do not travel."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table


def show(title: str, unit: str, samples: Mapping[str, Sequence[float]], base: str, *, as_json: bool) -> None:
    """Print median, p90 and the ratio to *base* of each row of *samples*."""
    base_median = statistics.median(samples[base])
    rows = {
        name: {
            "median": statistics.median(values),
            "p90": statistics.quantiles(values, n=10)[-1],
            f"x {base}": statistics.median(values) / base_median,
        }
        for name, values in samples.items()
    }
    if as_json:
        print(json.dumps({"title": title, "unit": unit, "rows": rows}))
        return
    table = Table("", f"median {unit}", f"p90 {unit}", f"x {base}", title=title, title_justify="left")
    for name, row in sorted(rows.items(), key=lambda item: item[1]["median"]):
        table.add_row(name, *(f"{value:.2f}" for value in row.values()))
    Console().print(table)
