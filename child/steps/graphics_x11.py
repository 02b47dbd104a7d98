"""The step ``graphics-x11``: a connection to an X server, opened before the seal and handed on.

**What it costs.** An X server does not keep its clients apart. Over a connection that it *trusts*, a sealed plugin
reads the pixels of every window and what is typed into each, and can type itself (XTEST): whoever has a terminal open
has then given it a shell. Nothing of the seal is in the way, for all this is bytes on a socket that is open. So the
step asks the server, and refuses a trusted connection unless the configuration says ``trusted = true``. For an
*untrusted* one there is the server's SECURITY extension: of other clients' windows it gives neither pixels nor keys,
and it offers hardly any extension (XTEST, SHM, GLX and RENDER are gone). Its code is old and few look at it, and a
server has much code that reads what clients send, so X is a wide door even then. Better give a child a server of its
own (Xvfb, Xephyr, Xwayland), or pixels in memory (``graphics-egl``).

    xauth -f plugin.xauth generate :0 . untrusted timeout 0     # makes the key for ``authority``

Facts (each has a test): the connection is a unix socket that the policy need not know of, and all of X works on it
after the seal. No backend hides the server's socket before the seal; bubblewrap shows the one that is named here. A
network namespace of one's own keeps only the server's abstract name away, which this step does not use. In a uts
namespace the host's name is another, by which libraries look their key up; here the number of the display is enough.
Neither ``DISPLAY``, ``XAUTHORITY`` nor ``HOME`` is asked. python-xlib has no thread, and no import is left after the
step has drawn once. The connection lives as long as the server, and nothing can open it anew.
"""

from __future__ import annotations

import os
import re
import socket as sockets
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..step import StepError, early_init

if TYPE_CHECKING:
    from Xlib.display import Display

_SOCKET: Final = re.compile(r"/tmp/\.X11-unix/X(\d+)")
_KIND: Final = b"MIT-MAGIC-COOKIE-1"


@early_init(needs=["files", "local-sockets"], leaves={"fds": ["socket"]})
def graphics_x11(socket: Path, authority: Path | None = None, trusted: bool = False) -> Display:
    """Connect to the server that listens at *socket* (``/tmp/.X11-unix/X0``), with its key from the file *authority*.

    *trusted* accepts a connection over which the plugin can reach every other client of the server. Hands on an
    `Xlib.display.Display`.
    """
    from Xlib.display import Display
    from Xlib.error import DisplayError

    match = _SOCKET.fullmatch(str(socket))
    if match is None:
        raise StepError(f"{socket} is not where an X server listens, which is /tmp/.X11-unix/X and a number")
    number = match[1]
    with _only_key(_key(authority, number) if authority else b"", number):
        try:
            display = Display(f"unix:{number}")
        except (DisplayError, OSError) as error:
            raise StepError(f"could not connect to the X server at {socket}: {error}") from None
    if not trusted and _is_trusted(display):
        raise StepError(
            f"the X server at {socket} trusts this connection, so that the sealed plugin could read and type into "
            "every window; give it an untrusted key as authority (xauth generate), or accept it with trusted = true"
        )
    _draw(display)
    return display


def _key(authority: Path, number: str) -> bytes:
    """Return the key for the display *number*, of whatever host: the file may have been written under another name."""
    from Xlib.xauth import Xauthority

    for _, _, display, kind, key in Xauthority(str(authority)).entries:
        if kind == _KIND and display in (number.encode(), b""):
            return bytes(key)
    raise StepError(f"{authority} has no {_KIND.decode()} for the display :{number}")


@contextmanager
def _only_key(key: bytes, number: str) -> Iterator[None]:
    """Have python-xlib find *key*, or none at all, and not what stands in the environment or in a home."""
    host = sockets.gethostname().encode()
    entry = b"".join(struct.pack(">H", len(part)) + part for part in (host, number.encode(), _KIND, key))
    before = os.environ.get("XAUTHORITY")
    with open(os.memfd_create("authority"), "wb") as file:
        file.write(struct.pack(">H", 256) + entry)  # FamilyLocal; Xsecurity(7), libXau's Xauth.h
        file.flush()
        os.environ["XAUTHORITY"] = f"/proc/self/fd/{file.fileno()}" if key else "/dev/null/none"
        try:
            yield
        finally:
            del os.environ["XAUTHORITY"]
            if before is not None:
                os.environ["XAUTHORITY"] = before


def _is_trusted(display: Display) -> bool:
    """Ask for a pixel of the screen: BadAccess is the answer to one that is not trusted, and nothing else is."""
    from Xlib import X
    from Xlib.error import BadAccess, XError

    try:
        display.screen().root.get_image(0, 0, 1, 1, X.ZPixmap, 0xFFFFFFFF)
    except XError as error:
        return not isinstance(error, BadAccess)
    return True


def _draw(display: Display) -> None:
    """Take the ways of python-xlib once: a window, a picture in it, its pixels, an error."""
    from Xlib import X
    from Xlib.error import CatchError

    screen = display.screen()
    window = screen.root.create_window(0, 0, 8, 8, 0, screen.root_depth)
    picture = window.create_pixmap(8, 8, screen.root_depth)
    context = picture.create_gc(foreground=screen.black_pixel)
    picture.fill_rectangle(context, 0, 0, 8, 8)
    picture.get_image(0, 0, 1, 1, X.ZPixmap, 0xFFFFFFFF)
    ignored = CatchError()
    window.change_attributes(event_mask=X.ExposureMask)
    window.copy_area(context, picture, 0, 0, 8, 8, 0, 0, onerror=ignored)
    for made in (context, picture):
        made.free()
    window.destroy()
    display.sync()
    while display.pending_events():
        display.next_event()
