"""Typing for the user. The warm-up of each attacked child opens a terminal where it can, and keeps it open."""

from __future__ import annotations

import errno
import os
import select

from .book import Kept, Target, attack
from .calls import buffer, call

TERMINAL = "terminal ioctl"
_TIOCSTI, _TIOCLINUX, _TIOCSCTTY, _TIOCNOTTY, _TIOCSETD = 0x5412, 0x541C, 0x540E, 0x5422, 0x5423


def _terminal() -> int:
    return int(os.environ.get("BELLJAR_ATTACK_TERMINAL", "0"))


def _type(request: int) -> None:
    """Put a line into the terminal's input; without a terminal, ENOTTY is the kernel's own answer."""
    try:
        call("ioctl", _terminal(), request, buffer(b"\n"))
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        return
    if not select.select([_terminal()], [], [], 0)[0]:
        raise Kept("nothing typed")
    os.read(_terminal(), 16)


@attack("type for the user, TIOCSTI", TERMINAL)
def type_text(target: Target) -> None:
    _type(_TIOCSTI)


@attack("type for the user, TIOCSTI with high bits", TERMINAL)
def type_text_high(target: Target) -> None:
    _type(_TIOCSTI | 1 << 32)


@attack("paste for the user, TIOCLINUX", TERMINAL)
def paste(target: Target) -> None:
    """Only a console pastes; another terminal says ENOTTY, and has been reached."""
    try:
        call("ioctl", _terminal(), _TIOCLINUX, buffer(b"\x02"))
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise


@attack("take the terminal, TIOCSCTTY", TERMINAL)
def take(target: Target) -> None:
    try:
        call("ioctl", _terminal(), _TIOCSCTTY, 0)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise


@attack("change the line discipline, TIOCSETD", TERMINAL)
def discipline(target: Target) -> None:
    try:
        call("ioctl", _terminal(), _TIOCSETD, buffer(bytes(4)))  # to N_TTY, which it has
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise


@attack("open the terminal, /dev/tty", "read a file")
def open_terminal(target: Target) -> None:
    os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
