"""A plugin that talks over sockets which were connected before its seal, or makes its own."""

from __future__ import annotations

import zmq

from belljar import handed


class Talks:
    """Sends, receives, and gives up after a while."""

    def ask(self, name: str, parts: list[bytes]) -> list[bytes]:
        socket: zmq.Socket[bytes] = handed("zmq")[name]
        socket.send_multipart(parts)
        return socket.recv_multipart()

    def ask_alone(self, name: str, milliseconds: int) -> str:
        """Wait for an answer from a peer that is gone."""
        socket: zmq.Socket[bytes] = handed("zmq")[name]
        socket.rcvtimeo = milliseconds
        try:
            socket.recv()
        except zmq.Again:
            return "again"
        return "answered"

    def connect_late(self, endpoint: str, milliseconds: int) -> str:
        """Connect a socket of a new context, and ask."""
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.rcvtimeo = milliseconds
            socket.connect(endpoint)
            socket.send(b"?")
            try:
                socket.recv()
            except zmq.Again:
                return "nobody answered"
        return "answered"
