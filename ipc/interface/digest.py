"""A short name for what a method declares. Apart, because hashlib loads OpenSSL, which no child should have to."""

from __future__ import annotations

import hashlib

import msgspec

from .declared import Declared
from .describe import described


def digest(method: Declared) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of *method*'s description, equal for equal methods."""
    return hashlib.sha256(msgspec.msgpack.encode(described("", {method.name: method}))).hexdigest()[:16]
