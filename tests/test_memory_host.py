"""`MemoryHost`: the calls of a real child without the child; loud, and gone without a trace."""

from __future__ import annotations

import importlib
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import anyio
import pytest

from belljar import (
    ArgumentError,
    CallTimeout,
    ChildEnded,
    ConfigError,
    LaunchError,
    MemoryHost,
    Process,
    ProcessHost,
    RemoteError,
    ServiceRefused,
    State,
    checkpoint,
    raises,
    service,
    testing,
)

from .children.looped import Looped as LoopedPlugin
from .children.looped.interfaces import Looped
from .helpers import write_plugin

pytestmark = pytest.mark.anyio


class Empty(Exception):
    """A declared error."""


class Shelf(Protocol):
    """Offered by the host."""

    def read(self, key: str) -> bytes: ...


class Machine(Protocol):
    """What the plugin answers."""

    async def size(self, data: bytes) -> int: ...

    @raises(Empty)
    async def first(self, items: list[int]) -> int: ...

    def count(self, limit: int) -> AsyncIterator[int]: ...

    async def total(self, numbers: AsyncIterator[int]) -> int: ...

    async def fetch(self, key: str) -> bytes: ...

    async def spin(self) -> None: ...

    async def hold(self) -> None: ...


class Works:
    """A plugin as one would be sealed."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.released = threading.Event()

    def size(self, data: bytes) -> int:
        return len(data)

    @raises(Empty)
    def first(self, items: list[int]) -> int:
        if not items:
            raise Empty("there is none")
        return items[0]

    def count(self, limit: int) -> Iterator[int]:
        yield from range(limit)

    def total(self, numbers: Iterator[int]) -> int:
        return sum(numbers)

    def fetch(self, key: str) -> bytes:
        return service(Shelf).read(key)

    def spin(self) -> None:
        """Compute, and look around."""
        while True:
            checkpoint()

    def hold(self) -> None:
        """Look at nothing."""
        self.released.wait()


class Fakes:
    """A shelf for a test; it may call the plugin."""

    host: ProcessHost

    async def read(self, key: str) -> bytes:
        if key == "secret":
            raise ServiceRefused("it is secret")
        return str(await self.host.proxy(Machine).size(key.encode())).encode()


async def numbers(limit: int) -> AsyncIterator[int]:
    """An upload."""
    for number in range(limit):
        yield number


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Fail if a test leaves a thread of a host, or an fd."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("belljar ")] == []
    assert len(os.listdir("/proc/self/fd")) == before


async def test_calls_are_those_of_a_real_child() -> None:
    """Checked both ways, with streams, uploads, errors, large data, and services that call back."""
    fakes = Fakes()
    async with MemoryHost(Works, services={Shelf: fakes}) as host:
        fakes.host = host
        machine = host.proxy(Machine)
        assert await machine.size(bytes(1 << 20)) == 1 << 20
        with pytest.raises(ArgumentError, match="argument 'data'"):
            await machine.size("text")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        with pytest.raises(Empty, match="there is none"):
            await machine.first([])
        assert [number async for number in machine.count(600)] == list(range(600))
        assert await machine.total(numbers(600)) == sum(range(600))
        assert await machine.fetch("four") == b"4"
        with pytest.raises(RemoteError, match="ServiceError: it is secret"):
            await machine.fetch("secret")
        with pytest.raises(CallTimeout):
            await host.proxy(Machine, timeout=0.02).spin()
        assert await machine.first([1]) == 1
    assert (host.state, (await host.wait()).exit_code) == (State.ENDED, 0)


async def test_an_asynchronous_plugin_gets_a_loop() -> None:
    """In its thread; its calls run at the same time."""
    async with MemoryHost(LoopedPlugin) as host:
        plugin = host.proxy(Looped)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(plugin.meet, 1)
            tasks.start_soon(plugin.meet, 0)
        assert [number async for number in plugin.doubled(numbers(3))] == [0, 2, 4]
        with pytest.raises(CallTimeout):
            await host.proxy(Looped, timeout=0.02).in_thread()
        while "in_thread" not in await plugin.ended():
            pass


async def test_no_process_type_can_ask_for_it() -> None:
    """One line of a configuration must not take the sandbox away."""
    process = Process(plugin="works.py:Works", channel="memory")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=r"channel: 'memory' would seal nothing, .* MemoryHost"):
        await ProcessHost(process).__aenter__()


async def test_it_says_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """In the log, in its repr, and in the protection report, where nothing holds."""
    with caplog.at_level(logging.WARNING, "belljar.testing"):
        async with MemoryHost(Works()) as host:
            assert "NOT SEALED" in repr(host)
            assert host.protection is not None
            assert (host.protection.engaged(), host.protection.enforced()) == (frozenset(), frozenset())
            assert (host.child_pid, host.launched_pid) == (None, None)
    assert "works is not sealed at all" in caplog.text


async def test_two_hosts_have_services_of_their_own() -> None:
    """Although they share a process."""

    class Other:
        def read(self, key: str) -> bytes:
            return b"other"

    class Same:
        def read(self, key: str) -> bytes:
            return b"same"

    async with MemoryHost(Works, services={Shelf: Other()}) as one, MemoryHost(Works, services={Shelf: Same()}) as two:
        assert await one.proxy(Machine).fetch("") == b"other"
        assert await two.proxy(Machine).fetch("") == b"same"
    async with MemoryHost(Works) as none:
        with pytest.raises(RemoteError, match="does not offer Shelf"):
            await none.proxy(Machine).fetch("")


async def test_a_plugin_that_cannot_be_made_is_a_launch_error() -> None:
    """Its cause is the very error, with its traceback."""

    def broken() -> Any:
        raise ValueError("no")

    with pytest.raises(LaunchError, match="ValueError: no") as caught:
        await MemoryHost(type("Broken", (), {"__init__": lambda self: broken()})).__aenter__()
    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_thread_that_fails_ends_like_a_child_that_does(caplog: pytest.LogCaptureFixture) -> None:
    """With an exit code, and what failed stands in the log with its traceback; nothing was ended by a signal."""
    async with MemoryHost(Works) as host:
        host._channel.send(b"no frame")
        ended = await host.wait()
    assert (ended.exit_code, ended.signal, ended.reason) == (1, None, "it exited with code 1")
    assert "works: the plugin's thread failed" in caplog.text
    assert "PeerProtocolError: the host sent" in caplog.text


async def test_a_plugin_that_does_not_end_is_named_and_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its caller and all others get the errors of a child that was killed."""
    monkeypatch.setattr(testing, "STUCK", 0.02)
    plugin = Works()
    process = Process(plugin="works.py:Works", call_timeout=0.02, cancel_grace=0.02)
    async with MemoryHost(plugin, process=process) as host:
        machine = host.proxy(Machine)
        with pytest.raises(CallTimeout):
            await machine.hold()
        assert (await host.wait()).reason == "it did not end 'hold', which was given up, within 0.02 s"
        with pytest.raises(ChildEnded, match="which was given up"):
            await machine.first([1])
    assert "works does not end, and a thread cannot be killed" in caplog.text
    plugin.released.set()
    for thread in threading.enumerate():
        if thread.name == "belljar works":
            thread.join()


@pytest.mark.parametrize("plugin", [Works, LoopedPlugin])
async def test_a_block_that_fails_ends_the_thread(plugin: type) -> None:
    """And the error comes out as it was."""
    with pytest.raises(ZeroDivisionError):
        async with MemoryHost(plugin):
            raise ZeroDivisionError


async def test_a_host_that_hangs_up_ends_what_computes() -> None:
    """`checkpoint` raises once nobody is left to answer, in the plugin's thread and in one of asyncio's."""
    for host, method in ((MemoryHost(Works), "spin"), (MemoryHost(LoopedPlugin), "in_thread")):
        async with host, anyio.create_task_group() as tasks:

            async def ask(host: MemoryHost = host, method: str = method) -> None:
                with pytest.raises(ChildEnded, match="enough"):
                    await host.call(method, timeout=None)

            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            host.kill("enough")
        assert (await host.wait()).reason == "enough"


def test_the_page_shows_code_that_runs(tmp_path: Path) -> None:
    """The three files of docs/testing.md work together as they stand there."""
    page = (Path(__file__).parents[1] / "docs" / "testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for name, block in zip(("pictures.py", "cut.py", "test.py"), blocks, strict=True):
        (tmp_path / name).write_text(block)
    done = subprocess.run([sys.executable, "test.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("cut is not sealed at all")) == (0, 1), done.stderr


async def test_a_process_type_is_imported_from_its_file(tmp_path: Path) -> None:
    """As often as one likes, and once."""
    source = """
        class Plug:
            made = 0

            def __init__(self):
                Plug.made += 1

            def number(self) -> int:
                return Plug.made
    """
    process = Process(plugin=write_plugin(tmp_path, source, name=f"in_memory_{os.urandom(4).hex()}"))
    for count in (1, 2):
        async with MemoryHost(process) as host:
            assert await host.call("number", returns=int) == count


@pytest.mark.parametrize("is_package", [False, True])
async def test_a_module_that_the_test_has_imported_is_the_plugin_s(
    is_package: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it comes from the very file; one of another file keeps its name, and the error says so."""
    name = f"in_memory_{os.urandom(4).hex()}"
    (tmp_path / name).mkdir()
    plugin = write_plugin(tmp_path, "class Plug:\n    def answer(self) -> int: return 42", name=name)
    if is_package:
        Path(plugin.removesuffix(":Plug")).rename(tmp_path / name / "__init__.py")
        plugin = f"{tmp_path / name}:Plug"
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module(name)
    module.Plug.answer = lambda self: 43
    async with MemoryHost(Process(plugin=plugin)) as host:
        assert await host.call("answer", returns=int) == 43
    with pytest.raises(LaunchError, match=f"{name}.py has no class 'Plum'; it has Plug"):
        await MemoryHost(Process(plugin=plugin.replace(":Plug", ":Plum"))).__aenter__()
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setitem(sys.modules, "made_by_hand", ModuleType("made_by_hand"))
    for taken in (name, "made_by_hand"):
        with pytest.raises(LaunchError, match=f"the module name '{taken}' is taken by a loaded module"):
            await MemoryHost(Process(plugin=write_plugin(other, "class Plug: ...", name=taken))).__aenter__()
