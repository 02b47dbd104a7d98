"""``graphics-egl``: a context from before the seal draws after it, and what becomes of a child without."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from belljar.host.errors import ChildEnded, LaunchError, PlanError
from belljar.host.plan.step import Step
from belljar.host.process_host import ProcessHost
from belljar.ipc.errors import RemoteError
from belljar.ipc.stage import Stage
from belljar.sandbox.graphics import LLVMPIPE, find_driver
from belljar.sandbox.policy import Policy
from belljar.sandbox.user import User

from ...helpers import CHANNEL_THREADS, CHILDREN, launch, on_all, require, require_graphics

pytestmark = pytest.mark.anyio

STEP = "graphics-egl"
UNCHECKED = "early_graphics.py:unchecked"


@pytest.fixture(autouse=True)
def _graphics() -> None:
    require_graphics()
    if find_driver(User.current()) != LLVMPIPE:
        pytest.skip("these are the facts of llvmpipe, and there is a GPU here")


def painter(*steps: str, **fields: Any) -> ProcessHost:
    """Return a host for a child that draws."""
    early = tuple(f"{CHILDREN}/{step}" if ":" in step else step for step in steps)
    preload = ("moderngl", "hashlib", "glcontext.egl", "ctypes.util")
    settings = {"policy": Policy.graphics(), "preload": preload, "launch_timeout": 30.0, **fields}
    return launch("painter.py:Painter", early_init=early, **settings)


@on_all
async def test_it_draws_after_the_seal(backend: str) -> None:
    """On every backend the policy "graphics" is enough to draw all that a child draws that is not sealed."""
    require(backend)
    async with painter(STEP, backend="none") as free, painter(STEP, backend=backend) as sealed:
        assert "llvmpipe" in await sealed.call("renderer", returns=str)
        found = await sealed.call("paint", returns=list[str])
        assert found == await free.call("paint", returns=list[str])
        assert len(set(found)) == 4  # the picture was read in two ways


@on_all
async def test_it_leaves_what_it_declares(backend: str) -> None:
    """Threads and executable memory stay; no fd, no signal, no variable, and the seal reaches every thread."""
    require(backend)
    async with painter(STEP, backend=backend) as host:
        report = host.early_init[STEP]
        processors = min(len(os.sched_getaffinity(0)), 16)
        assert {STEP} <= report.left.threads.keys() <= {STEP, *(f"llvmpipe-{each}" for each in range(processors))}
        assert sum(report.left.threads.values()) == 2 * processors  # one that has just started has no name of its own
        assert report.left.executable_memory > 0
        assert (report.left.fds, report.left.environment, report.left.signals) == ((), (), ())
        assert report.undeclared is None
        assert host.protection is not None
        assert host.protection.threads == 1 + 2 * processors + CHANNEL_THREADS


@on_all
async def test_without_it_there_is_no_context(backend: str) -> None:
    """A sealed child cannot make a context: its driver is a file, and the seal is closed over files."""
    require(backend)
    async with painter(backend=backend) as host:
        if backend == "none":
            assert "llvmpipe" in await host.call("make_context", returns=str)
            return
        with pytest.raises(RemoteError, match=r"libEGL\.so\.1 not loaded") as caught:
            await host.call("make_context", returns=str)
        assert any(call.startswith("openat /") and call.endswith("/libEGL.so.1") for call in caught.value.refused)


@on_all
async def test_llvmpipe_without_executable_memory(backend: str) -> None:
    """llvmpipe crashes at the first draw where it may not make code, and draws where it may: the seal, not the draw."""
    require(backend)
    async with painter(UNCHECKED, backend=backend) as host:
        assert len(await host.call("triangle", UNCHECKED, returns=bytes)) == 320 * 180 * 3
    async with painter(UNCHECKED, backend=backend, policy=Policy().with_limits(memory="4GiB")) as host:
        if backend == "none":
            assert await host.call("triangle", UNCHECKED, returns=bytes)
            return
        with pytest.raises(ChildEnded) as caught:
            await host.call("triangle", UNCHECKED, returns=bytes)
    assert caught.value.ended.signal == "SIGSEGV"
    assert any("in triangle" in line for line in caught.value.ended.stderr)


async def test_the_plan_refuses_llvmpipe_without_executable_memory() -> None:
    """The crash is refused before there is a process, and by the step itself where the plan was overruled."""
    policy = Policy().allow_threads()
    with pytest.raises(PlanError, match=r"needs executable-memory in the sealed child \(for the driver llvmpipe\)"):
        await painter(STEP, policy=policy).__aenter__()
    with pytest.raises(LaunchError, match="llvmpipe makes machine code as it draws") as caught:
        await painter(STEP, policy=policy, force_plan=True).__aenter__()
    assert caught.value.stage is Stage.EARLY_INIT


async def test_a_driver_that_makes_no_code_needs_none() -> None:
    """Mesa's softpipe interprets shaders: it draws in a child that has nothing but one thread."""
    fields = {"policy": Policy(), "env": {"GALLIUM_DRIVER": "softpipe"}}
    async with painter(UNCHECKED, **fields) as host:
        assert await host.call("triangle", UNCHECKED, returns=bytes)


@on_all
@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"LIBGL_DRIVERS_PATH": "/nonexistent"}, "LIBGL_DRIVERS_PATH is '/nonexistent': unset it or mend it"),
        ({"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent"}, "no EGL driver was found: install libegl-mesa0"),
    ],
)
async def test_no_driver_is_a_failed_step(backend: str, env: dict[str, str], words: str) -> None:
    """A child without a driver says hello first, and then which step failed and what to do; the channel is not dead."""
    require(backend)
    with pytest.raises(LaunchError) as caught:
        await painter(STEP, backend=backend, env=env).__aenter__()
    assert caught.value.stage is Stage.EARLY_INIT
    assert str(caught.value).startswith("stage 6 (early init): graphics-egl: could not make a context of OpenGL 3.3: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"version": 990}, "could not make a context of OpenGL 9.9: eglCreateContext failed"),
        ({"device": 9}, "requested device index 9, but found 1 devices (choose a smaller option device)"),
        ({"version": "new"}, "option version: Expected `int`, got `str`"),
    ],
)
async def test_an_option_that_cannot_be(options: dict[str, Any], words: str) -> None:
    """What the driver cannot do is said in its words, with the option to change."""
    entry = Step(STEP, options=options)
    with pytest.raises(LaunchError) as caught:
        await launch("painter.py:Painter", early_init=(entry,), policy=Policy.graphics()).__aenter__()
    assert words in str(caught.value)


@pytest.mark.parametrize(("step", "expected"), [(STEP, set()), ("early_graphics.py:plain", {".drirc"})])
async def test_home_and_xdg_are_not_consulted(step: str, expected: set[str], tmp_path: Path) -> None:
    """Nobody's ~/.drirc and no shader cache is read or made, which Mesa does by itself."""
    (tmp_path / "cache").mkdir()
    (tmp_path / ".drirc").write_text("<driconf></driconf>")
    env = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with Watch(tmp_path) as watch:
        async with painter(step, env=env):
            assert watch.names() == expected
    assert bool(list((tmp_path / "cache").iterdir())) == bool(expected)


class Watch:
    """What is opened in a folder, by whomever. See inotify(7)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Watch:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert libc.inotify_add_watch(self.fd, os.fsencode(self.folder), 0x20) >= 0  # IN_OPEN
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def names(self) -> set[str]:
        """Return the names in the folder that have been opened so far."""
        found: set[str] = set()
        try:
            events = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return found
        while events:
            length = struct.unpack_from("iIII", events)[3]
            found.add(os.fsdecode(events[16 : 16 + length].rstrip(b"\0")))
            events = events[16 + length :]
        return found - {""}
