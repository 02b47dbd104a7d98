"""Measurements against peers, each from one interleaved run: `scripts/bench NAME`."""
