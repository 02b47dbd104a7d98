"""Attacks that once worked, each with the rule that now keeps them out."""

from __future__ import annotations

import ctypes
import io
import os
import platform
import re
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from belljar import Policy, ProcessHost
from belljar.host.errors import ChildEnded, LaunchError, ProtectionError
from belljar.ipc.errors import RemoteError
from belljar.sandbox.backends import host_half, names
from belljar.sandbox.danger import COVERT_CHANNELS, DEVICES, NETWORK
from belljar.sandbox.launch import client
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import CovertChannel
from belljar.sandbox.probe import probe
from belljar.sandbox.protection import Operation, Verdict
from belljar.sandbox.seccomp.cache import folder_path
from belljar.sandbox.user import resolve_user

from ..helpers import CHANNEL_THREADS, descendants, launch

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks call by the numbers of x86_64"),
]

LEFTOVERS = Path(__file__).parent.parent / "children/leftovers.py"
CONFINING = tuple(name for name in names() if name != "none")
WITH_NAMESPACES = ("namespaces", "bubblewrap", "chrome-sandbox")

KEYS = Policy.compute().allow_covert_channels("keys", COVERT_CHANNELS)

on_confining = pytest.mark.parametrize("backend", CONFINING)
on_namespaces = pytest.mark.parametrize("backend", WITH_NAMESPACES)


def finder(backend: str = "namespaces", **fields: Any) -> ProcessHost:
    """Return a host for the plugin of these attacks."""
    return launch("finder.py:Finder", backend=backend, **fields)


# ---- the host is held ----


async def test_child_that_hangs_up_and_stays_is_killed() -> None:
    """A child that closes its channel and lives on is killed, and the call ends as if it had died."""
    async with finder() as host:
        with anyio.fail_after(5), pytest.raises(ChildEnded, match="closed its channel"):
            await host.call("hang_up_and_stay")


async def test_plugin_that_hangs_up_while_it_is_loaded_is_killed(tmp_path: Path) -> None:
    """A plugin whose module closes the channel and does not come back fails the launch, within its time."""
    source = "import os, signal\nos.closerange(3, 16)\nwhile True:\n    signal.pause()\n\n\nclass Plug:\n    pass\n"
    (tmp_path / "hangs_up.py").write_text(source)
    with anyio.fail_after(8), pytest.raises(LaunchError, match="closed its channel"):
        async with launch(str(tmp_path / "hangs_up.py") + ":Plug"):
            pass


async def test_output_without_end_does_not_hold_the_event_loop() -> None:
    """While a child writes faster than the host reads, the host's other tasks get their turns."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with finder() as host, anyio.create_task_group() as tasks:
        await host.call("flood")  # once before: starting threads and the first lines take their own time
        tasks.start_soon(count_turns)
        await checkpoint()
        turns = 0
        with anyio.fail_after(10):
            await host.call("flood")
        tasks.cancel_scope.cancel()
    assert turns > 20


async def test_socket_that_lingers_cannot_be_made() -> None:
    """A child with sockets cannot make one whose close, by the host that it sends it to, takes an hour."""
    policy = Policy.compute().allow_network("inet", NETWORK)
    async with finder(policy=policy, preload=("socket",)) as host:
        await host.call("linger", int(socket.AF_INET), int(socket.SO_KEEPALIVE))  # other options are allowed
        with pytest.raises(RemoteError, match="Permission denied"):
            await host.call("linger", int(socket.AF_INET), int(socket.SO_LINGER))


@on_namespaces
async def test_process_group_ends_at_the_pid_namespace(backend: str) -> None:
    """Nobody outside of a child's pid namespace is in its process group, which kill(0, ...) signals."""
    async with finder(backend) as host:
        pid = host.child_pid
        assert pid is not None
        group = [other for other in descendants(os.getpid()) if os.getpgid(other) == os.getpgid(pid)]
        assert pid in group
        assert {depth(other) for other in group} == {depth(pid)}


def depth(pid: int) -> int:
    """Return in how many pid namespaces a process has a number. Unlike ns/pid, anybody may read it of a helper."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(len(line.split()) for line in status.splitlines() if line.startswith("NSpid:"))


# ---- what early init leaves is outside of the seal ----


@on_confining
@pytest.mark.parametrize(
    ("step", "words"), [("process", "which early init started, is not sealed"), ("ring", "an io_uring")]
)
async def test_leftover_that_no_filter_reaches_fails_the_launch(backend: str, step: str, words: str) -> None:
    """A process or an io_uring that early init leaves is a broken promise, because the filter does not reach it."""
    with pytest.raises(ProtectionError, match=words) as caught:
        async with finder(backend, early_init=(f"{LEFTOVERS}:{step}",), preload=("ctypes",)):
            pass
    assert caught.value.layer is Layer.SECCOMP


@on_confining
async def test_no_orphan_of_early_init_outlives_the_seal(backend: str) -> None:
    """A process that early init has left to itself is found, or killed, before the plugin comes."""
    try:
        async with finder(backend, early_init=(f"{LEFTOVERS}:orphan",)) as host:
            session = os.getsid(host.child_pid or 0)
            left = [pid for pid in descendants(os.getpid()) if os.getsid(pid) == session and pid != host.child_pid]
            assert left == []
    except ProtectionError as error:
        assert error.layer is Layer.SECCOMP


@on_confining
async def test_names_of_threads_are_no_text_that_must_be_right(backend: str) -> None:
    """A thread whose name is not UTF-8 is read like any other."""
    steps = (f"{LEFTOVERS}:thread_with_half_a_letter",)
    async with finder(backend, early_init=steps, preload=("ctypes", "threading")) as host:
        assert host.protection is not None
        assert host.protection.threads == 2 + CHANNEL_THREADS


# ---- what belongs to others ----


@on_confining
async def test_environment_of_another_child_is_nowhere_in_memory(backend: str) -> None:
    """A child has no copy of what a child before it was given, although both were forked from one zygote."""
    secret = "xyzzy-" + os.urandom(8).hex()
    async with finder(backend, env={"TOKEN": secret}) as first:
        assert in_memory_of(first, secret)
        async with finder(backend) as second, finder(backend) as third:
            assert not in_memory_of(second, secret)
            assert not in_memory_of(third, secret)


def in_memory_of(host: ProcessHost, text: str) -> bool:
    """Tell whether *text* stands anywhere in the memory of a child."""
    maps = Path(f"/proc/{host.child_pid}/maps").read_text().splitlines()
    with open(f"/proc/{host.child_pid}/mem", "rb", buffering=0) as memory:
        return any(text.encode() in _area(memory, line) for line in maps if " r" in line[:40] and "[v" not in line)


def _area(memory: io.FileIO, line: str) -> bytes:
    low, high = (int(word, 16) for word in line.split()[0].split("-"))
    try:
        return os.pread(memory.fileno(), high - low, low)
    except OSError:  # mapped, and beyond the end of its file
        return b""


@pytest.mark.parametrize("backend", ["namespaces", "bubblewrap"])
async def test_key_of_the_host_cannot_be_read(backend: str) -> None:
    """A child that may use kernel keys does not have those of the host's session."""
    with session_key() as key:
        async with finder(backend, policy=KEYS, preload=("ctypes",)) as host:  # a zygote of this session
            with pytest.raises(RemoteError, match=r"Permission denied|Required key"):
                await host.call("key_of_host", key)


@contextmanager
def session_key() -> Iterator[int]:
    """Put a key into a new session keyring of this process, and give it a guard that inherits it; yield its number."""
    client.stop()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(250, 1, None) < 0:
        pytest.skip(f"this machine gives no session keyring: {os.strerror(ctypes.get_errno())}")
    key = libc.syscall(248, b"user", b"belljar-test", b"secret", ctypes.c_long(6), ctypes.c_long(-3))
    assert key > 0
    try:
        yield int(key)
    finally:
        client.stop()
        libc.syscall(250, 3, ctypes.c_long(key))  # KEYCTL_REVOKE


@on_namespaces
async def test_stdin_is_nothing_that_others_have(backend: str) -> None:
    """fd 0 is no file of the machine, whose mode or times a child could set."""
    async with finder(backend) as host:
        assert os.readlink(f"/proc/{host.child_pid}/fd/0").startswith("pipe:")


async def test_mode_of_a_device_cannot_be_set(tmp_path: Path) -> None:
    """A device node that the policy grants can be written, and keeps its mode even where its owner tries."""
    policy = Policy().allow_devices("/dev/null", DEVICES).allow_files_read_write(str(tmp_path))
    async with finder(policy=policy) as host:
        assert await host.call("write_without_truncation", "/dev/null") == 1
        with pytest.raises(RemoteError, match="Read-only file system"):
            await host.call("set_same_mode", "/dev/null")


@pytest.mark.parametrize("backend", ["namespaces", "bubblewrap"])
@pytest.mark.skipif(os.geteuid() != 0, reason="to mount takes root")
async def test_mount_inside_of_a_read_only_folder_is_read_only_too(backend: str, tmp_path: Path) -> None:
    """What is mounted below a path of the policy has the path's rights, not those that it had."""
    shown, writable = tmp_path / "shown", tmp_path / "writable"
    for folder in (shown / "inner", writable):
        folder.mkdir(parents=True)
    policy = Policy(read_only=(str(shown),), read_write=(str(writable),))
    with mounted(shown / "inner"):
        async with finder(backend, policy=policy) as host:
            await host.call("write", str(writable / "file"))
            with pytest.raises(RemoteError, match=r"Read-only file system|Permission denied"):
                await host.call("write", str(shown / "inner/file"))
            assert {"ro", "nodev"} <= options_of(host, shown / "inner")


@contextmanager
def mounted(path: Path) -> Iterator[None]:
    """Mount an empty file system, and have a zygote that sees it."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
    client.stop()
    try:
        yield
    finally:
        client.stop()
        subprocess.run(["umount", path], check=True)


def options_of(host: ProcessHost, path: Path) -> set[str]:
    """Return the options of a mount as the child sees it. See proc_pid_mountinfo(5)."""
    lines = Path(f"/proc/{host.child_pid}/mountinfo").read_text().splitlines()
    return next(set(line.split()[5].split(",")) for line in lines if line.split()[4] == str(path))


@on_confining
async def test_core_dumps_are_off_where_they_are_piped_too(backend: str) -> None:
    """The limit of core files is 1 byte: with 0, a kernel that pipes dumps to a program would still make one."""
    async with finder(backend) as host:
        limits = Path(f"/proc/{host.child_pid}/limits").read_text()
        assert re.search(r"Max core file size +1 +1 ", limits)


# ---- what a child writes is used against the next launch ----


@pytest.mark.parametrize("backend", ["namespaces", "bubblewrap", "landlock"])
async def test_link_in_a_path_of_the_policy_is_not_followed(backend: str, tmp_path: Path) -> None:
    """A link that one child puts where another policy names a path leads that other child nowhere."""
    shared, secret = tmp_path / "shared", tmp_path / "secret"
    for folder in (shared / "inner", secret):
        folder.mkdir(parents=True)
    (secret / "file").write_text("secret")
    async with finder(backend, policy=Policy(read_write=(str(shared),), threads=True)) as host:
        await host.call("replace_by_link", str(shared / "inner"), "../secret")
    assert (shared / "inner/file").read_text() == "secret"
    with pytest.raises(LaunchError, match="leads through a symbolic link"):
        async with finder(backend, policy=Policy(read_only=(str(shared / "inner"),))):
            pass


@pytest.mark.parametrize("backend", ["namespaces", "landlock"])
async def test_link_that_comes_after_the_check_is_not_followed(backend: str, tmp_path: Path) -> None:
    """A link that takes a granted path's place during a launch, in early init at the latest, fails the seal."""
    (tmp_path / "shown").mkdir()
    (tmp_path / "swap.py").write_text(
        "import os\n\n\ndef swap():\n"
        f"    os.rmdir({str(tmp_path / 'shown')!r})\n    os.symlink('/etc', {str(tmp_path / 'shown')!r})\n"
    )
    policy = Policy(read_only=(str(tmp_path / "shown"),))
    with pytest.raises(LaunchError, match="Too many levels of symbolic links"):
        async with finder(backend, policy=policy, early_init=(f"{tmp_path}/swap.py:swap",)):
            pass


def places_of_code(tmp_path: Path) -> dict[str, Path]:
    """Return folders that no child may write, by what they hold."""
    here = Path(client.__file__).resolve().parent
    return {
        "a part of belljar": here,
        "all of belljar": here.parents[2],
        "the interpreter's packages": Path(sysconfig.get_paths()["purelib"]),
        "the filters": Path(folder_path() or "/nowhere"),
        "what holds the filters": Path(folder_path() or "/nowhere").parent,
        "a warm-up": tmp_path / "warm",
    }


@pytest.mark.parametrize("what", places_of_code(Path("/")))
async def test_policy_that_lets_a_child_write_unsealed_code_is_refused(what: str, tmp_path: Path) -> None:
    """No policy lets a child change what runs unsealed, or the filters of later children."""
    (tmp_path / "warm").mkdir()
    (tmp_path / "warm/up.py").write_text("def nothing():\n    pass\n")
    place = os.path.realpath(places_of_code(tmp_path)[what])
    with pytest.raises(LaunchError, match="grant less"):
        async with finder(policy=Policy(read_write=(place,)), early_init=(f"{tmp_path}/warm/up.py:nothing",)):
            pass


@pytest.mark.parametrize("entry", ["", "."])
async def test_folder_that_imports_find_by_no_name_is_not_granted(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's current folder is not the child's to write where the host imports from it, as `python -c` does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry, *sys.path])
    with pytest.raises(LaunchError, match="grant less"):
        async with finder(policy=Policy(read_write=(os.path.realpath(tmp_path),))):
            pass


# ---- what is said of a child ----


@pytest.mark.parametrize("backend", ["namespaces", "bubblewrap"])
async def test_report_tells_of_programs_that_the_child_writes(backend: str, tmp_path: Path) -> None:
    """Where a child can execute what it has written itself, no row says that new code is refused."""
    (tmp_path / "file").write_text("x")
    async with finder(backend, policy=Policy(read_only=(str(tmp_path),), subprocesses=True)) as host:
        executed = await host.call("execute_own_program", returns=int) == 42
        assert host.protection is not None
        for operation in (Operation.EXECUTE, Operation.EXECUTABLE_MEMORY):
            verdict = host.protection.operation(operation).verdict
            assert verdict is (Verdict.PARTLY if executed else Verdict.ENFORCED)


async def test_words_of_a_child_break_no_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A name that the child reports is logged on one line, without what a terminal would obey."""
    async with finder() as host:
        await host.call("forge_log_line")
    messages = [record.getMessage() for record in caplog.records if "was refused import" in record.getMessage()]
    assert len(messages) == 1
    assert messages[0].isprintable()
    assert "CRITICAL forged" in messages[0]


@pytest.mark.parametrize("channel", ["keys", "sysv-ipc", "posix-queues"])
@pytest.mark.parametrize("backend", ["chrome-sandbox", "landlock", "seccomp"])
def test_names_of_all_are_not_granted_without_namespaces(backend: str, channel: CovertChannel) -> None:
    """Keys and IPC objects are refused where no namespace keeps those of the machine away."""
    policy = Policy().allow_covert_channels(channel, COVERT_CHANNELS)
    machine = probe(resolve_user(""))
    assert "of the child's user" in host_half(backend).unable(policy, machine)
    assert host_half("namespaces").unable(policy, machine) == host_half("bubblewrap").unable(policy, machine) == ""
