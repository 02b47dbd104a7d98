"""The errors of the channel, and the root of all errors of belljar."""

from __future__ import annotations

MAX_REASON = 512
"""Characters of what a decoder says."""


def reason(error: BaseException) -> str:
    """Return what a decoder says of what the other side sent, as one short line that no terminal obeys.

    msgspec quotes what does not fit, as it came and however long it is.
    """
    text = str(error)
    if len(text) > MAX_REASON:
        text = f"{text[: MAX_REASON // 2]} ... {text[-MAX_REASON // 2 :]}"  # at the end is the place
    return printable(text)


def printable(text: str, keep: str = "") -> str:
    """Return *text* with each character that is not printable escaped, except for those in *keep*.

    Control characters of a terminal, C1 codes and bidirectional overrides are among them: what a child said may be
    shown to a person only after this.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


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


class CallError(BelljarError):
    """A call gave no result; the child lives on unless the subclass says otherwise."""


class InterfaceMismatch(CallError):
    """The two sides do not mean the same interface; the text names the first difference."""


class UnknownMethod(CallError, AttributeError):
    """The other side, or the interface, has no such public method.

    An `AttributeError` too, for one that is asked of a proxy: ``hasattr`` and the like work as on any object.
    """


class ArgumentError(CallError):
    """The arguments do not fit the method."""


class ResultError(CallError):
    """The result cannot be sent, or does not fit the declared type."""


class CallTimeout(CallError):
    """The call took longer than its timeout. If the child does not end it soon, its process type says what happens."""


class CallCancelled(CallError):
    """The other side ended the call because it was told to, or because it shuts down."""


class StreamBroken(CallError):
    """A stream ended before its time: whoever writes it failed. The text says how."""


class RemoteError(CallError):
    """The plugin raised; everything here is text that the child wrote and is not to be trusted, `printable` though.

    ``refused`` names the imports and files that the seal refused during the call, also those that a library hid.
    """

    def __init__(self, text: str, *, remote_type: str, remote_traceback: str, refused: tuple[str, ...]) -> None:
        super().__init__(text)
        self.remote_type = remote_type
        self.remote_traceback = remote_traceback
        self.refused = refused
        if remote_traceback:  # shown below our own, PEP 678
            self.add_note(f"In the child:\n{remote_traceback}")


class ServiceRefused(BelljarError):
    """Raise it in a service to say no; the plugin gets the text."""


class ServiceError(Exception):
    """A service gave no answer: it is not offered, was called wrongly or at the wrong time, refused, or failed."""
