"""A program that was started the usual way, without belljar: ``careless.py TARGET NAME`` tries one attack.

What its launcher had is there for it: fds, variables, process group, groups. It shows that the attacks on these do work
where nobody takes care. It gives itself a filter that allows all, and keeps the listener.
"""

from __future__ import annotations

import ctypes
import json
import signal
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from intruder import ATTACKS, Target, attempt  # type: ignore[import-not-found] # beside this program

_ALLOW = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)  # return SECCOMP_RET_ALLOW
_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, _PR_SET_NO_NEW_PRIVS = 317, 1, 1 << 3, 38


def keep_a_listener() -> None:
    """Install a filter as its own judge."""
    libc = ctypes.CDLL(None)
    rule = ctypes.create_string_buffer(_ALLOW, len(_ALLOW))
    program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(rule))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.syscall(ctypes.c_long(_SECCOMP), _SET_MODE_FILTER, _NEW_LISTENER, program)


def main() -> None:
    target, name = Target(**json.loads(sys.argv[1])), sys.argv[2]
    with subprocess.Popen(["sleep", "60"]) as mate:  # of the same process group
        keep_a_listener()
        outcome = attempt(ATTACKS[name].act, target)
        ended_by = mate.wait() if name.startswith("signal its own process group") else 0
        mate.kill()
    print(json.dumps({"kept": outcome.kept, "mate": -ended_by == signal.SIGUSR1}))


if __name__ == "__main__":
    main()
