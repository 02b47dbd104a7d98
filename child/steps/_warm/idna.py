"""Domain names. Python's codec imports ``stringprep``; the package idna its tables for UTS 46, when first asked."""

from __future__ import annotations

import importlib.util

NAMES = ("bücher.example", "straße.example", "例え.テスト", "мир.example")


def warm() -> None:
    """Encode and decode names of several scripts, with and without the mapping of UTS 46, and one that is refused."""
    for name in NAMES:
        name.encode("idna").decode("idna")
    if importlib.util.find_spec("idna") is not None:
        _package()


def _package() -> None:
    import idna
    import idna.codec

    for name in NAMES:
        idna.decode(idna.encode(name.upper(), uts46=True))
        name.encode("idna2008")
    try:
        idna.encode("a..b")
    except idna.IDNAError as error:
        str(error)
