"""``scripts/bench hostile``: see the package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import anyio
from rich.console import Console
from rich.progress import Progress

from . import page
from .run import Run, run

MILLION = 1_000_000


def main() -> int:
    """Run, print what the page says, and after a whole run write it; 1 if the count does not add up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=MILLION)
    parser.add_argument("--seed", type=int, default=1, help="of the first child; the next one has the next")
    parser.add_argument("--plot", type=Path, help="write the plot here (SVG or PNG)")
    parser.add_argument("--reasons", action="store_true", help="print why children were killed, too")
    options = parser.parse_args()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("hostile messages", total=options.messages)

        def tell(found: Run) -> None:
            progress.update(task, completed=found.account.messages)

        found = anyio.run(lambda: run(options.messages, seed=options.seed, tell=tell))
    text = page.text(found)
    print(text[text.index("| what became") :])
    if options.reasons:
        print("\n".join(f"{count:7} {reason[:100]}" for reason, count in found.reasons.most_common()))
    _write(found, options.plot, text if options.messages >= MILLION else "")
    return int(found.account.messages != sum(found.said.values()) or found.account.breaches != found.launches)


def _write(found: Run, path: Path | None, text: str) -> None:
    from . import plot  # not before: what it loads would be in the memory that is measured

    if path is not None:
        plot.draw(found, path)
    if text:
        plot.draw(found, page.PLOT)
        page.PAGE.write_text(text)
        print(f"bench: wrote {page.PAGE.name} and {page.PLOT.name}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
