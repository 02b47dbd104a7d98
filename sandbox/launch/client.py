"""The host's connections to its guard and its zygotes: one guard an application, one zygote a set of shared steps.

Starting them blocks (an interpreter starts, 50 ms and more) and is done under a lock, in any thread; asking a
running one for a process is one sendmsg, which needs no lock and does not block. Nothing here belongs to an event
loop, so hosts in several threads share them. A process that the host forks has neither: it starts its own.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack

import msgspec

from ...ipc import datagram, pidfds
from ...ipc.messages import RunStep
from ..errors import SandboxError
from ..steps import step
from ..user import User
from .wire import Failed, Launched, Shared, receive_report, send_request

log = logging.getLogger("belljar.sandbox")

BOOT_TIMEOUT = 20.0
"""Seconds that a guard or a zygote may take to start."""

SHARE_TIMEOUT = 30.0
"""Seconds that one step may take in a zygote; a slower one is left to each child."""

BURIAL_TIMEOUT = 5.0
"""Seconds that a zygote without a guard has to kill what its children have left behind."""

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/"}
"""The whole environment of every process but the guard: nothing of the host's leaks into a child by accident."""

_lock = threading.RLock()


class GuardClient:
    """The host's end of its guard."""

    def __init__(self) -> None:
        ours, theirs = datagram.control_pair()
        host_pidfd = os.pidfd_open(os.getpid())
        try:
            argv = [sys.executable, "-I", "-m", "belljar.sandbox.launch.guard", str(theirs.fileno()), str(host_pidfd)]
            fds = (theirs.fileno(), host_pidfd)
            with step("start a process, the guard"):
                self.process = subprocess.Popen(argv, pass_fds=fds, stdin=subprocess.DEVNULL, start_new_session=True)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(host_pidfd)
        self.requests = ours

    def spawn(
        self, argv: list[str], env: Mapping[str, str], fds: Mapping[int, int], report: socket.socket, user: User
    ) -> None:
        """Start *argv* as *user*; what becomes of it comes over the other end of *report*.

        Raises:
            OSError: the guard is gone, or the arguments are more than one request holds (EMSGSIZE).
        """
        ids = [user.uid, user.gid, list(user.groups)] if user != User.current() else None
        body = {"argv": argv, "env": dict(env), "targets": list(fds), "user": ids}
        send_request(self.requests, body, [report.fileno(), *fds.values()])

    def is_alive(self) -> bool:
        """Return whether the guard runs."""
        return self.process.poll() is None

    def close(self) -> None:
        """End the guard, which kills all that it started, and wait for it."""
        self.requests.close()
        self.process.wait()


class ZygoteClient:
    """The host's end of one zygote."""

    def __init__(self, guard: GuardClient, user: User, *, isolated: bool = True) -> None:
        self.requests, theirs = datagram.control_pair()
        report, guards = datagram.control_pair()
        with theirs, guards, report, ExitStack() as on_failure:
            on_failure.callback(self.requests.close)
            argv = [sys.executable, "-I", "-m", "belljar.child", "zygote" if isolated else "plain-zygote", "3"]
            guard.spawn(argv, ENVIRONMENT, {1: 2, 2: 2, 3: theirs.fileno()}, guards, user)
            theirs.close()
            guards.close()
            self.launched_pidfd = _expect_launched(report)
            on_failure.callback(os.close, self.launched_pidfd)
            self._await_ready()
            on_failure.pop_all()

    def _await_ready(self) -> None:
        self.requests.settimeout(BOOT_TIMEOUT)
        try:
            peek = self.requests.recv(16, socket.MSG_PEEK)
            if peek == b"ready":
                self.requests.recv(16)
                self.requests.settimeout(None)
                return
            failure = receive_report(self.requests)
        except TimeoutError:
            raise SandboxError(f"could not start a zygote: it was not ready after {BOOT_TIMEOUT:g} s") from None
        if isinstance(failure, Failed):
            raise LaunchFailed(failure)
        raise SandboxError("could not start a zygote: it ended at once")

    def share(self, step: RunStep) -> Shared | None:
        """Run *step* in the zygote; None if it hung or the zygote did not outlive it."""
        report, theirs = datagram.control_pair()
        with report:
            with theirs:
                send_request(self.requests, {"share": msgspec.to_builtins(step)}, [theirs.fileno()])
            report.settimeout(SHARE_TIMEOUT)
            try:
                answer = receive_report(report)
            except TimeoutError:
                return None
        return answer if isinstance(answer, Shared) else None

    def settle(self) -> None:
        """All is loaded: let the zygote tidy up and fork its first spare. Returns when that is done."""
        report, theirs = datagram.control_pair()
        with report:
            with theirs:
                send_request(self.requests, {"settle": True}, [theirs.fileno()])
            report.settimeout(BOOT_TIMEOUT)
            report.recv(1)  # end of file

    def is_alive(self) -> bool:
        """Return whether what the guard started, and so the zygote, runs."""
        return not pidfds.has_ended(self.launched_pidfd)

    def close(self) -> None:
        """End the zygote, and every child of it. One that has lost its guard gets time to bury what they left."""
        self.requests.close()
        if not has_guard():
            poll = select.poll()
            poll.register(self.launched_pidfd, select.POLLIN)
            poll.poll(BURIAL_TIMEOUT * 1000)
        pidfds.kill(self.launched_pidfd)
        os.close(self.launched_pidfd)


class LaunchFailed(SandboxError):
    """A process could not be started: which stage, which errno."""

    def __init__(self, failure: Failed) -> None:
        super().__init__(failure.explained())
        self.failure = failure


def _expect_launched(report: socket.socket) -> int:
    report.settimeout(BOOT_TIMEOUT)
    answer = receive_report(report)
    if isinstance(answer, Launched):
        return answer.pidfd
    if isinstance(answer, Failed):
        raise LaunchFailed(answer)
    raise SandboxError("could not start a process: the guard ended")


_guard: GuardClient | None = None
_zygotes: dict[tuple[tuple[RunStep, ...], User, bool], ZygoteClient] = {}
_left_to_children: set[RunStep] = set()


def guard() -> GuardClient:
    """Return the application's guard; starts one if there is none, or if it has ended."""
    global _guard  # noqa: PLW0603 - one guard an application is the point
    with _lock:
        if _guard is None or not _guard.is_alive():
            stop()
            _guard = GuardClient()
        return _guard


def has_guard() -> bool:
    """Return whether a guard runs; never blocks."""
    return _guard is not None and _guard.is_alive()


def warm_zygote(shared: tuple[RunStep, ...], user: User, *, isolated: bool = True) -> ZygoteClient | None:
    """Return the zygote for *shared* and *user* if one runs; never blocks."""
    zygote = _zygotes.get((shared, user, isolated))
    return zygote if zygote is not None and zygote.is_alive() and has_guard() else None


def zygote(shared: tuple[RunStep, ...], user: User, *, isolated: bool = True) -> ZygoteClient:
    """Return the zygote of *user* that has run the steps *shared*, in this order; starts it if there is none.

    An *isolated* one has namespaces and makes some for each child. A step that fails there, hangs, or leaves a thread,
    an fd or shared memory is left to early init in each child.
    """
    with _lock:
        found = warm_zygote(shared, user, isolated=isolated)
        if found is None:
            forget_zygote(shared, user, isolated=isolated)
            found = _start_zygote(shared, user, isolated)
            _zygotes[shared, user, isolated] = found
        return found


def forget_zygote(shared: tuple[RunStep, ...], user: User, *, isolated: bool = True) -> None:
    """Give up the zygote for *shared* and *user*, which no longer answers, and kill what is left of it."""
    with _lock:
        if (stale := _zygotes.pop((shared, user, isolated), None)) is not None:
            stale.close()


def _start_zygote(shared: tuple[RunStep, ...], user: User, isolated: bool) -> ZygoteClient:
    while True:
        started = ZygoteClient(guard(), user, isolated=isolated)
        unfit = next((each for each in shared if not _can_share(started, each)), None)
        if unfit is None:
            started.settle()
            return started
        started.close()
        _left_to_children.add(unfit)


def _can_share(started: ZygoteClient, shared: RunStep) -> bool:
    if shared in _left_to_children:
        return True
    answer = started.share(shared)
    if answer is None:
        why = "it did not come back"
    elif answer.error:
        why = answer.error
    elif answer.threads > 1:
        why = f"it starts {answer.threads - 1} thread(s)"
    elif answer.fds > 0:
        why = f"it leaves {answer.fds} fd(s) open"
    elif answer.mappings > 0:
        why = f"it leaves {answer.mappings} mapping(s) that its children would share"
    else:
        return True
    log.info("%s is left to early init in each child: %s in the zygote", shared.name, why)
    return False


def stop() -> None:
    """End the guard and all processes that it started, in this thread, now. The next launch starts a new one."""
    global _guard  # noqa: PLW0603
    with _lock:
        while _zygotes:
            _zygotes.popitem()[1].close()
        if _guard is not None:
            _guard.close()
            _guard = None


def _forget_in_forked_process() -> None:
    """A forked copy of the host closes its copies of the sockets and leaves the guard to the original."""
    global _guard, _lock  # noqa: PLW0603
    _lock = threading.RLock()
    while _zygotes:
        inherited = _zygotes.popitem()[1]
        inherited.requests.close()
        os.close(inherited.launched_pidfd)
    if _guard is not None:
        _guard.requests.close()
        _guard.process.returncode = 0  # not this process's to wait for
        _guard = None


atexit.register(stop)
os.register_at_fork(after_in_child=_forget_in_forked_process)
