"""The empty root and what a policy keeps visible in it, looked at from outside through /proc/PID."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from belljar.host.errors import LaunchError
from belljar.ipc.stage import Stage
from belljar.sandbox.danger import DEVICES
from belljar.sandbox.policy import Policy

from ..helpers import launch, nothing_left

pytestmark = pytest.mark.anyio


def mounts(pid: int | None) -> dict[str, set[str]]:
    """Return the options of each mount in a process's own view, by mount point. See proc_pid_mountinfo(5)."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return {line.split()[4]: set(line.split()[5].split(",")) for line in lines}


async def test_nothing_is_left_of_the_root() -> None:
    """Without paths in the policy there is one mount, which is read-only and holds nothing."""
    async with launch() as host:
        root = Path(f"/proc/{host.child_pid}/root/")
        assert mounts(host.child_pid).keys() == {"/"}
        assert {"ro", "nosuid", "nodev", "noexec"} <= mounts(host.child_pid)["/"]
        assert os.listdir(root) == []
        assert os.listdir(f"/proc/{host.child_pid}/cwd/") == []
        with pytest.raises(OSError, match="Read-only") as caught:
            (root / "file").write_text("x")
        assert caught.value.errno in (errno.EROFS, errno.EACCES)


async def test_paths_stay_with_their_rights(tmp_path: Path) -> None:
    """A read-only folder, a single file and a read-write folder are mounts of their own, without suid and devices."""
    folder, writable, single = tmp_path / "folder", tmp_path / "writable", tmp_path / "single"
    folder.mkdir()
    writable.mkdir()
    (folder / "file").write_text("in the folder")
    single.write_text("by itself")
    policy = Policy(read_only=(str(folder), str(single)), read_write=(str(writable),))
    async with launch(policy=policy) as host:
        view = mounts(host.child_pid)
        root = f"/proc/{host.child_pid}/root"
        assert view.keys() == {"/", str(folder), str(single), str(writable)}
        for path in (folder, single):
            assert {"ro", "nosuid", "nodev"} <= view[str(path)]
        assert {"rw", "nosuid", "nodev"} <= view[str(writable)]
        assert Path(root + str(folder / "file")).read_text() == "in the folder"
        assert Path(root + str(single)).read_text() == "by itself"
        assert set(os.listdir(root + str(tmp_path))) == {"folder", "single", "writable"}
        for path in (folder / "new", single):
            with pytest.raises(OSError, match="Read-only"):
                Path(root + str(path)).write_text("x")
        Path(root + str(writable / "new")).write_text("through the view")
    assert (writable / "new").read_text() == "through the view"


async def test_devices_stay_without_programs() -> None:
    """A device of the policy is a mount of its own that refuses suid and execution."""
    async with launch(policy=Policy().allow_devices("/dev/null", DEVICES)) as host:
        view = mounts(host.child_pid)
        assert view.keys() == {"/", "/dev/null"}
        assert {"nosuid", "noexec"} <= view["/dev/null"]
        assert "nodev" not in view["/dev/null"]
        assert Path(f"/proc/{host.child_pid}/root/dev/null").is_char_device()


async def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A path of the policy that does not exist ends the launch with its name, and leaves no process."""
    missing = tmp_path / "missing"
    with nothing_left():
        with pytest.raises(LaunchError, match=f"{missing}.*No such file or directory") as caught:
            await launch(policy=Policy(read_only=(str(missing),))).__aenter__()
        assert (caught.value.stage, caught.value.errno) == (Stage.SEAL, errno.ENOENT)


async def test_what_the_host_mounts_later_is_not_seen(tmp_path: Path) -> None:
    """Two children have mount namespaces of their own, neither of which is the host's."""
    async with launch() as one, launch() as two:
        spaces = {os.readlink(f"/proc/{pid}/ns/mnt") for pid in ("self", one.child_pid, two.child_pid)}
    assert len(spaces) == 3
