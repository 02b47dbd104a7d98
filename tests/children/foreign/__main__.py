"""A child without anything of belljar, made from docs/protocol.md: ``python -I foreign exec CONTROL_FD BIRTH_FD``.

It keeps to the standard library, and so much of it as a child in another language would have to write, too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import seal
from peer import Peer
from plugin import METHODS, description
from wire import HostGone, Wire, read_sealed

MAX_BIRTH = 1 << 20


def main(control_fd: int, birth_fd: int) -> None:
    """Take the stages, then answer."""
    wire = Wire(control_fd)
    birth = json.loads(read_sealed(birth_fd, MAX_BIRTH))
    began = time.perf_counter()
    seal.confine_early()  # 3
    os.environ.update(birth["env"])
    took = {"confine early": (time.perf_counter() - began) * 1000}
    wire.send(["hello", 1, 1, os.getpid(), took, "a field of a younger version"])  # 4
    configured, _ = wire.receive()  # 5
    tag, version, _outer_pid, bpf, listener, steps, early, max_payload, *_ = configured
    assert (tag, version, steps, early) == ("configure", 1, [], None)
    if bpf:  # 7
        fd = seal.install(bpf, listener=listener)
        if listener:
            wire.send(["listening"], (fd,))
            os.close(fd)
    wire.send(["sealed", {}, None])
    load(wire)  # 9
    wire.send(["ready", list(METHODS), {}, True, description()])  # 10
    Peer(wire, METHODS, max_payload).serve()


def load(wire: Wire) -> None:
    """Take the plugin's bundle, of which this child has no use: its plugin is built in."""
    loaded, fds = wire.receive()
    tag, plugin, services, descriptions, *_ = loaded
    assert tag == "load"
    assert len(services) == len(descriptions)
    bundle: list[Any] = [read_sealed(fd, 1 << 30) for fd in fds]
    assert len(bundle) == (plugin is not None)


if __name__ == "__main__":
    try:
        main(int(sys.argv[2]), int(sys.argv[3]))
    except HostGone:
        sys.exit(0)
