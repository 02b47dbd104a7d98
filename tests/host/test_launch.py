"""Launches that fail: the stage, the cause and the place in one sentence, and no process left."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from belljar.host.config.process_type import Process
from belljar.host.errors import ConfigError, LaunchError, ProtectionError
from belljar.ipc.errors import RemoteError
from belljar.ipc.stage import Stage
from belljar.sandbox.backends import host_half
from belljar.sandbox.backends.namespaces import HostSide
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Limits, Policy
from belljar.sandbox.user import User
from belljar.testing import MemoryHost

from ..helpers import launch, nothing_left, on_both, only_over_socket, preloaded, write_plugin

pytestmark = pytest.mark.anyio


async def refused(stage: Stage, reason: str, plugin: str = "plain.py:Plain", **fields: Any) -> None:
    """Launch, and expect the error of *stage* and no process."""
    host_half(str(fields.get("backend", "namespaces"))).warm(preloaded(*fields.get("preload", ())), User.current())
    with nothing_left(str(fields.get("backend", "namespaces"))):
        with pytest.raises(LaunchError, match=reason) as caught:
            await launch(plugin, **fields).__aenter__()
        assert caught.value.stage is stage
        assert "\n" not in str(caught.value)


@on_both
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("class Plug(:", r"<bundle>/written.py:2: invalid syntax"),
        ("class Other: pass", "has no class 'Plug'; it has Other"),
        ("Plug = 3", "Plug is not a class"),
        ("import sys; sys.exit(4)", r"called exit\(4\)"),
        ("import os; os._exit(5)", "exited with code 5"),
        ("raise ValueError('the plugin')", "<bundle>/written.py:2: ValueError: the plugin"),
        ("import os; os.kill(os.getpid(), 11); x = 1 / 0", "ZeroDivisionError|SIGSEGV"),
        ("class Plug:\n    async def call(self): pass", "Plug.call is asynchronous, and this child has no event loop"),
        ("class Plug:\n    def call(self, x: 'Nowhere'): pass", "annotations of method 'call' cannot be resolved"),
        ("class Plug:\n    def __init__(self): raise KeyError('k')", "KeyError: 'k'"),
    ],
)
async def test_a_plugin_that_cannot_be_loaded(source: str, reason: str, backend: str, tmp_path: Path) -> None:
    """Whatever a plugin does when it is loaded ends the launch at stage 9 with one sentence."""
    plugin = write_plugin(tmp_path, "\n" + source)
    await refused(Stage.LOAD, reason, plugin, backend=backend)


@on_both
async def test_a_plugin_that_hangs_when_it_is_loaded(backend: str, tmp_path: Path) -> None:
    """A plugin that never ends its import is killed at the deadline."""
    plugin = write_plugin(tmp_path, "while True: pass")
    timeout = 1.0 if backend == "namespaces" else 3.0
    await refused(Stage.LOAD, "did not get past this stage within", plugin, backend=backend, launch_timeout=timeout)


async def test_garbage_on_stdout_is_only_output(tmp_path: Path) -> None:
    """What a plugin prints cannot be taken for a message."""
    source = "import os\nos.write(1, bytes(range(256)) * 10)\nclass Plug:\n    def ok(self) -> bool: return True\n"
    async with launch(write_plugin(tmp_path, source)) as host:
        assert await host.call("ok", returns=bool) is True


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"preload": ("no_such_module_at_all",)}, "preload no_such_module_at_all: ModuleNotFoundError"),
        ({"early_init": ("warm.py:fails",)}, "warm.py:fails: ZeroDivisionError"),
        ({"early_init": ("warm.py:exits",)}, r"warm.py:exits: it called exit\(7\)"),
        ({"early_init": ("warm.py:hangs",), "step_timeout": 0.5}, "warm.py:hangs did not finish within 0.5 s"),
    ],
)
async def test_an_early_init_step_that_fails(fields: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """A failing step of early init is named, and so is one that hangs."""
    warm = tmp_path / "warm.py"
    warm.write_text("import signal, sys\ndef fails(): 1 / 0\ndef exits(): sys.exit(7)\ndef hangs(): signal.pause()\n")
    if "early_init" in fields:
        fields = fields | {"early_init": tuple(f"{tmp_path}/{entry}" for entry in fields["early_init"])}
    await refused(Stage.EARLY_INIT, reason, **fields)


async def test_early_init_that_crashes(tmp_path: Path) -> None:
    """A crash in C before the seal is told with its signal, its stage and the step."""
    warm = tmp_path / "warm.py"
    warm.write_text("import ctypes\ndef crash(): ctypes.string_at(0)\n")
    await refused(Stage.EARLY_INIT, "the child ended in warm.py:crash: SIGSEGV ended it", early_init=(f"{warm}:crash",))


async def test_early_init_that_eats_all_memory(tmp_path: Path) -> None:
    """Running out of memory in early init is reported with its stage and errno."""
    warm = tmp_path / "warm.py"
    warm.write_text("def eat(): return bytearray(1 << 40)\n")
    policy = Policy(threads=True, limits=Limits(memory=512 << 20))
    with nothing_left(), pytest.raises(LaunchError, match=r"warm\.py:eat: MemoryError") as caught:
        await launch(early_init=(f"{warm}:eat",), policy=policy).__aenter__()
    assert (caught.value.stage, caught.value.errno) == (Stage.EARLY_INIT, 12)


async def test_a_directory_left_open_is_refused_at_the_seal(tmp_path: Path) -> None:
    """An open directory would lead around the empty root, so the child does not seal."""
    warm = tmp_path / "warm.py"
    warm.write_text("import os\ndef leak(): os.open('/etc', os.O_RDONLY)\n")
    await refused(Stage.SEAL, "left the directory /etc open", early_init=(f"{warm}:leak",))


@only_over_socket
@pytest.mark.parametrize("promised", [False, True])
async def test_nothing_of_the_plugin_runs_before_the_seal_is_verified(
    promised: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A shortfall at stage 8 is an error that names the layer, and the plugin's import has not begun."""
    plugin = write_plugin(tmp_path, "print('the plugin runs')\nclass Plug: pass\n")
    caplog.set_level(logging.INFO)
    if promised:
        monkeypatch.setattr(HostSide, "promises", lambda self, policy: frozenset(Layer))
        with nothing_left(), pytest.raises(ProtectionError, match="does not show landlock") as caught:
            await launch(plugin).__aenter__()
        assert (caught.value.stage, caught.value.layer) == (Stage.VERIFY, Layer.LANDLOCK)
    else:
        async with launch(plugin):
            pass
    assert ("the plugin runs" in caplog.text) is not promised


async def test_a_trusted_plugin_is_loaded_before_the_seal(tmp_path: Path) -> None:
    """With ``load = "early"`` the plugin's import can read files; its calls cannot."""
    source = """
        secret = open('/etc/hostname').read()
        class Plug:
            def early(self) -> str: return secret
            def late(self) -> str: return open('/etc/hostname').read()
    """
    async with launch(write_plugin(tmp_path, source), load="early") as host:
        assert await host.call("early", returns=str) == Path("/etc/hostname").read_text()
        with pytest.raises(RemoteError, match="the seal refused openat /etc/hostname"):
            await host.call("late", returns=str)


async def test_a_late_import_that_a_library_hides_is_named(tmp_path: Path) -> None:
    """An import that the seal refused is named in the error, also where the plugin swallowed it."""
    source = """
        class Plug:
            def late(self) -> None:
                try:
                    import wave
                except ImportError:
                    raise RuntimeError("something else") from None
    """
    async with launch(write_plugin(tmp_path, source)) as host:
        with pytest.raises(RemoteError, match="import wave") as caught:
            await host.call("late")
    assert "import wave" in caught.value.refused


async def test_a_traceback_through_a_library_is_no_refusal(tmp_path: Path) -> None:
    """An error that comes through library code names nothing refused, and has the plugin's own source line."""
    source = """
        import json
        class Plug:
            def parse(self) -> None: json.loads("{")  # the line
    """
    async with launch(write_plugin(tmp_path, source)) as host:
        with pytest.raises(RemoteError, match="JSONDecodeError") as caught:
            await host.call("parse")
    assert caught.value.refused == ()
    assert "the seal refused" not in str(caught.value)
    assert "# the line" in caught.value.remote_traceback
    assert "json/decoder.py" in caught.value.remote_traceback


@pytest.mark.parametrize("name", ["ChildEnded", "MemoryHost"])
async def test_what_only_a_host_has_is_not_to_be_preloaded(name: str, tmp_path: Path) -> None:
    """A plugin that imports a name of the host's is told that no child has it, at its launch and in a call."""
    home = {"ChildEnded": "belljar.host", "MemoryHost": "belljar.testing"}[name]
    remedy = f"{home}.*no child has {home}: import it in the host's modules only, or under `if TYPE_CHECKING`"
    await refused(Stage.LOAD, remedy, write_plugin(tmp_path, f"from belljar import {name}"))
    source = f"""
        class Plug:
            def late(self):
                from belljar import {name}
    """
    async with launch(write_plugin(tmp_path, source, name="later")) as host:
        with pytest.raises(RemoteError, match=remedy) as caught:
            await host.call("late")
        assert "preload" not in str(caught.value)


async def test_a_missing_feature_is_refused_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that does not work here is an error at stage 1, and never a weaker backend."""
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", "userns")
    with pytest.raises(LaunchError, match=r"cannot be used here: .*userns.*unset") as caught:
        await launch().__aenter__()
    assert caught.value.stage is Stage.PREPARE


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"plugin": "/nowhere/plugin.py:Plug"}, "no such file"),
        ({"plugin": "plugin.py"}, "plugin"),
        ({"backend": "namespace"}, "did you mean 'namespaces'|namespaces"),
    ],
)
async def test_a_process_type_that_cannot_be_used(fields: dict[str, str], reason: str, tmp_path: Path) -> None:
    """A mistake in a process type made in Python is a ConfigError of one sentence."""
    from belljar.host.process_host import ProcessHost

    plugin = write_plugin(tmp_path, "class Plug: pass")
    with pytest.raises(ConfigError, match=reason) as caught:
        await ProcessHost(Process(**({"plugin": plugin} | fields))).__aenter__()  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


async def test_a_host_launches_once() -> None:
    """A second entry is a mistake of the caller."""
    host = launch()
    async with host:
        pass
    with pytest.raises(RuntimeError, match="launches once"):
        await host.__aenter__()


async def test_names_of_methods_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    """They are words of the child: what a terminal would obey is escaped, with a real child and in memory."""
    source = """
        class Plug:
            def add(self) -> int: ...

        setattr(Plug, "\\x1b[31mred", Plug.add)
    """
    plugin = write_plugin(tmp_path, source, name=f"red_{os.urandom(4).hex()}")
    for host in (launch(plugin), MemoryHost(Process(plugin=plugin))):
        async with host:
            assert host.methods == (r"\x1b[31mred", "add")
