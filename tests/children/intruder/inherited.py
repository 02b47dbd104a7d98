"""What a careless launch leaves in a child: fds, variables, a working directory."""

from __future__ import annotations

import os
import stat

from .book import Kept, Target, attack

_EXPECTED = 3  # 0, 1 and 2
SECRET_VARIABLE = "BELLJAR_HOST_SECRET"


def _fds() -> list[int]:
    found: list[int] = []
    for fd in range(_EXPECTED, 1024):
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.append(fd)
    return found


@attack("find an fd beyond 0, 1, 2 and the control channel", layers=("seccomp",), proof="careless")
def find_fds(target: Target) -> str:
    """Socket and terminal (of the attack's own warm-up) are known; one socket is the control channel."""
    known = {int(os.environ.get("BELLJAR_ATTACK_TERMINAL", "-1")), int(os.environ.get("BELLJAR_ATTACK_MASTER", "-1"))}
    others = [fd for fd in _fds() if fd not in known]
    sockets = [fd for fd in others if stat.S_ISSOCK(os.fstat(fd).st_mode)]
    surplus = [fd for fd in others if fd not in sockets[:1]]
    if not surplus:
        raise Kept("none there")
    return ",".join(map(str, surplus))


@attack("write into a policy or program that it was given", layers=("seccomp",), proof="careless")
def write_given(target: Target) -> None:
    """Birth, filter and plugin come in memfds: none may be there that this child can write."""
    for fd in _fds():
        if stat.S_ISREG(os.fstat(fd).st_mode):
            try:
                os.pwrite(fd, b"changed", 0)
            except OSError:
                continue
            return
    raise Kept("none writable")


@attack("find a secret in the environment", layers=("seccomp",), proof="careless")
def find_variable(target: Target) -> str:
    if SECRET_VARIABLE not in os.environ:
        raise Kept("not there")
    return os.environ[SECRET_VARIABLE]


@attack("find a device of the machine as its input or output", layers=("seccomp",), proof="careless")
def find_device(target: Target) -> None:
    """Whoever owns a device, as root does, can change its mode for all through an fd of it, fchmod(2)."""
    if not any(stat.S_ISCHR(os.fstat(fd).st_mode) for fd in range(_EXPECTED)):
        raise Kept("none there")


@attack("find an open directory", layers=("seccomp",), proof="careless")
def find_directory(target: Target) -> None:
    if not any(stat.S_ISDIR(os.fstat(fd).st_mode) for fd in _fds()):
        raise Kept("none there")
