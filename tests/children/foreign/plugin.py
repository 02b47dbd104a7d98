"""What this child answers, and how it describes that."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from describe import Table
from peer import Call, Data, Waiting

hints: list[str] = []


def add(call: Call, a: int, b: int) -> int:
    """Return a sum."""
    return a + b


def join(call: Call, words: list[str]) -> str:
    """Return one long text."""
    return "".join(words)


def fail(call: Call, text: str) -> None:
    """Raise."""
    raise ValueError(text)


def hint(call: Call, text: str) -> None:
    """Remember a text; nobody is told."""
    hints.append(text)


def hinted(call: Call) -> list[str]:
    """Return what it was told, and log it."""
    call.peer.send(["log", "ideas", 30, f"{len(hints)} hints", 0.0])
    return hints


def echo(call: Call, number: int) -> Data:
    """Return an attachment as one."""
    return Data(call.buffer(number))


def ways(call: Call) -> list[str]:
    """Return how the attachments of earlier calls came."""
    return call.peer.memory.seen


def size(call: Call, number: int) -> int:
    """Return the size of a file."""
    fd = call.fd(number, "file-read")
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def look_up(call: Call, name: str) -> Waiting:
    """Ask the host's first service."""
    return (yield from call.ask(1, "look_up", name))


def tell(call: Call, progress: int, count: int) -> Waiting:
    """Call an object of the host's by reference."""
    total = 0
    for number in range(count):
        total = yield from call.ask(progress, "add", number)
    return total


def count(call: Call, upto: int) -> Waiting:
    """Send numbers, as many as the host takes."""
    for number in range(upto):
        yield from call.put(number)


def total(call: Call, numbers: None) -> Waiting:
    """Return the sum of what the host sends."""
    found = 0
    for item in call.items(1):
        if item is None:
            yield
        else:
            found += item
    return found


def wait(call: Call) -> Waiting:
    """Never answer."""
    while True:
        yield


METHODS: dict[str, Callable[..., Any]] = {
    each.__name__: each for each in (add, join, fail, hint, hinted, echo, ways, size, look_up, tell, count, total, wait)
}


def description() -> bytes:
    """Describe all of them."""
    table = Table("Foreign")
    number, text, none, buffer = (table.add(kind) for kind in ("int", "str", "none", "buffer"))
    texts, upload = table.add("array", text, name="list"), table.add("upload", number)
    file = table.add("fd", name="Fd", rules=[("argument 0", "file-read")])
    inner = table.add("call", number, members=[("number", number, True, True)])
    progress = table.add("interface", name="Progress", members=[("add", inner, True, True)])
    table.method("call", "add", number, a=number, b=number)
    table.method("call", "join", text, words=texts)
    table.method("call", "fail", none, text=text)
    table.method("notify", "hint", None, text=text)
    table.method("call", "hinted", texts)
    table.method("call", "echo", buffer, data=buffer)
    table.method("call", "ways", texts)
    table.method("call", "size", number, file=file)
    table.method("call", "look_up", text, name=text)
    table.method("call", "tell", number, progress=progress, count=number)
    table.method("stream", "count", number, upto=number)
    table.method("call", "total", number, numbers=upload)
    table.method("call", "wait", none)
    return table.packed()
