"""``python -I -m belljar.sandbox.probes [SECONDS]``: try every feature and print what came of it as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress

from .. import syscalls
from ..launch.guard import kill_all
from . import filters, namespaces, processes, programs
from .forked import Probe, run_all

PROBES: dict[str, Probe] = {
    "userns": namespaces.userns,
    "pidns": namespaces.pidns,
    "netns": namespaces.netns,
    "ipcns": namespaces.ipcns,
    "mountns": namespaces.mountns,
    "utsns": namespaces.utsns,
    "cgroupns": namespaces.cgroupns,
    "empty-root": namespaces.empty_root,
    "capabilities": processes.capabilities,
    "no-new-privs": filters.no_new_privs,
    "seccomp": filters.seccomp,
    "seccomp-tsync": filters.seccomp_tsync,
    "seccomp-listener": filters.seccomp_listener,
    "landlock": filters.landlock,
    "pidfd": processes.pidfd,
    "passpidfd": processes.passpidfd,
    "memfd-seal": processes.memfd_seal,
    "proc": processes.proc,
    "rlimits": processes.rlimits,
    "bwrap": programs.bwrap,
    "chrome-sandbox": programs.chrome,
}


def main() -> None:
    """Run all probes for at most the seconds of the first argument."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a host may ignore it, and what is ignored stays so over an exec
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    outcomes = run_all(PROBES, float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
    reap_strays()
    json.dump(outcomes, sys.stdout)


def reap_strays() -> None:
    """Leave no process of a probe to pid 1, which in a container may be a host that waits for no stranger."""
    with suppress(OSError):  # neither /proc nor pidfds are sure to be there; then the dead ones at least
        kill_all()
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
