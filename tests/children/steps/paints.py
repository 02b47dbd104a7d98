"""A plugin that paints over an X connection which was opened before its seal, and looks where it should not."""

from __future__ import annotations

from Xlib import X, error
from Xlib.display import Display
from Xlib.ext import xtest
from Xlib.xobject.drawable import Window

from belljar import handed


def painted(display: Display) -> bytes:
    """Paint a sky with a sun and a hill into a window, and return its pixels as the server has them."""
    screen = display.screen()
    window = screen.root.create_window(0, 0, 80, 60, 0, screen.root_depth)
    picture = window.create_pixmap(80, 60, screen.root_depth)
    context = picture.create_gc(foreground=0x87CEEB)
    picture.fill_rectangle(context, 0, 0, 80, 60)
    context.change(foreground=0xFFD700)
    picture.fill_arc(context, 50, 5, 20, 20, 0, 360 * 64)
    context.change(foreground=0x228B22)
    picture.fill_poly(context, X.Complex, X.CoordModeOrigin, [(0, 59), (30, 25), (80, 59)])
    window.change_attributes(background_pixmap=picture)
    pixels: bytes = picture.get_image(0, 0, 80, 60, X.ZPixmap, 0xFFFFFFFF).data
    window.destroy()
    display.sync()
    return pixels


class Paints:
    """Paints, looks and types."""

    def paint(self) -> bytes:
        return painted(handed("graphics-x11"))

    def connect(self, number: int) -> bytes:
        """Paint over a connection that is made now."""
        return painted(Display(f"unix:{number}"))

    def extensions(self) -> list[str]:
        return list(handed("graphics-x11").list_extensions())

    def look(self, window: int) -> str:
        """Read a pixel of another client's window, by its number and on the screen."""
        display: Display = handed("graphics-x11")
        its: Window = display.create_resource_object("window", window)
        try:
            data: bytes = its.get_image(0, 0, 1, 1, X.ZPixmap, 0xFFFFFFFF).data
            display.screen().root.get_image(0, 0, 1, 1, X.ZPixmap, 0xFFFFFFFF)
        except error.BadAccess:
            return "refused"
        return data[:3].hex()

    def listen(self) -> str:
        """Take the keyboard from whoever has the focus, and give it back."""
        display: Display = handed("graphics-x11")
        try:
            display.screen().root.grab_keyboard(True, X.GrabModeAsync, X.GrabModeAsync, X.CurrentTime)
        except error.BadAccess:
            return "refused"
        display.ungrab_keyboard(X.CurrentTime)
        display.sync()
        return "listens"

    def type(self, key: int) -> str:
        """Press a key for whoever has the focus."""
        display: Display = handed("graphics-x11")
        if display.query_extension("XTEST") is None:
            return "no XTEST"
        xtest.fake_input(display, X.KeyPress, key)
        xtest.fake_input(display, X.KeyRelease, key)
        display.sync()
        return "typed"
