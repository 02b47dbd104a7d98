"""The plugin beside the hostile one."""

from __future__ import annotations

import time


class Honest:
    """Works for somebody else."""

    def slow(self, text: str) -> str:
        """Return *text*, after a while."""
        time.sleep(0.3)
        return text
