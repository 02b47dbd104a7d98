"""Whatever a plugin raises is told: errors are foreign code, down to their text and the name of their class."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from belljar import notify
from belljar.child.errors_as_text import describe
from belljar.host.errors import LaunchError
from belljar.ipc.errors import RemoteError

from ..helpers import launch, write_plugin

SOURCE = """
import contextlib
import importlib
import sys

from belljar import notify


class Loud(str):
    def encode(self, *words):
        raise ZeroDivisionError


class Nameless(type):
    @property
    def __name__(cls):
        raise ZeroDivisionError


class Leaves(Exception):
    def __str__(self):
        raise SystemExit


class Shouts(Exception):
    def __str__(self):
        return Loud("shouted")


class Unnamed(Exception, metaclass=Nameless):
    pass


class Masked(Exception):
    @property
    def __class__(self):
        raise ZeroDivisionError


class Renamed(Exception):
    pass


Renamed.__name__ = Loud("Renamed")


class Whole(BaseExceptionGroup):
    def split(self, kind):
        raise ArithmeticError("not to be split")


class Plug:
    {word}def boom(self, kind: str) -> None:
        raise SyntaxError("odd", ("template", 1, "x", "text")) if kind == "SyntaxError" else globals()[kind]

    {word}def group(self) -> None:
        raise Whole("whole", [KeyboardInterrupt()])

    {word}def imports(self) -> None:
        for name in (Loud("shouted"), "not_\\ud800_there"):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)

    @notify
    {word}def note(self) -> None:
        sys.stdout.close()
        raise LookupError

    {word}def resize(self) -> None:
        data = bytearray(8)
        with memoryview(data):
            data.append(0)

    {word}def add(self, number: int) -> int:
        return number + 1
"""


class Notified(Protocol):
    """The part of the plugin that answers nothing."""

    @notify
    async def note(self) -> None: ...


ERRORS = ["SyntaxError", "Leaves", "Shouts", "Unnamed", "Masked", "Renamed"]


@pytest.mark.anyio
@pytest.mark.parametrize("on_loop", [False, True], ids=["blocking", "on_loop"])
async def test_an_error_that_cannot_be_read_is_an_error_of_its_call_only(tmp_path: Path, on_loop: bool) -> None:
    """Its class is told in any case, and the child lives on, with an event loop and without."""
    plugin = write_plugin(tmp_path, SOURCE.replace("{word}", "async " if on_loop else ""))
    async with launch(plugin, early_init=("asyncio",) if on_loop else (), call_timeout=5.0) as host:
        for kind in ERRORS:
            with pytest.raises(RemoteError) as caught:
                await host.call("boom", kind)
            assert caught.value.remote_type == kind
            assert len(str(caught.value)) < 5000
            assert await host.call("add", 1) == 2
        with pytest.raises(RemoteError, match="ArithmeticError: not to be split" if on_loop else "Whole: whole"):
            await host.call("group")
        await host.call("imports")
        assert await host.call("add", 1) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("on_loop", [False, True], ids=["blocking", "on_loop"])
async def test_a_notification_that_fails_where_nothing_can_be_printed_ends_nothing(
    tmp_path: Path, on_loop: bool
) -> None:
    """The plugin has closed its own stdout; calls are answered as before."""
    plugin = write_plugin(tmp_path, SOURCE.replace("{word}", "async " if on_loop else ""))
    async with launch(plugin, early_init=("asyncio",) if on_loop else ()) as host:
        await host.proxy(Notified).note()
        assert await host.call("add", 1) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("on_loop", [False, True], ids=["blocking", "on_loop"])
async def test_a_buffer_error_of_the_plugin_is_its_own(tmp_path: Path, on_loop: bool) -> None:
    """It is told as any other error, with its traceback, and not as a result that cannot be sent."""
    plugin = write_plugin(tmp_path, SOURCE.replace("{word}", "async " if on_loop else ""))
    async with launch(plugin, early_init=("asyncio",) if on_loop else ()) as host:
        with pytest.raises(RemoteError, match="'resize' raised BufferError: Existing exports") as caught:
            await host.call("resize")
    assert "data.append(0)" in caught.value.remote_traceback


def test_what_is_told_of_an_error_that_no_traceback_can_be_made_of() -> None:
    """Its text, and a line in place of the traceback that names the class."""
    error = SyntaxError("odd", ("template", 1, "x", "text"))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert describe(error, without_files=False) == (str(error), "SyntaxError: (its traceback cannot be read)\n")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        ("Leaves()", r"Leaves: \(its text cannot be read\)"),
        ("Shouts()", "Shouts: shouted"),
        ("Unnamed('why')", "Unnamed"),
        ("Masked('why')", "Masked"),
        ("OSError('odd', 'number')", "OSError: .*number"),
        ("OSError(10**6, 'large')", "OSError: .*large"),
    ],
)
async def test_an_odd_error_of_the_import_is_a_launch_error_that_names_it(
    tmp_path: Path, raised: str, reason: str
) -> None:
    """The child itself reports it, so that the stage and the class are known."""
    plugin = write_plugin(tmp_path, f"{SOURCE.replace('{word}', '')}\n\nraise {raised}\n")
    with pytest.raises(LaunchError, match=f"^stage 9 .*{reason}"):
        await launch(plugin).__aenter__()
