"""Sockets of every family, and what can be asked of those that are there."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from .book import Kept, Target, attack
from .calls import buffer, call, reaches

INET, PATH, ABSTRACT, VSOCK = "inet socket", "unix path socket", "abstract socket", "vsock"
_AF_ALG, _AF_VSOCK = 38, 40


@attack("connect to the host by TCP", INET)
def tcp(target: Target) -> None:
    with socket.socket(socket.AF_INET) as sock:
        sock.connect(("127.0.0.1", target.tcp))


@attack("send to the host by UDP", INET)
def udp(target: Target) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(target.word.encode(), ("127.0.0.1", target.udp))


@attack("connect to the host by TCP over IPv6", INET)
def tcp6(target: Target) -> None:
    with socket.socket(socket.AF_INET6) as sock:
        sock.connect(("::ffff:127.0.0.1", target.tcp))


@attack("listen for TCP", INET)
def listen(target: Target) -> None:
    with socket.socket(socket.AF_INET) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()


attack("make an inet socket, high bits in the family", INET)(reaches("socket", 2 | 1 << 32, 1, 0))
attack("make an MPTCP socket", INET)(reaches("socket", 2, 1, 262))
attack("make a raw socket", INET, needs_root=True)(reaches("socket", 2, 3, 1))
attack("make a packet socket", INET, needs_root=True)(reaches("socket", 17, 3, 0))
attack("make a socket for routes, netlink", INET)(reaches("socket", 16, 3, 0))
attack("make a socket for kernel events, netlink", layers=("seccomp",))(reaches("socket", 16, 3, 15))
attack("make a socket to the kernel's ciphers, AF_ALG", layers=("seccomp",))(reaches("socket", _AF_ALG, 5, 0))
attack("make a vsock", VSOCK)(reaches("socket", _AF_VSOCK, 1, 0))
attack("make a vsock of datagrams", VSOCK)(reaches("socket", _AF_VSOCK, 2, 0, own=(errno.ENODEV,)))


@attack("connect to a socket with a path", PATH)
def stream(target: Target) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{target.folder}/stream")


@attack("connect to a socket in a folder that the policy may name", PATH)
def given_stream(target: Target) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{target.shared}/stream")


@attack("send to a socket with a path", PATH)
def datagram(target: Target) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(target.word.encode(), f"{target.folder}/datagram")


@attack("send to a socket with a path over half a pair", PATH)
def datagram_pair(target: Target) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.sendto(target.word.encode(), f"{target.folder}/datagram")


@attack("connect to an abstract socket", ABSTRACT)
def abstract(target: Target) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0" + target.abstract)


@attack("send to an abstract socket over half a pair", ABSTRACT)
def abstract_pair(target: Target) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.sendto(target.word.encode(), "\0" + target.abstract + "-datagram")


@attack("have an abstract name that the host can find", ABSTRACT)
def bind_abstract(target: Target) -> None:
    """Bound until this process ends: the host looks for the name."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("\0" + target.word + "-bound")
    sock.listen()
    _KEPT.append(sock)


_KEPT: list[socket.socket] = []


@attack("make a pair of datagram sockets", policy="forks")
def pair_of_datagrams(target: Target) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.close()
    theirs.close()


def _control() -> socket.socket:
    return socket.socket(fileno=os.dup(_control_fd()))


def _control_fd() -> int:
    """Return the fd of the one SEQPACKET socket that is there."""
    for fd in range(3, 256):
        try:
            with socket.socket(fileno=os.dup(fd)) as sock:
                if sock.type == socket.SOCK_SEQPACKET:
                    return fd
        except OSError:
            continue
    raise Kept("no socket")


@attack("get a handle on the host, SO_PEERPIDFD")
def peer_pidfd(target: Target) -> None:
    with _control() as sock:
        os.close(int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, 77, 4), "little"))


@attack("have handles on the host sent along, SO_PASSPIDFD")
def pass_pidfd(target: Target) -> None:
    with _control() as sock:
        sock.setsockopt(socket.SOL_SOCKET, 76, 1)
        sock.setsockopt(socket.SOL_SOCKET, 76, 0)


@attack("put a program on the control channel, SO_ATTACH_FILTER")
def attach_filter(target: Target) -> None:
    accept_all = buffer(struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF))
    program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(accept_all))
    with _control() as sock:
        sock.setsockopt(socket.SOL_SOCKET, 26, program)
        sock.setsockopt(socket.SOL_SOCKET, 27, 0)  # SO_DETACH_FILTER


@attack("forge the credentials of a message", layers=("capabilities",), policy="forks", needs_root=True)
def forge(target: Target) -> None:
    """Over a socket of one's own: the kernel's answer is the same on the control channel, where it ends the child."""
    _forge(target.host_pid, os.getuid())


@attack("forge another user in a message", layers=("capabilities",), policy="forks", needs_root=True)
def forge_user(target: Target) -> None:
    _forge(os.getpid(), 12345)


def _forge(pid: int, uid: int) -> None:
    credentials = struct.pack("iII", pid, uid, os.getgid())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])


def _ifconf(target: Target) -> None:
    with _control() as sock:
        call("ioctl", sock.fileno(), 0x8912, buffer(bytes(16)))


attack("ask a socket for the machine's interfaces, SIOCGIFCONF", layers=("seccomp", "net-namespace"))(_ifconf)
