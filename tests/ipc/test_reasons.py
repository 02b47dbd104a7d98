"""What a decoder says of another side's words."""

from __future__ import annotations

from typing import Literal

import pytest

from belljar.ipc.errors import MAX_REASON, PeerProtocolError
from belljar.ipc.frames import decode_from_child
from belljar.ipc.interface import ValueUnfit, codec


def test_what_does_not_fit_is_quoted_shortly() -> None:
    """It reaches a person: it is short, however long what came, and nothing in it is obeyed by a terminal."""
    with pytest.raises(PeerProtocolError) as broken:
        decode_from_child(b"\x91\x92\xda\xf0\x00" + b"\x1b[2J" * 0x3C00 + b"\x01")
    with pytest.raises(ValueUnfit) as unfit:
        codec(Literal["right"]).decode(b"\xdb\x00\x10\x00\x00" + b"\x1b[2J" * 0x40000)
    for error in (broken.value, unfit.value):
        assert "[2J" in str(error)
        assert len(str(error)) < 3 * MAX_REASON
        assert str(error).isprintable()
