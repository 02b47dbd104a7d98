"""A setuid helper is out of its user's reach: whoever could trace it would have what it has (CVE-2016-8659)."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from belljar.sandbox.user import resolve_user

from ..helpers import launch, require

pytestmark = pytest.mark.anyio

TRACE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
open(f"/proc/{sys.argv[1]}/environ").read()
if libc.ptrace(0x4206, int(sys.argv[1]), 0, 0) < 0:  # PTRACE_SEIZE
    raise PermissionError
"""


def can_trace(pid: int) -> bool:
    """Whether another process of the child's user may read and trace *pid*."""
    user = resolve_user("nobody" if os.geteuid() == 0 else "")
    ids: dict[str, Any] = {}
    if os.geteuid() == 0:
        ids = {"user": user.uid, "group": user.gid, "extra_groups": list(user.groups)}
    done = subprocess.run([sys.executable, "-I", "-S", "-c", TRACE, str(pid)], capture_output=True, check=False, **ids)
    assert done.returncode == 0 or b"PermissionError" in done.stderr
    return done.returncode == 0


async def test_a_setuid_helper_cannot_be_traced() -> None:
    """The user of a child can trace an unconfined child of his, but not the helper of chrome-sandbox."""
    run_as = "nobody" if os.geteuid() == 0 else ""
    require("chrome-sandbox")
    async with launch(backend="none", run_as=run_as) as host:
        assert host.child_pid is not None
        assert can_trace(host.child_pid)
    async with launch(backend="chrome-sandbox", run_as=run_as) as host:
        assert host.launched_pid is not None
        assert not can_trace(host.launched_pid)
