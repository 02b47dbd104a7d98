"""Somebody else's process: holds a secret, and tells what was done to it. ``victim.py SECRET FD``; fd 0 is a file.

Prints the address of the secret, then answers each line that comes over FD with a line of JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys

_PR_SET_PTRACER = 0x59616D61
_ROOM = 16


def main() -> None:
    secret = sys.argv[1].encode()
    memory = ctypes.create_string_buffer(secret, len(secret) + _ROOM)
    came: list[int] = []
    for number in {*range(1, signal.SIGRTMIN + 9)} - {signal.SIGKILL, signal.SIGSTOP, 32, 33}:
        signal.signal(number, lambda number, _: came.append(number))
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(2**64 - 1), 0, 0, 0)  # where Yama asks for it
    print(ctypes.addressof(memory), flush=True)
    with open(int(sys.argv[2])) as questions:
        for _ in questions:
            print(
                json.dumps(
                    {
                        "memory": memory.raw[len(secret) :].rstrip(b"\0").decode(errors="replace"),
                        "nice": os.getpriority(os.PRIO_PROCESS, 0),
                        "affinity": sorted(os.sched_getaffinity(0)),
                        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
                        "signals": sorted(set(came)),  # last: Python runs its handlers after the calls above
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
