"""``python -I -m belljar.sandbox.probes [SECONDS]``: try every feature and print what came of it as JSON."""

from __future__ import annotations

import json
import sys

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
    json.dump(run_all(PROBES, float(sys.argv[1]) if len(sys.argv) > 1 else 5.0), sys.stdout)


if __name__ == "__main__":
    main()
