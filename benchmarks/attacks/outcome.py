"""What an attack came to."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Outcome(NamedTuple):
    """Whether the attack got what it wanted, and what was seen of it."""

    got_through: bool
    seen: str


def judged(got_through: bool, harm: str, safe: str) -> Outcome:
    """Return what was seen in either case."""
    return Outcome(got_through, harm if got_through else safe)


def open_fds() -> int:
    """Return how many fds this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def peak_mib() -> float:
    """Return the most memory that this process has had, in MiB."""
    # Not ru_maxrss: that begins, over an exec, with what the process had before, see getrusage(2).
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
