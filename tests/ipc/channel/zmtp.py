"""A socket without libzmq, which can break the rules of ZMTP 3.1 (rfc.zeromq.org/spec/37)."""

from __future__ import annotations

import socket
import struct

MORE, LONG, COMMAND = 1, 2, 4


def dial(endpoint: str, kind: bytes = b"DEALER") -> socket.socket:
    """Return a connection on which frames can be sent: greeted, and ready."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(endpoint.removeprefix("ipc://"))
    sock.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    sock.recv(64, socket.MSG_WAITALL)
    sock.sendall(frame(b"\x05READY" + _property(b"Socket-Type", kind) + _property(b"Identity", b""), COMMAND))
    return sock


def frame(body: bytes, flags: int = 0) -> bytes:
    """Return *body* as a frame."""
    size = struct.pack(">Q", len(body)) if len(body) > 255 else bytes([len(body)])
    return bytes([flags | (LONG if len(body) > 255 else 0)]) + size + body


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
