"""Time zones. ``ZoneInfo`` opens the file of a zone when it is first named: 600 zones, 0.13 s."""

from __future__ import annotations

from zoneinfo import ZoneInfo, available_timezones


def warm() -> dict[str, ZoneInfo]:
    """Return all zones by name; ``ZoneInfo`` itself finds them as long as somebody holds them."""
    return {name: ZoneInfo(name) for name in sorted(available_timezones())}
