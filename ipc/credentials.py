"""Who sent a message, as the kernel says it.

A number that a process writes into a message proves nothing: inside a pid namespace it is another number, and a
hostile process writes what it likes. So the receiving socket asks the kernel (unix(7), SO_PASSCRED) to attach to
*every* message the pid, uid and gid of its sender, translated into the receiver's own namespaces, and, since
Linux 6.5, a pidfd of it (SO_PASSPIDFD). What the essay's reader must know:

* The option acts when a message is *received* by that socket but the credentials are taken when it is *sent*. A
  message sent before the option is on carries none, so it is set before any process that could send exists.
* pid 0 means "the sender is in no namespace that you can see": such a message is refused, never looked up.
* A sender may attach credentials of its own choice. The kernel accepts a foreign pid only from a process with
  CAP_SYS_ADMIN over its own pid namespace's owner: a sealed child has no capability at all. Root without any
  confinement (the ``none`` backend) can lie, and SCM_PIDFD then follows the lie; SECURITY.md says so.
* SO_PEERCRED is useless here: on a socketpair it names the process that called socketpair(2), which is the host.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

SO_PASSPIDFD = 76
SCM_PIDFD = 4
UCRED = struct.Struct("iII")


class Credentials(NamedTuple):
    """A sender as the kernel names it in the receiver's namespaces."""

    sender_pid: int
    uid: int
    gid: int


def request_credentials(sock: socket.socket) -> None:
    """Make the kernel attach the sender's credentials to all that *sock* receives. See unix(7)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def request_pidfds(sock: socket.socket, on: bool) -> bool:
    """Make the kernel attach a pidfd of the sender, or stop it; return whether this kernel can (Linux 6.5).

    The credentials of every message are enough once a child is known, and a pidfd a message is an fd to close,
    so the host asks for pidfds only until the hello.
    """
    if "passpidfd" in map(str.strip, os.environ.get("BELLJAR_FAKE_MISSING", "").split(",")):
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, int(on))
    except OSError:
        return False
    return True
