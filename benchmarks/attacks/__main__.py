"""``scripts/bench attacks``: see the package."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table

from belljar.host.command.run import pretty_json

from .table import ATTACKS, PAGE, row, run, write


def main() -> int:
    """Make every attack, print the table and write the page; 1 if one got through in belljar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = [(attack, run(attack, "peer"), run(attack, "belljar")) for attack in ATTACKS]
    if options.json:
        print(pretty_json({attack.name: {"peer": there, "belljar": here} for attack, there, here in found}))
    else:
        table = Table(title="what a hostile child can do", title_justify="left")
        for heading in ("attack", "peer", "there", "in belljar"):
            table.add_column(heading, overflow="fold")
        for attack, there, here in found:
            table.add_row(attack.words, attack.peer, there.seen, here.seen)
        Console().print(table)
    write([row(*each) for each in found])
    print(f"bench: wrote {PAGE.name}", file=sys.stderr)
    return int(any(here.got_through for _, _, here in found))


if __name__ == "__main__":
    sys.exit(main())
