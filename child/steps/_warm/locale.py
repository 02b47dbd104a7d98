"""Languages. Python finds a codec by importing its module, so that after the seal an encoding is "unknown" unless it
was used before: 120 modules, 0.15 s, 5 MB, which a zygote pays once.
"""

from __future__ import annotations

import calendar
import codecs
import encodings
import gettext
import locale
import pkgutil
import time

_ELSEWHERE = frozenset(("mbcs", "oem"))
"""Encodings of Windows."""


def warm() -> None:
    """Know every encoding, and format and parse numbers and dates as the locale has them."""
    for module in pkgutil.iter_modules(encodings.__path__):
        if module.name not in _ELSEWHERE:
            _know(module.name)
    locale.getlocale()
    locale.getpreferredencoding(do_setlocale=False)
    locale.format_string("%.2f", 12345.678, grouping=True)
    locale.strxfrm("a")
    list(calendar.month_name)
    time.strptime(time.strftime("%c"), "%c")
    gettext.gettext("text")


def _know(name: str) -> None:
    try:
        codecs.lookup(name)
    except LookupError:  # a module of `encodings` that is no codec, such as its list of aliases
        return
