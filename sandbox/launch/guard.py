"""The guard: the one process that a host starts, which leaves nothing behind when the host is gone.

Why it exists: a host that is SIGKILLed cannot clean up, a child that is busy in C never reads the end of file on
its socket, and a setuid helper clears PR_SET_PDEATHSIG. The guard is a child subreaper (prctl(2)), so whatever any
descendant leaves behind becomes *its* child; and it holds a pidfd of the host and the other end of a socket, so it
sees the host's end by two independent ways. Then it kills all it has.

Single-threaded, standard library only. Started by `sandbox.launch.client` with exec.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any

from ...ipc.datagram import close_all
from .. import syscalls
from .spawn import spawn
from .strays import kill_strays
from .wire import Exited, Failed, Launched, receive_request, send_report


@dataclass(slots=True)
class _Started:
    pid: int
    pidfd: int
    report: socket.socket


class Guard:
    """Starts, waits for and reports processes until *requests* ends or the process behind *host_pidfd* does."""

    def __init__(self, requests: socket.socket, host_pidfd: int) -> None:
        self.requests = requests
        self.host_pidfd = host_pidfd
        self.started: dict[int, _Started] = {}
        self.poll = select.poll()

    def run(self) -> None:
        """Serve until the host is gone, then kill and reap everything."""
        self.poll.register(self.requests, select.POLLIN)
        self.poll.register(self.host_pidfd, select.POLLIN)
        try:
            while self._turn():
                pass
        finally:
            kill_all()

    def _turn(self) -> bool:
        for fd, _ in self.poll.poll():
            if fd == self.host_pidfd:
                return False
            if fd == self.requests.fileno():
                if not self._serve():
                    return False
            elif fd in self.started:
                self._reap(self.started.pop(fd))
        return True

    def _serve(self) -> bool:
        request = receive_request(self.requests)
        if request is None:
            return False
        body, (report_fd, *sources) = request
        report = socket.socket(fileno=report_fd)
        try:
            self._start(body, dict(zip(body["targets"], sources, strict=True)), report)
        finally:
            close_all(sources)
        return True

    def _start(self, body: dict[str, Any], fds: dict[int, int], report: socket.socket) -> None:
        try:
            result = spawn(body["argv"], body["env"], fds, body["user"])
        except OSError as error:  # EAGAIN or ENOMEM from fork, EMFILE from pipe
            text = f"could not start a process: {error.strerror}"
            result = Failed(2, error.errno or 0, text, "start a process")
        if isinstance(result, Failed):
            send_report(report, result)
            report.close()
            return
        started = _Started(result, os.pidfd_open(result), report)
        self.started[started.pidfd] = started
        self.poll.register(started.pidfd, select.POLLIN)
        send_report(report, Launched(started.pid, started.pidfd))

    def _reap(self, started: _Started) -> None:
        _, status, usage = os.wait4(started.pid, 0)
        self.poll.unregister(started.pidfd)
        os.close(started.pidfd)
        strays = kill_strays(keep={other.pid for other in self.started.values()})
        # bwrap does not wait for its inner half, which is a stray then and has reaped the child: its usage counts.
        cpu = sum(used.ru_utime + used.ru_stime for used in (usage, *strays))
        max_rss = max(used.ru_maxrss for used in (usage, *strays)) * 1024
        send_report(started.report, Exited(status, cpu, max_rss))
        started.report.close()


def kill_all() -> None:
    """Kill and reap all descendants: each round kills the children, whose own children then become ours."""
    kill_strays(keep=set())


def main() -> None:
    """Run the guard: ``python -I -m belljar.sandbox.launch.guard REQUESTS_FD HOST_PIDFD``."""
    requests_fd, host_pidfd = (int(argument) for argument in sys.argv[1:3])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a host may ignore it: the kernel would then reap in our place
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a Ctrl-C is for the host, which then ends its children in order
    for fd in (requests_fd, host_pidfd):
        os.set_inheritable(fd, False)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    with socket.socket(fileno=requests_fd) as requests:
        Guard(requests, host_pidfd).run()


if __name__ == "__main__":
    main()
