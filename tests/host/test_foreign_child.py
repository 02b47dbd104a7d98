"""A child made from docs/protocol.md alone, without anything of belljar, is as good as one of ours."""

from __future__ import annotations

import ast
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol

import pytest

from belljar.host.process_host import ProcessHost
from belljar.ipc.errors import CallTimeout, InterfaceMismatch, RemoteError, UnknownMethod
from belljar.ipc.interface import notify
from belljar.ipc.interface.buffers import BufferLike
from belljar.ipc.interface.fd import Fd
from belljar.ipc.memory.buffer import Buffer
from belljar.sandbox import backends
from belljar.sandbox.base import FOR_A_SEAL
from belljar.sandbox.launch.executed import ExecutedHost
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Policy

from ..helpers import CHILDREN, process

pytestmark = pytest.mark.anyio

FOREIGN = CHILDREN / "foreign"


class ForeignSide(ExecutedHost):
    """Starts tests/children/foreign, which can confine itself by a filter."""

    name = "foreign"
    requires = FOR_A_SEAL

    def promises(self, policy: Policy) -> Mapping[Layer, str]:
        return {Layer.NO_NEW_PRIVS: "", Layer.SECCOMP: ""}

    def program(self) -> list[str]:
        return [sys.executable, "-I", "-B", str(FOREIGN)]


class Progress(Protocol):
    async def add(self, number: int) -> int: ...


class Names(Protocol):
    async def look_up(self, name: str) -> str: ...


class Foreign(Protocol):
    async def add(self, a: int, b: int) -> int: ...
    async def join(self, words: list[str]) -> str: ...
    async def fail(self, text: str) -> None: ...
    @notify
    async def hint(self, text: str) -> None: ...
    async def hinted(self) -> list[str]: ...
    async def echo(self, data: BufferLike) -> Buffer: ...
    async def ways(self) -> list[str]: ...
    async def size(self, file: Fd[Literal["file-read"]]) -> int: ...
    async def look_up(self, name: str) -> str: ...
    async def tell(self, progress: Progress, count: int) -> int: ...
    def count(self, upto: int) -> AsyncIterator[int]: ...
    async def total(self, numbers: AsyncIterator[int]) -> int: ...
    async def wait(self) -> None: ...


class Other(Protocol):
    async def add(self, a: int, b: str) -> int: ...


class Sum:
    def __init__(self) -> None:
        self.sum = 0

    async def add(self, number: int) -> int:
        self.sum += number
        return self.sum


class Book:
    """Asks its caller back before it answers."""

    def __init__(self) -> None:
        self.host: ProcessHost | None = None

    async def look_up(self, name: str) -> str:
        assert self.host is not None
        return f"{name} {await self.host.proxy(Foreign).add(40, 2)}"


@pytest.fixture(autouse=True)
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend ``foreign``, as if its file were among the others."""
    module = ModuleType("belljar.sandbox.backends.foreign")
    vars(module)["HostSide"] = ForeignSide
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(backends.BACKENDS, "foreign", "foreign")


@pytest.fixture
async def host() -> AsyncIterator[ProcessHost]:
    """The child, which ends as it should once the test is over."""
    book = Book()
    async with ProcessHost(process(backend="foreign", channel="socket"), services={Names: book}) as book.host:
        yield book.host
    ended = await book.host.wait()
    assert (ended.exit_code, ended.stderr) == (0, ())


async def numbers(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


def test_it_imports_nothing_but_the_standard_library() -> None:
    """The child is what somebody without belljar could write."""
    own = {path.stem for path in FOREIGN.glob("*.py")}
    for path in FOREIGN.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.partition(".")[0] in sys.stdlib_module_names | own, f"{path.name} imports {name}"


async def test_it_is_sealed_and_answers(host: ProcessHost, caplog: pytest.LogCaptureFixture) -> None:
    """Calls, many at once or one-way, errors, records and long texts work behind a filter that the host has seen."""
    assert host.protection is not None
    assert {Layer.NO_NEW_PRIVS, Layer.SECCOMP} <= {each.layer for each in host.protection.layers if each.engaged}
    foreign = host.proxy(Foreign)
    assert await foreign.add(2, 3) == 5
    assert [each async for each in host.map("add", [(n, n) for n in range(100)], returns=int)] == list(range(0, 200, 2))
    with pytest.raises(RemoteError, match="'fail' raised ValueError: no way"):
        await foreign.fail("no way")
    with pytest.raises(UnknownMethod, match="it has add, join"):
        await host.call("subtract")
    await foreign.hint("first")
    await foreign.hint("second")
    with caplog.at_level(logging.WARNING, "belljar.child"):
        assert await foreign.hinted() == ["first", "second"]
    assert ("belljar.child.plain.ideas", logging.WARNING, "2 hints") in caplog.record_tuples
    words = ["x" * 1000] * 100
    assert await foreign.join(words) == "".join(words)


async def test_it_says_what_it_is(host: ProcessHost) -> None:
    """Its description is compared with the interface before any call."""
    with pytest.raises(
        InterfaceMismatch, match=r"Other\.add: argument 'b' is str in the interface and int in the plugin"
    ):
        host.proxy(Other)


async def test_it_calls_back(host: ProcessHost) -> None:
    """A service that calls the plugin within its own call, and an object by reference, are reached by number."""
    foreign = host.proxy(Foreign)
    assert await foreign.look_up("answer") == "answer 42"
    assert await foreign.tell(Sum(), 10) == 45


async def test_streams_keep_to_their_credit(host: ProcessHost) -> None:
    """More items than any window has go both ways, each once and in order; a reader may leave."""
    foreign = host.proxy(Foreign)
    assert [number async for number in foreign.count(1000)] == list(range(1000))
    assert await foreign.total(numbers(100)) == 4950
    async for number in foreign.count(10**9):
        if number == 300:
            break
    assert await foreign.add(1, 1) == 2


async def test_a_call_that_is_given_up_is_ended(host: ProcessHost) -> None:
    """The child answers a cancellation; else the host would kill it."""
    with pytest.raises(CallTimeout):
        await host.proxy(Foreign, timeout=0.01).wait()
    assert await host.proxy(Foreign).add(1, 1) == 2


async def test_large_data_goes_every_way(host: ProcessHost, tmp_path: Path) -> None:
    """Inline, by sealed memfd until there is an arena, by pieces of one, and by those of a larger one."""
    foreign, sizes = host.proxy(Foreign), (10, 1 << 20, 1 << 20, 1 << 20, 20 << 20, 20 << 20, 20 << 20)
    for size in sizes:
        data = os.urandom(size)
        with await foreign.echo(data) as echoed:
            assert echoed.view == data
    assert await foreign.ways() == ["inline", "sealed", "piece", "piece", "sealed", "piece", "piece"]
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1234)
    with Fd(os.open(path, os.O_RDONLY), "file-read") as file:
        assert await foreign.size(file) == 1234
