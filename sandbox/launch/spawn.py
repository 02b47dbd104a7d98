"""Start a program by fork and exec, and learn at which step it failed. Stage 2 for programs that the guard starts.

The step's errno comes back through a close-on-exec pipe: exec closes it, so end of file means that the program runs.
The signal on the end of the guard (PR_SET_PDEATHSIG, prctl(2)) is a trap in general: it fires when the *thread*
that forked ends and a setuid exec clears it. Here the forking process has one thread, it is set between fork and
exec, and the ppid is looked at afterwards for the case that the guard ended in between.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Mapping, Sequence
from typing import NoReturn

from .. import syscalls
from .wire import Failed

_ABOVE = 16  # no target fd is as high as this, and a low RLIMIT_NOFILE leaves room above it


Ids = tuple[int, int, Sequence[int]]
"""uid, gid and supplementary groups."""


def spawn(argv: Sequence[str], env: Mapping[str, str], fds: Mapping[int, int], user: Ids | None) -> int | Failed:
    """Start *argv* with *env*; ``fds[target]`` becomes fd *target* in it, 0 is at its end. Return its pid or why not.

    With *user*, which takes root, it runs as that one. Closes nothing of the caller's. Call it with one thread only.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    guard_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(argv, env, fds, user, writer, guard_pid)
    os.close(writer)
    with open(reader, "rb") as pipe:
        failure = pipe.read()
    if not failure:
        return pid
    os.waitpid(pid, 0)
    return Failed(**json.loads(failure))


def _become(
    argv: Sequence[str],
    env: Mapping[str, str],
    fds: Mapping[int, int],
    user: Ids | None,
    writer: int,
    guard_pid: int,
) -> NoReturn:
    step = "become the user of the child"
    try:
        if user is not None:
            _switch(*user)
        step = "set the signal on the guard's end"  # after the change of user, which clears it
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard_pid:
            os._exit(1)
        step = "start a session"
        os.setsid()
        step = "leave the working directory"
        os.chdir("/")
        step = "place the file descriptors"
        writer = _place(fds, writer)
        step = f"execute {argv[0]}"
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(argv[0], list(argv), env)
    except OSError as error:
        failure = {"stage": 2, "errno": error.errno, "text": f"could not {step}: {error.strerror}", "step": step}
        os.write(writer, json.dumps(failure).encode())
    finally:
        os._exit(127)


def _switch(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Groups first: without uid 0 they could not be changed any more. See setgroups(2), setresuid(2)."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _place(fds: Mapping[int, int], writer: int) -> int:
    """Move all sources out of the way first, so that no target overwrites a source that is still to be placed."""
    writer = fcntl.fcntl(writer, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
    high = {target: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for target, fd in fds.items()}
    # An empty pipe and not /dev/null: a child that is root, or whoever owns that node, could fchmod(2) it for all.
    nothing, end = os.pipe2(os.O_CLOEXEC)
    os.close(end)
    os.dup2(nothing, 0)
    for target, fd in high.items():
        os.dup2(fd, target)
    os.closerange(max(fds, default=2) + 1, _ABOVE)
    return writer
