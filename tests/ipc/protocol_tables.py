"""The tables of docs/protocol.md that say what the code says: ``python -m tests.ipc.protocol_tables`` writes them anew.

On the page each stands between ``<!-- table NAME -->`` and ``<!-- end -->``; test_protocol_page.py compares.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import msgspec.inspect as inspect_types

from belljar.ipc import datagram, frames, messages
from belljar.ipc.interface import describe
from belljar.ipc.interface.describe import Description, Member, Type
from belljar.ipc.peer import records

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
_TABLE = re.compile(r"(?<=<!-- table )(\S+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)

LAUNCH: tuple[type[msgspec.Struct], ...] = (*get_args(messages.FromChild), *get_args(messages.FromHost))
WITHIN_LAUNCH = (messages.RunStep, messages.Plugin, messages.Left, messages.Fd, messages.Landlock)
FRAMES: tuple[type[msgspec.Struct], ...] = tuple(dict.fromkeys(get_args(frames.Frame)))
PARTS = (frames.Piece, frames.Sealed, frames.Handle)
DESCRIPTION = (describe.Description, describe.Type, describe.Member)

LIMITS = [
    ("bytes of a datagram", datagram.MAX_DATAGRAM),
    ("fds of a datagram", datagram.MAX_FDS),
    ("frames of a datagram", frames.MAX_FRAMES),
    ("bytes of payload, inline parts included, in one frame", messages.MAX_INLINE),
    ("parts of a frame", frames.MAX_PARTS),
    ("calls of one side that are not answered yet", records.MAX_UNDER_WAY),
    ("calls within each other", records.MAX_DEPTH),
    ("items of an upload that belljar takes before they are read", records.WINDOW),
    ("the same where an item can have attachments", records.WINDOW_OF_LARGE),
    ("bytes of a description", describe.MAX_DESCRIPTION),
    ("early-init steps of a child", messages.MAX_STEPS),
]


DESCRIBED = msgspec.msgpack.encode(
    Description(
        (
            Type("interface", "Adder", members=(Member("add", 2),)),
            Type("int"),
            Type("call", "", (1,), (Member("a", 1), Member("b", 1))),
        )
    )
)
"""``def add(self, a: int, b: int) -> int``, of a class ``Adder``."""

MESSAGE_EXAMPLES: list[tuple[str, Any]] = [
    ("the child is there; stage 3 took it 1.5 ms", messages.Hello(1, 1, 4711, {"confine early": 1.5})),
    ("stage 7 failed with EPERM", messages.StageFailed(7, 1, "could not seal")),
    ("the first step begins", messages.StepBegan(0)),
    ("it took 2.5 ms and left a thread", messages.StepEnded(0, 2.5, messages.Left({"worker": 1}))),
    ("with the listener's fd", messages.Listening()),
    ("sealed, without landlock", messages.Sealed({})),
    ("the plugin has one method; see below for the description", messages.Ready(("add",), {}, False, DESCRIBED)),
    ("a filter of one instruction, with a listener", messages.Configure(1, 4711, b"\x06\0\0\0\0\0\xff\x7f", True)),
    ("with the bundle's fd; no services", messages.Load(messages.Plugin("adder", "Adder"))),
]
FRAME_EXAMPLES: list[tuple[str, frames.Frame]] = [
    ("add(2, 3), in 30 s", frames.Call(1, 0, "add", b"\x92\x02\x03", timeout=30_000)),
    ("a call within call 1, of the first service", frames.Call(1, 1, "key", b"\x90", within=1)),
    (
        "size(Buffer) with 1 MiB at the start of arena 1",
        frames.Call(2, 0, "size", b"\x91\0", (frames.Piece(1, 0, 1 << 20),)),
    ),
    ("the same in a memfd, which comes with it", frames.Call(2, 0, "size", b"\x91\0", (frames.Sealed(1 << 20),))),
    ("the same of 3 bytes", frames.Call(2, 0, "size", b"\x91\0", (b"abc",))),
    ("read(Fd), with the fd", frames.Call(3, 0, "read", b"\x91\0", (frames.Handle("file-read"),))),
    ("one argument list of 100 kB in a memfd", frames.Call(4, 0, "join", None, (frames.Sealed(100_000),))),
    ("frames(), and the caller takes 256", frames.Call(5, 0, "frames", b"\x90", credit=256)),
    ("total(numbers), and its first argument follows", frames.Call(7, 0, "total", b"\x91\xc0", uploads=(1,))),
    ("add(1, 1) and add(2, 2) as one", frames.Call(6, 0, "add", b"\x92\x92\x01\x01\x92\x02\x02", many=True)),
    ("hint('x')", frames.Notify(0, "hint", b"\x91\xa1x")),
    ("5 is the result of call 1", frames.Reply(1, b"\x05")),
    ("the end of stream 5", frames.Reply(5, b"\xc0")),
    ("a ValueError", frames.Failed(1, "exception", "ValueError", "no")),
    ("call 1 is given up", frames.Cancel(1)),
    ("two items of the result of call 5", frames.Items(5, 0, (b"\x01", b"\x02"))),
    ("an item of the first argument of call 7", frames.Items(7, 1, (b"\x01",))),
    ("the reader of call 5 takes 128 more", frames.Credit(5, 0, 128)),
    ("the first argument of call 7 is over", frames.End(7, 1)),
    ("the piece at 0 of arena 1 is free", frames.Release(1, (0,))),
    ("an arena of 16 MiB, with its fd", frames.Share(1, 16 << 20, "host")),
    ("it is mapped", frames.Attached(1)),
    ("nothing lies in it any more", frames.Unshare(1)),
    ("give memory back", frames.Trim()),
    ("a warning", frames.Log("codec", 30, "odd header", 1.0, "codec", 12)),
    ("log from INFO on", frames.LogLevels({"": 20})),
    ("the end", frames.Shutdown()),
]


def tag_of(kind: type[msgspec.Struct]) -> str:
    """Return the tag of a message or frame, or the name of what stands within one."""
    return str(kind.__struct_config__.tag or kind.__name__)


def tables() -> dict[str, str]:
    """Return all tables by name."""
    return {
        "messages": _fields("message", LAUNCH),
        "within-messages": _fields("part", WITHIN_LAUNCH),
        "frames": _fields("frame", FRAMES),
        "parts": _fields("part", PARTS),
        "description": _fields("part", DESCRIPTION),
        "message-examples": _examples(MESSAGE_EXAMPLES, messages.encode),
        "frame-examples": _examples(FRAME_EXAMPLES, lambda frame: frames.encode([frame])),
        "limits": _table(("at most", "of what"), [(f"{most:,}", what) for what, most in LIMITS]),
    }


def written(page: str) -> str:
    """Return *page* with its tables as they should be."""
    known = tables()
    return _TABLE.sub(lambda found: f"{found[1]}{found[2]}{known[found[1]]}", page)


def _fields(what: str, kinds: Iterable[type[msgspec.Struct]]) -> str:
    return _table((what, "field", "type", "if left out"), (row for kind in kinds for row in _rows(kind)))


def _rows(kind: type[msgspec.Struct]) -> Iterator[tuple[str, ...]]:
    info: Any = inspect_types.type_info(kind)
    name = f"`{tag_of(kind)}`"
    if not info.fields:
        yield name, "-", "", ""
    for field in info.fields:
        yield name, field.name, _words(field.type), "" if field.required else f"`{_default(field)}`"
        name = ""


def _default(field: Any) -> str:
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        return "[]"
    return "nil" if value is None else json.dumps("" if value == b"" else value)


def _words(info: Any) -> str:
    if isinstance(info, inspect_types.Metadata):
        return _words(info.type)
    if isinstance(info, inspect_types.IntType):
        return _range(info)
    if isinstance(info, (inspect_types.StrType, inspect_types.BytesType)):
        most = "" if info.max_length is None else f" ≤ {info.max_length:,}"
        return f"{'text' if isinstance(info, inspect_types.StrType) else 'bytes'}{most}"
    if isinstance(info, inspect_types.DictType):
        return f"map of {_words(info.key_type)} to {_words(info.value_type)}{_many(info)}"
    if isinstance(info, (inspect_types.VarTupleType, inspect_types.ListType)):
        return f"array of {_words(info.item_type)}{_many(info)}"
    if isinstance(info, inspect_types.TupleType):
        return f"[{', '.join(map(_words, info.item_types))}]"
    if isinstance(info, inspect_types.UnionType) and frames.Piece in [
        getattr(each, "cls", None) for each in info.types
    ]:
        return "part"
    if isinstance(info, inspect_types.UnionType):
        return " or ".join(map(_words, info.types))
    if isinstance(info, inspect_types.LiteralType):
        return " or ".join(f'"{value}"' for value in info.values)
    if _is_struct(info):
        return tag_of(info.cls)
    if isinstance(info, inspect_types.FloatType):
        return "number" if info.ge is None else f"number ≥ {info.ge:g}"
    return {"None": "nil", "Bool": "boolean"}[type(info).__name__.removesuffix("Type")]


def _is_struct(info: Any) -> bool:
    return isinstance(info, inspect_types.StructType)


def _range(info: inspect_types.IntType) -> str:
    if info.ge is None:
        return "integer"
    most = info.le if info.le is not None else (info.lt or 0) - 1
    return f"{info.ge} to {'2^53' if most == 2**53 else f'{most:,}'}"


def _many(info: Any) -> str:
    most = "" if info.max_length is None else f", ≤ {info.max_length:,}"
    return f", ≥ {info.min_length}{most}" if info.min_length else most


def _examples(examples: list[tuple[str, Any]], encode: Callable[[Any], bytes]) -> str:
    """Return each of *examples* in three ways: in words, in the notation of the page, and byte for byte."""
    found = []
    for words, message in examples:
        data = encode(message)
        lines = [data[at : at + 32].hex(" ") for at in range(0, len(data), 32)]
        found.append("\n".join((f"# {words}", _noted(msgspec.msgpack.decode(data)), *lines)))
    return "```\n" + "\n\n".join(found) + "\n```\n"


def _noted(value: Any) -> str:
    """Return *value* as JSON has it, bytes as ``h'00ff'``."""
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, list):
        return f"[{', '.join(map(_noted, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_noted(key)}: {_noted(each)}' for key, each in value.items())}}}"
    return "nil" if value is None else json.dumps(value)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
