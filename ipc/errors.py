"""The errors of the channel, and the root of all errors of belljar."""

from __future__ import annotations


class BelljarError(Exception):
    """The base of every error that belljar raises on purpose."""


class ProtocolError(BelljarError):
    """A message broke the rules of the channel; the two subclasses say whose fault it was."""


class LocalProtocolError(ProtocolError):
    """This side asked the channel for something that it cannot do, such as an oversized message."""


class PeerProtocolError(ProtocolError):
    """The other side broke the rules. A host kills the child that did."""


class HelloError(PeerProtocolError):
    """A hello came from the wrong process, was malformed, or did not come in time."""
