"""``quiet``: what belljar's ``landlock`` does, for children whose work can wait.

Such a child runs when nobody else wants the processor, and is the first to go when memory runs out. The host can see
both: nice(2) and the policy of sched(7) in fields 19 and 41 of ``/proc/PID/stat``, and ``/proc/PID/oom_score_adj``.
Taking less needs no privilege, and a child without privileges cannot take it back.
"""

from __future__ import annotations

import os
from pathlib import Path

from belljar.sandbox.backends import landlock
from belljar.sandbox.base import Birth
from belljar.sandbox.steps import step


class HostSide(landlock.HostSide):
    """Asks for what landlock asks for, and promises the same layers."""

    name = "quiet"


class ChildSide(landlock.ChildSide):
    """Stands back, then does what a child of landlock does."""

    def confine_early(self, birth: Birth) -> None:
        """Stage 3, while there is one thread: threads that start later inherit all of it."""
        with step("take the lowest priority"):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, 0, 19)
        with step("be the first that is killed when memory runs out"):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
        super().confine_early(birth)
