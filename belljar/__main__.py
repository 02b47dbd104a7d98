"""``python -m belljar``: the command line."""

from __future__ import annotations

from .host.command.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
