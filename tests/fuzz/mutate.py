"""Changes to an input that leave it close to what a program would say.

What a fuzzer does to bytes hardly ever gets past a decoder of msgpack. So most changes are made to what the bytes mean:
an element goes, comes twice, comes from another input, or gets one of the values at which rules turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from belljar.ipc.messages import UNDECODABLE

INTEGERS = (
    0,
    1,
    2,
    3,
    -1,
    15,
    16,
    17,
    63,
    64,
    65,
    255,
    256,
    257,
    1023,
    1024,
    1025,
    4096,
    65_536,
    1 << 20,
    (1 << 20) + 1,
)
LARGE = (2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**31), -(2**63))
ODD: tuple[Any, ...] = (None, True, False, 0.0, -1.5, float("inf"), float("nan"), "", b"", [], {}, "\x1b[2J\n", b"\xc0")

MOST_REPEATED = 300

Slot = tuple[Any, Any]
"""A container and the key of one of its elements."""


def mutated(data: bytes, chance: Random, others: Sequence[bytes], of_bytes: Callable[[bytes], bytes]) -> bytes:
    """Return *data* changed: what it means, or by *of_bytes* its bytes. *others* give elements away."""
    tree = _decoded(data)
    if tree is None or chance.random() < 0.1:
        return of_bytes(data)
    root = [tree]
    for _ in range(chance.choice((1, 1, 2, 3, 5))):
        _change(root, chance, others, of_bytes)
    try:
        return msgspec.msgpack.encode(root[0] if root else None)
    except (OverflowError, TypeError, ValueError):
        return of_bytes(data)


def damaged(data: bytes, chance: Random) -> bytes:
    """Return *data* with some bytes changed, cut or added: what libFuzzer does better, where it is there."""
    begin = chance.randint(0, len(data))
    end = min(len(data), begin + chance.choice((0, 0, 1, 2, 8)))
    return data[:begin] + chance.randbytes(chance.choice((0, 1, 1, 2, 4))) + data[end:]


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(data)
    except UNDECODABLE:
        return None


def _slots(tree: Any) -> list[Slot]:
    """Return where the elements of *tree* are, and theirs."""
    found: list[Slot] = []
    waiting = [tree]
    while waiting:
        container = waiting.pop()
        for key in range(len(container)) if isinstance(container, list) else list(container):
            found.append((container, key))
            if isinstance(container[key], (list, dict)):
                waiting.append(container[key])
    return found


def _change(root: list[Any], chance: Random, others: Sequence[bytes], of_bytes: Callable[[bytes], bytes]) -> None:
    slots = _slots(root)
    if not slots:
        return
    container, key = chance.choice(slots)
    how = chance.randrange(8)
    if how < 3:
        container[key] = _changed(container[key], chance, others, of_bytes)
    elif how == 3:
        container[key] = _lent(chance, others)
    elif how == 4:
        container[key] = chance.choice(INTEGERS + LARGE + ODD)
    elif isinstance(container, dict):
        container[chance.choice(("", "x" * 300, chance.choice(INTEGERS)))] = container.pop(key)
    elif how == 5:
        del container[key]
    elif how == 6:
        times = chance.choice((1, 1, 1, 2, 3, MOST_REPEATED if len(slots) < 100 else 1))
        container[key:key] = [container[key]] * times
    else:
        container.insert(key, _lent(chance, others))


def _changed(value: Any, chance: Random, others: Sequence[bytes], of_bytes: Callable[[bytes], bytes]) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + chance.choice((-1, 1, 8, 64, -value, value, chance.choice(INTEGERS + LARGE)))
    if isinstance(value, bytes):
        return mutated(value, chance, others, of_bytes) if value else chance.randbytes(3)
    if isinstance(value, str):
        return chance.choice((value[:-1], value + "x", value * 2, "x" * chance.choice(INTEGERS[:16])))
    if isinstance(value, list):
        return chance.sample(value, len(value))
    return value


def _lent(chance: Random, others: Sequence[bytes]) -> Any:
    """Return an element of another input."""
    slots = _slots([_decoded(chance.choice(others))])
    container, key = chance.choice(slots)
    return msgspec.msgpack.decode(msgspec.msgpack.encode(container[key]))  # a copy
