"""Programs that answer in place of a child: ``rogue.py MODE``, the control channel is fd 3. Each breaks one rule."""

from __future__ import annotations

import array
import os
import signal
import socket
import struct
import sys

import msgspec

from belljar.child.stages import run_executed
from belljar.ipc.messages import HIGHEST, LOWEST, Hello, Landlock, Ready, Sealed, encode
from belljar.sandbox.base import Birth
from belljar.sandbox.policy import Policy

HELLO = encode(Hello(LOWEST, HIGHEST, os.getpid()))
control = socket.socket(fileno=3)


def grandchild() -> None:
    if os.fork() == 0:
        control.send(HELLO)
        signal.pause()


def thief() -> None:
    """A process that was forked before and has no copy of the channel gets it over another socket."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        control.close()
        _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
        socket.socket(fileno=fds[0]).send(HELLO)
        signal.pause()
    socket.send_fds(ours, [b"x"], [3])


def twice() -> None:
    control.send(HELLO)
    control.send(HELLO)


def truncated() -> None:
    control.send(HELLO + bytes(70_000))


def stuffed() -> None:
    rights = array.array("i", [0] * 250)
    control.sendmsg([HELLO], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def one_fd() -> None:
    control.sendmsg([HELLO], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])


def too_old() -> None:
    control.send(encode(Hello(LOWEST - 1, LOWEST - 1, os.getpid())))


def too_new() -> None:
    """Its hello has fields that nobody knows yet."""
    control.send(msgspec.msgpack.encode(["hello", HIGHEST + 1, HIGHEST + 3, os.getpid(), {}, {"what": ["this", "is"]}]))


def other_message() -> None:
    control.send(encode(Ready((), {})))


def garbage() -> None:
    control.send(b"\xc1 no msgpack")


def empty() -> None:
    control.send(b"")


def forged() -> None:
    """Only root can: claim to be the process that launched this one."""
    ucred = struct.pack("iII", os.getppid(), os.getuid(), os.getgid())
    control.sendmsg([HELLO], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, ucred)])


def never() -> None:
    pass


def hangs_up() -> None:
    control.close()
    os._exit(3)


def liar() -> None:
    """Everything is right but the claimed pid."""
    control.send(encode(Hello(LOWEST, HIGHEST, 1)))


def other_uid() -> None:
    """Only root can become another user, who then cannot claim to be root any more."""
    os.setuid(65534)
    try:
        ucred = struct.pack("iII", os.getpid(), 0, 0)
        control.sendmsg([HELLO], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, ucred)])
    except PermissionError:
        control.send(HELLO)


def fork_seals() -> None:
    """The hello is right, but a fork of this process goes on in its place."""
    control.send(HELLO)
    if os.fork() == 0:
        control.send(encode(Sealed({})))


def boasts_of_landlock() -> None:
    """The hello is right, but no backend told it to use landlock."""
    control.send(HELLO)
    control.send(encode(Sealed({}, Landlock(7, ("file", "all-threads"), (), True))))


def garbage_after_hello() -> None:
    control.send(HELLO)
    control.send(b"\xc1 no msgpack")


def stuffed_after_hello() -> None:
    control.send(HELLO)
    rights = array.array("i", [0] * 250)
    control.sendmsg([encode(Sealed({}))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def below() -> None:
    """Be a helper: the child proper is a fork of this process."""
    if os.fork() == 0:
        run_executed(Birth("none", "below", Policy(), {}), 3)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    signal.pause()
