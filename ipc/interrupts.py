"""Ctrl-C while the main thread calls: it ends the call where that waits, and never in the middle of a message.

Python raises KeyboardInterrupt between any two steps of the main thread. After half a call sent or half an answer read
nobody would know what the other side knows: of programs interrupted in a loop of quick calls, every fourth lost its
child. So another handler stands in for Python's own as long as a call lasts, which costs 0.5 us. KeyboardInterrupt
passes where a wait is interrupted, and in what is not ours, such as a service; else the next wait raises it, or the end
of the call. Where the application has a handler of its own, or none, nothing is changed.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # `signal` wraps all in enums, which takes longer than the rest
import threading
from types import FrameType

WAITS = frozenset(
    {"SocketChannel.wait_receive", "ZmqChannel._wait", "SharedPeer._await_channel", "BlockingPeer._follow"}
)
"""Where a thread of ours waits and has taken nothing yet. A long wait begins there with a look at `came`: what comes
later is raised at once, so nothing comes in between."""

_OURS = __name__.partition(".")[0] + "."
_SIGINT = int(_signal.SIGINT)
_default = _signal.default_int_handler
_main = threading.main_thread().ident
came = False
"""Whether there was a Ctrl-C that was held back."""


def hold() -> bool:
    """Begin to hold Ctrl-C back; return whether this did, so that `let_go` is to be called."""
    if threading.get_ident() != _main or _signal.getsignal(_SIGINT) is not _default:
        return False
    _signal.signal(_SIGINT, _interrupted)
    return True


def let_go() -> None:
    """Let the next Ctrl-C come as it likes. Raises KeyboardInterrupt if one was held back."""
    _signal.signal(_SIGINT, _default)
    if came:
        raise_held()


def raise_held() -> None:
    """Raise KeyboardInterrupt in the main thread if there was a Ctrl-C that was held back."""
    global came  # noqa: PLW0603 - of the main thread alone
    if came and threading.get_ident() == _main:
        came = False
        raise KeyboardInterrupt


def _interrupted(number: int, frame: FrameType | None) -> None:
    global came  # noqa: PLW0603
    while frame is not None and _module(frame).startswith("zmq."):
        frame = frame.f_back  # who sends or receives is who asked pyzmq to
    if frame is None or not _module(frame).startswith(_OURS) or frame.f_code.co_qualname in WAITS:
        came = False
        raise KeyboardInterrupt
    came = True


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))
