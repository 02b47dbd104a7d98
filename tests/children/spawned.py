"""Programs for the guard to start: ``spawned.py MODE``. Each says on fd 3, a socket, what the test wants to know."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

said = socket.socket(fileno=3)


def surroundings() -> None:
    """Say the environment, the fds, and which processes this one knows."""
    listed = os.listdir("/proc/self/fd")
    fds = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in listed if os.path.exists(f"/proc/self/fd/{fd}")}
    facts = {"env": dict(os.environ), "fds": fds, "session": os.getsid(0), "pid": os.getpid(), "launcher": os.getppid()}
    said.send(json.dumps(facts).encode())
    for fd in (1, 2, 4):
        os.write(fd, f"fd {fd}".encode())


def orphan() -> None:
    """Leave a grandchild in a session of its own behind, once the test has seen it."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            said.send(str(os.getpid()).encode())
            signal.pause()
        os._exit(0)
    os.waitpid(pid, 0)
    said.recv(1)
    os._exit(4)


def waits() -> None:
    """Wait to be killed, with a grandchild that does the same in a session of its own."""
    if os.fork() == 0:
        os.setsid()
        said.send(str(os.getpid()).encode())
    signal.pause()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
