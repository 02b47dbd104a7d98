"""The step opened-files: files by name after the seal, one-shot, dup and error entries, and nothing else."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from belljar.host.errors import ConfigError, LaunchError
from belljar.host.plan.step import Step
from belljar.host.process_host import ProcessHost
from belljar.ipc.errors import RemoteError
from belljar.ipc.stage import Stage

from ...helpers import launch

pytestmark = pytest.mark.anyio


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A file of eleven bytes."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"hello again")
    return str(path)


def opened(backend: str, **options: Any) -> ProcessHost:
    """Return a host of a child that takes the step with *options*."""
    return launch("steps/opened.py:Opened", backend=backend, early_init=(Step("opened-files", options=options),))


async def test_without_the_step_the_seal_refuses_the_file(backend: str, model: str) -> None:
    """A plugin that opens its model itself cannot, unless there is no seal."""
    async with launch("steps/opened.py:Opened", backend=backend) as host:
        if backend == "none":
            assert await host.call("by_itself", model, returns=bytes) == b"hello again"
            return
        with pytest.raises(RemoteError, match=r"Permission denied|No such file"):
            await host.call("by_itself", model, returns=bytes)


async def test_a_one_shot_entry_is_given_away_once(backend: str, model: str, caplog: pytest.LogCaptureFixture) -> None:
    """The fd is the caller's, read only, and gone when it closes it; the second time it is not there, and says why."""
    async with opened(backend, one_shot=[model]) as host:
        assert host.early_init["opened-files"].undeclared is None
        before = await host.call("fds", returns=int)
        assert await host.call("cannot_write", model, returns=bool)
        assert await host.call("fds", returns=int) == before - 1
        with pytest.raises(RemoteError, match="taken already: list it in dup"):
            await host.call("read", model, returns=bytes)
        assert await host.call("errno", model, returns=int) == errno.ENOENT


async def test_a_dup_entry_has_a_position_for_each_reader(backend: str, model: str) -> None:
    """A dup(2) would share the offset; readers of an entry do not disturb each other."""
    async with opened(backend, dup=[model]) as host:
        parts = await host.call("two_at_once", model, returns=list[bytes])
        assert parts == [b"he", b"hel", b"ll", b"lo again", b"in", b""]
        assert await host.call("read", model, returns=bytes) == b"hello again"


async def test_names_that_are_no_entries(backend: str, model: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each fails as a file that is not there; only those listed in error do so without a word in the log."""
    async with opened(backend, dup=[model], error=["/proc/stat"]) as host:
        assert await host.call("errno", "/etc/hostname", returns=int) == errno.ENOENT
        assert await host.call("errno", "/proc/stat", returns=int) == errno.ENOENT
        assert await host.call("errno", model, "r+b", returns=int) == errno.EROFS
        assert await host.call("errno", "/etc/hostname", "wb", returns=int) == errno.EROFS
    assert "/etc/hostname was not opened before the seal" in caplog.text
    assert "/proc/stat was not" not in caplog.text


async def test_a_look_does_not_use_an_entry_up(backend: str, model: str) -> None:
    """stat before open leaves a one-shot entry as it was, and answers after it too."""
    async with opened(backend, one_shot=[model]) as host:
        assert await host.call("size", model, returns=int) == 11
        assert await host.call("read", model, returns=bytes) == b"hello again"
        assert await host.call("size", model, returns=int) == 11


async def test_links_are_followed_before_the_seal(backend: str, model: str, tmp_path: Path) -> None:
    """A link is opened as what it leads to at that moment, and keeps its name, for no other name of it is an entry."""
    link = tmp_path / "latest"
    link.symlink_to(model)
    async with opened(backend, dup=[str(link)]) as host:
        link.unlink()
        assert await host.call("read", str(link), returns=bytes) == b"hello again"
        assert await host.call("errno", model, returns=int) == errno.ENOENT


@pytest.mark.parametrize("kind", ["folder", "fifo"])
async def test_only_regular_files_are_handed_out(kind: str, backend: str, tmp_path: Path) -> None:
    """A directory, or what could block or answer back, ends the launch, and says so at once."""
    path = tmp_path / kind
    os.mkdir(path) if kind == "folder" else os.mkfifo(path)
    with pytest.raises(LaunchError, match=f"opened-files: .*/{kind} is not a regular file") as caught:
        await opened(backend, dup=[str(path)]).__aenter__()
    assert caught.value.stage is Stage.EARLY_INIT


async def test_a_file_in_both_lists(model: str) -> None:
    """One-shot and dup contradict each other."""
    with pytest.raises(LaunchError, match=r"model\.bin stands in one_shot and in dup"):
        await opened("namespaces", one_shot=[model], dup=[model]).__aenter__()


async def test_a_file_that_does_not_exist(model: str) -> None:
    """The host says so before anything starts, with the nearest name."""
    with pytest.raises(ConfigError, match=r"no such file or folder: .*modl\.bin.*did you mean 'model\.bin'"):
        await opened("namespaces", dup=[model.replace("model", "modl")]).__aenter__()
