"""Files that a policy grants: these and none beside them, on every backend that can tell files apart.

Drawn from Sandbox2's FileNamespaceWorks, ReadOnlyIsRespected and TestMultipleInsertion, minijail's
LandlockTest.test_rule_{ro,rw}_{allow,deny}, birdcage's fs_symlink_dir_separate_perms, sandlock's
denied_path_{hardlink,symlink,truncate}_blocked, hakoniwa's bindmount_ro_container_path_nested, and Gecko's
SandboxBrokerPolicyLookup (a prefix is no match, no ``..``).
"""

from __future__ import annotations

import functools
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from belljar.host.errors import ConfigError, LaunchError
from belljar.ipc.stage import Stage
from belljar.sandbox.backends import host_half
from belljar.sandbox.policy import Policy
from belljar.sandbox.protection import Operation, Protection

from ..helpers import launch, require
from .observe import PLUGIN, PRELOAD, able, dangerous, once, refused_by_report

Attempt = tuple[str, tuple[Any, ...]]

GRANTED: dict[str, tuple[Attempt, object]] = {
    "a file": (("read", ("read/file",)), "content"),
    "a file in a folder": (("read", ("read/sub/deep",)), "deep"),
    "a name with spaces and letters": (("read", ("read/with spaces äöü 文.txt",)), "odd"),
    "a single file": (("read", ("single/file",)), "single"),
    "a link inside": (("read", ("read/inner link",)), "deep"),
    "a listing": (("listing", ("read/sub",)), ["deep"]),
    "a size": (("size", ("read/file",)), 7),
    "a writable file": (("read", ("write/old",)), "old"),
    "a writable folder in a read-only one": (("create", ("read/inner write/new", "inner")), 5),
    "a new file": (("create", ("write/new", "new")), 3),
    "writing": (("write", ("write/old", "OLD")), 3),
    "reading what was written": (("read", ("write/old",)), "OLD"),
    "a new folder": (("mkdir", ("write/folder",)), None),
    "a file in a new folder": (("create", ("write/folder/file", "in it")), 5),
    "renaming": (("rename", ("write/new", "write/renamed")), None),
    "removing": (("unlink", ("write/third",)), None),
    "a mode": (("chmod", ("write/renamed", 0o640)), None),
}
"""What must work, in this order."""

BESIDE: dict[str, tuple[Attempt, Operation]] = {
    "a folder beside": (("read", ("secret/file",)), Operation.READ_FILE),
    "a folder with the same beginning": (("read", ("read-not/file",)), Operation.READ_FILE),
    "dots that lead out": (("read", ("read/../secret/file",)), Operation.READ_FILE),
    "the file beside a single one": (("read", ("single/other",)), Operation.READ_FILE),
    "a link that leads out": (("read", ("read/outer link",)), Operation.READ_FILE),
    "a link through a linked folder": (("read", ("read/outer folder/file",)), Operation.READ_FILE),
    "a link of its own that leads out": (("link_and_read", ("secret/file", "write/made link")), Operation.READ_FILE),
    "a hard link to what is beside": (("hard_link_and_read", ("secret/file", "write/hard")), Operation.READ_FILE),
    "a listing beside": (("listing", ("secret",)), Operation.LIST_DIRECTORY),
    "the passwords": (("read", ("/etc/passwd",)), Operation.READ_FILE),
    "its own maps": (("read", ("/proc/self/maps",)), Operation.READ_FILE),
    "writing read-only": (("write", ("read/file", "x")), Operation.WRITE_FILE),
    "writing a single read-only file": (("write", ("single/file", "x")), Operation.WRITE_FILE),
    "writing through a link": (("write", ("write/link to read", "x")), Operation.WRITE_FILE),
    "creating in read-only": (("create", ("read/new", "x")), Operation.WRITE_FILE),
    "creating beside": (("create", ("secret/new", "x")), Operation.WRITE_FILE),
    "truncating read-only": (("truncate_while_reading", ("read/file",)), Operation.WRITE_FILE),
    "removing read-only": (("unlink", ("read/file",)), Operation.WRITE_FILE),
    "renaming out": (("rename", ("read/file", "write/moved")), Operation.WRITE_FILE),
    "a set-id file": (("create", ("write/set-id", "x", 0o4755)), Operation.WRITE_FILE),
    "a set-id bit": (("chmod", ("write/old", 0o4755)), Operation.WRITE_FILE),
    "executing what it wrote": (("run", ("write/old",)), Operation.EXECUTE),
}
"""What must be refused, and the line of the report that says so."""

REFUSALS = {"EACCES", "EPERM", "EROFS", "ENOENT", "EXDEV"}


@dataclass
class Visit:
    """What came of each attempt, and the folder as the child left it, by name: content, mode, uid, gid."""

    protection: Protection
    found: dict[str, Any]
    left: dict[str, tuple[str, int, int, int]]


def furnish(folder: Path) -> None:
    """Make the tree that the attempts speak of."""
    for name in ("read/sub", "read/inner write", "write", "single", "secret", "read-not"):
        (folder / name).mkdir(parents=True)
    contents = {"read/file": "content", "read/sub/deep": "deep", "read/with spaces äöü 文.txt": "odd"}
    contents |= {"single/file": "single", "single/other": "other", "secret/file": "secret", "read-not/file": "secret"}
    for name, text in (contents | {"write/old": "old", "write/third": "third"}).items():
        (folder / name).write_text(text)
    links = {"read/inner link": "sub/deep", "read/outer link": "../secret/file", "read/outer folder": "../secret"}
    for name, target in (links | {"write/link to read": "../read/file"}).items():
        (folder / name).symlink_to(target)


def policy_for(folder: Path) -> Policy:
    """Return the policy that grants some of the tree."""
    return Policy(
        threads=True,
        read_only=(str(folder / "read"), str(folder / "single/file")),
        read_write=(str(folder / "write"), str(folder / "read/inner write")),
    )


def within(folder: Path, attempt: Attempt) -> tuple[str, list[Any]]:
    """Return *attempt* with its paths below *folder*; contents and modes stay as they are."""
    verb, (path, *rest) = attempt
    if verb in ("rename", "link_and_read", "hard_link_and_read"):
        rest = [f"{folder}/{rest[0]}"]
    return verb, [os.path.join(folder, path), *rest]


@functools.cache
def visit(backend: str, loop: str) -> Visit:
    """Have one child under *backend* make all attempts."""
    attempts = {name: attempt for name, (attempt, _) in (*GRANTED.items(), *BESIDE.items())}
    attempts["the folder of all"] = ("listing", ("",))

    async def run(folder: Path) -> tuple[Protection, dict[str, Any]]:
        async with launch(PLUGIN, backend=backend, preload=PRELOAD, policy=policy_for(folder)) as host:
            work = [within(folder, attempt) for attempt in attempts.values()]
            found = await host.call("reach", work, returns=dict[str, Any])
            assert host.protection is not None
            return host.protection, dict(zip(attempts, found.values(), strict=True))

    with tempfile.TemporaryDirectory(prefix="granted files ä ") as name:
        folder = Path(name)
        furnish(folder)
        protection, found = anyio.run(run, folder, backend=loop)
        return Visit(protection, found, dict(_contents(folder)))


def _contents(folder: Path) -> Iterator[tuple[str, tuple[str, int, int, int]]]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found = path.stat()
            yield (
                str(path.relative_to(folder)),
                (path.read_text(), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid),
            )


@pytest.fixture(scope="module")
def visited(backend: str, anyio_backend: str) -> Visit:
    """What one child of the backend came to."""
    able(backend, policy_for(Path("/srv")))
    return visit(backend, anyio_backend)


def keeps_modes(visited: Visit) -> bool:
    """Whether the filter refuses to change modes at all: without a mount namespace nothing says of which files."""
    return host_half(visited.protection.backend).own_pid_only and visited.protection.backend != "none"


@pytest.mark.parametrize("name", GRANTED)
def test_what_is_granted_works(visited: Visit, name: str) -> None:
    """Files and folders that the policy names can be read, written, made and removed, as it says."""
    assert visited.found[name] == ("EACCES" if name == "a mode" and keeps_modes(visited) else GRANTED[name][1])


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_beside_is_refused(visited: Visit, name: str) -> None:
    """No way leads from what is granted to what is not: no dots, no links, no flags, no bits."""
    refused_by_report(visited.protection, BESIDE[name][1])
    assert visited.found[name] in REFUSALS


def test_the_folder_around_shows_only_what_is_granted(visited: Visit) -> None:
    """The folder that holds the granted ones cannot be listed, or shows no other name."""
    refused_by_report(visited.protection, Operation.LIST_DIRECTORY)
    found = visited.found["the folder of all"]
    assert found == ["read", "single", "write"] or str(found) in REFUSALS


def test_the_host_sees_what_the_child_wrote(visited: Visit) -> None:
    """New and changed files are there for the host, with the child's user as their owner and the modes it gave."""
    umask = os.umask(0)
    os.umask(umask)
    owner = (os.geteuid(), os.getegid())
    mode = 0o666 & ~umask if keeps_modes(visited) else 0o640
    assert visited.left["write/renamed"] == ("new", mode, *owner)
    assert visited.left["write/folder/file"] == ("in it", 0o666 & ~umask, *owner)
    assert visited.left["read/inner write/new"] == ("inner", 0o666 & ~umask, *owner)
    assert "write/third" not in visited.left


def test_the_host_finds_the_rest_as_it_was(visited: Visit) -> None:
    """What was not granted for writing has its old content."""
    refused_by_report(visited.protection, Operation.WRITE_FILE)
    old = {"read/file": "content", "single/file": "single", "secret/file": "secret", "single/other": "other"}
    assert {name: visited.left[name][0] for name in old} == old
    assert {"secret/new", "read/new", "write/moved", "write/set-id"} & set(visited.left) == set()


def test_the_report_names_what_is_granted(visited: Visit) -> None:
    """Whoever reads the report sees the paths beside the verdict."""
    assert "/single/file" in visited.protection.operation(Operation.READ_FILE).granted
    assert "/write" in visited.protection.operation(Operation.WRITE_FILE).granted


@pytest.mark.anyio
async def test_a_device_can_be_used_and_no_other(backend: str) -> None:
    """A granted device node is readable and writable; its neighbours in /dev are not there."""
    policy = dangerous(threads=True, devices=("/dev/zero",))
    able(backend, policy)
    attempts = [("read_bytes", ["/dev/zero", 4]), ("write", ["/dev/zero", "x"])]
    attempts += [("read_bytes", [f"/dev/{name}", 1]) for name in ("full", "urandom")]
    async with launch(PLUGIN, backend=backend, preload=PRELOAD, policy=policy) as host:
        found = list((await host.call("reach", attempts, returns=dict[str, Any])).values())
        assert host.protection is not None
    assert found[:2] == [bytes(4), 1]
    refused_by_report(host.protection, Operation.READ_FILE)
    assert set(found[2:]) <= REFUSALS


@pytest.mark.anyio
async def test_a_read_only_path_in_a_writable_one_is_a_contradiction(backend: str, tmp_path: Path) -> None:
    """What one rule takes and another gives is refused before anything starts, in the same words everywhere."""
    policy = Policy(read_write=(str(tmp_path),), read_only=(f"{tmp_path}/inner",))
    with pytest.raises(ConfigError, match=r"read_only: '.*/inner' is inside .* and would be writable; move one"):
        await once(PLUGIN, backend=backend, policy=policy)


@pytest.mark.anyio
async def test_a_path_that_is_not_there_is_an_error(backend: str, tmp_path: Path) -> None:
    """A policy that names a path that does not exist does not come to a seal: it means something else."""
    policy = Policy(threads=True, read_only=(f"{tmp_path}/missing",))
    able(backend, policy)
    with pytest.raises(LaunchError, match=r"/missing.*No such file or directory|No such file or directory.*/missing"):
        refused_by_report(await once(PLUGIN, backend=backend, preload=PRELOAD, policy=policy), Operation.READ_FILE)


READS, WRITES = Policy(read_only=("/usr",)), Policy(read_write=("/tmp",))
USES, REACHES = dangerous(devices=("/dev/zero",)), dangerous(network=("inet",))
UNABLE = [(backend, policy) for backend in ("chrome-sandbox", "seccomp") for policy in (READS, WRITES, USES)]


@pytest.mark.anyio
@pytest.mark.parametrize(("backend", "policy"), [*UNABLE, ("chrome-sandbox", REACHES)])
async def test_a_backend_that_cannot_keep_a_policy_says_so(backend: str, policy: Policy) -> None:
    """It refuses at stage 1 instead of granting more, in a sentence with the policy's key and what to do."""
    require(backend)
    key = next(key for key in ("read_only", "read_write", "devices", "network") if getattr(policy, key))
    remedy = "choose another backend, or take that out of the policy"
    with pytest.raises(LaunchError, match=rf"{key} = .*{remedy}") as caught:
        await once(PLUGIN, backend=backend, policy=policy)
    assert caught.value.stage is Stage.PREPARE
    assert "\n" not in str(caught.value)
