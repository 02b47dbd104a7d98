"""Run tests/children/under_filter.py under the filter of a policy, on the real kernel."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyseccomp

from belljar.sandbox.policy import Policy
from belljar.sandbox.seccomp.compile import compile_policy

from ..helpers import CHILDREN


def number(name: str) -> int:
    """Return the number of a call here; negative if this architecture has no such call."""
    return pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)


def run(policy: Policy, task: str, folder: Path, *, calls: object = None, **how: bool) -> Any:
    """Do *task* of under_filter.py under *policy*; return what it printed, or the signal that ended it."""
    program = folder / "program"
    program.write_bytes(compile_policy(policy, **{"listener": False, **how}))
    command = [sys.executable, str(CHILDREN / "under_filter.py"), str(program), task]
    environment = {**os.environ, "TMPDIR": str(folder), "LC_ALL": "C"}
    ended = subprocess.run(
        command, input=json.dumps(calls), capture_output=True, text=True, check=False, env=environment
    )
    if ended.returncode < 0:
        return signal.Signals(-ended.returncode).name
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def answers(policy: Policy, calls: list[tuple[Any, ...]], folder: Path, **how: bool) -> list[str]:
    """Make raw *calls*, each a name and its arguments; return the name of each one's errno, "done" for success."""
    numbered = [(number(str(name)) if isinstance(name, str) else name, *rest) for name, *rest in calls]
    found = run(policy, "calls", folder, calls=numbered, **how)
    return [errno.errorcode[code] if code else "done" for code in found]
