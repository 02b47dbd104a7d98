"""Ways out of, or around, the backends without namespaces that were found once; each attack worked before its fix."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
from pathlib import Path

import anyio
import pytest

from belljar.host.choose import choose
from belljar.host.errors import ChildEnded, LaunchError
from belljar.host.process_host import ProcessHost
from belljar.ipc.errors import ResultError
from belljar.sandbox.backends import host_half
from belljar.sandbox.danger import COVERT_CHANNELS, SYSCALLS
from belljar.sandbox.errors import SandboxError
from belljar.sandbox.launch import client
from belljar.sandbox.policy import CovertChannel, Limits, Policy
from belljar.sandbox.probe import Machine, explain, probe
from belljar.sandbox.protection import Operation, Verdict
from belljar.sandbox.seccomp.compile import compile_policy

from ..helpers import SOON, await_end, children_of, descendants, guard_of, held, launch, process, write_plugin

pytestmark = pytest.mark.anyio

PRELOAD = ("ctypes", "socket", "array", "fcntl")
FORKED = ("namespaces", "landlock", "seccomp")
FORKING = Policy.compute().allow_subprocesses()


def machine_for(backend: str) -> Machine:
    """Return this machine; skip where *backend* does not work on it."""
    machine = probe()
    if missing := explain(machine.missing(host_half(backend).requires)):
        pytest.skip(missing)
    return machine


def loose(backend: str, policy: Policy | None = None) -> ProcessHost:
    machine_for(backend)
    given = Policy.compute() if policy is None else policy
    return launch("loose_ends.py:LooseEnds", backend=backend, policy=given, preload=PRELOAD)


def pid_of(host: ProcessHost) -> int:
    assert host.child_pid is not None
    return host.child_pid


def verdict(host: ProcessHost, operation: Operation) -> Verdict:
    assert host.protection is not None
    return host.protection.operation(operation).verdict


@pytest.mark.alone
async def test_a_child_cannot_keep_others_from_sending_fds() -> None:
    """However many fds a child leaves on their way, its zygote, its host and its siblings live on."""
    for backend in FORKED:
        async with loose(backend) as victim:
            async with loose(backend) as attacker:
                assert await attacker.call("fill_the_way", returns=str) in ("ETOOMANYREFS", "EMFILE")
                assert await victim.call("seen_flags") == 0
                try:
                    assert len(await victim.call("blob", 100_000, returns=bytes)) == 100_000
                except ResultError as error:
                    assert "could not send" in str(error)
                assert await victim.call("seen_flags") == 0
            assert len(await victim.call("blob", 100_000, returns=bytes)) == 100_000


async def test_a_child_has_fewer_fds_than_its_host() -> None:
    """The kernel measures fds on their way by the limit of the sender, so a child's is far below that of its host."""
    many = Policy().with_limits(open_files=1 << 20)
    own = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for policy in (Policy(), many):
        async with loose("seccomp", policy) as host:
            limit = resource.prlimit(pid_of(host), resource.RLIMIT_NOFILE)
            assert limit[0] == limit[1] <= own // 2


async def test_siblings_share_no_open_file() -> None:
    """The flags of an open file are a channel between all that share it, and children of one zygote share none."""
    for backend in FORKED:
        async with loose(backend, Policy()) as one, loose(backend, Policy()) as other:
            await one.call("signal_by_flag", os.O_APPEND)
            assert await other.call("seen_flags") == 0
            assert await one.call("seen_flags") == os.O_APPEND


async def test_landlock_leaves_modes_and_times_alone(tmp_path: Path) -> None:
    """A child under landlock changes no mode and no time: neither of files that it may read nor of any other."""
    foreign, readable = tmp_path / "foreign", tmp_path / "read" / "file"
    readable.parent.mkdir()
    (tmp_path / "write").mkdir()
    for path in (foreign, readable):
        path.write_text("content")
    found = [path.stat() for path in (foreign, readable)]
    before = [(each.st_mode, each.st_mtime, each.st_size) for each in found]
    policy = Policy().allow_files(str(readable.parent)).allow_files_read_write(str(tmp_path / "write"))
    async with loose("landlock", policy) as host:
        outcomes = await host.call("change", str(foreign), str(readable), returns=dict[str, str])
        assert set(outcomes.values()) == {"EACCES"}, outcomes
        assert verdict(host, Operation.STAT) is Verdict.OPEN
    after = [path.stat() for path in (foreign, readable)]
    assert [(each.st_mode, each.st_mtime, each.st_size) for each in after] == before


async def test_a_child_with_subprocesses_moves_no_other_process() -> None:
    """The right to signal its own processes is none to say on which processors the host may run."""
    async with loose("landlock", FORKING) as host:
        assert await host.call("move", os.getpid(), returns=str) == "ENOSYS"
        assert await host.call("move", 0, returns=str) == "done"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the program is one for x86_64")
async def test_without_executable_memory_no_program_runs(tmp_path: Path) -> None:
    """A program brings executable memory that no filter sees mapped, so it takes that right to execute one."""
    policy = FORKING.allow_files_read_write(str(tmp_path))
    for backend in ("landlock", "namespaces"):
        (tmp_path / "native").unlink(missing_ok=True)
        async with loose(backend, policy) as host:
            codes = await host.call("run_native", str(tmp_path), returns=dict[str, int])
            assert 7 not in codes.values(), codes
            assert verdict(host, Operation.EXECUTE) is Verdict.ENFORCED


@pytest.mark.parametrize("channel", ["keys", "sysv-ipc", "posix-queues"])
@pytest.mark.parametrize("backend", ["chrome-sandbox", "landlock", "seccomp"])
def test_what_belongs_to_the_whole_user_is_refused(backend: str, channel: CovertChannel) -> None:
    """Without a namespace for it, a channel between children would be one into all processes of the user."""
    policy = Policy().allow_covert_channels(channel, COVERT_CHANNELS)
    assert channel in host_half(backend).unable(policy, probe())
    with pytest.raises(SandboxError):
        choose(process(backend=backend, policy=policy), probe())


@pytest.mark.parametrize("backend", ["landlock", "seccomp"])
def test_watching_is_refused_where_nothing_limits_the_paths(backend: str) -> None:
    """Names of files in any folder come through inotify, which neither a filter nor landlock limits to paths."""
    policy = Policy().allow_syscalls(("inotify_init1", "inotify_add_watch"), SYSCALLS)
    assert "inotify_add_watch" in host_half(backend).unable(policy, probe())


def test_writing_takes_a_landlock_that_knows_truncate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before ABI 3 a child that may write somewhere could truncate every file of its user."""
    machine_for("landlock")
    policy = Policy().allow_files_read_write("/srv")
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", "landlock-abi=2")
    assert "truncate" in host_half("landlock").unable(policy, probe())
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", "")
    assert not host_half("landlock").unable(policy, probe())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="calls by the numbers of x86_64")
async def test_keys_are_not_those_of_the_host() -> None:
    """A child that may use keys has a session keyring of its own, and none of the secrets in that of the host."""
    libc = ctypes.CDLL(None, use_errno=True)
    name = f"belljar-test-{os.getpid()}"
    libc.syscall.restype = ctypes.c_long
    if libc.syscall(248, b"user", name.encode(), b"secret", 6, ctypes.c_long(-3)) < 0:
        pytest.skip(f"this process may have no key: {os.strerror(ctypes.get_errno())}")
    client.stop()
    client.guard()  # from this thread: a session keyring belongs to a thread, and is passed on by fork
    policy = Policy.compute().allow_covert_channels("keys", COVERT_CHANNELS)
    for backend in ("none", "namespaces"):
        async with loose(backend, policy) as host:
            assert await host.call("read_key", name, returns=str) == ("done" if backend == "none" else "ENOKEY")


@pytest.mark.parametrize("victim", ["guard", "zygote", "child"])
async def test_what_subprocesses_leave_behind_ends_too(victim: str) -> None:
    """Whichever process of the tree is killed, no process that the child started and left outlives it."""
    host = await loose("landlock", FORKING).__aenter__()
    try:
        await host.call("leave_daemons")
        guard = guard_of(os.getpid())
        zygote = next(pid for pid in children_of(guard) if pid_of(host) in descendants(pid))
        siblings = {pid for pid in children_of(zygote) if os.getsid(pid) != pid}
        with held({*siblings, *children_of(pid_of(host))}) as left:
            assert len(left) >= 1
            os.kill({"guard": guard, "zygote": zygote, "child": pid_of(host)}[victim], signal.SIGKILL)
            await_end(left, SOON * 3)
    finally:
        await host.__aexit__(None, None, None)


@pytest.mark.parametrize("backend", ["namespaces", "seccomp", "none"])
async def test_a_child_that_hangs_up_and_lives_on_is_killed(backend: str) -> None:
    """The end of the channel is the end of the child: one that goes on without it cannot hold a call for ever."""
    async with loose(backend) as host:
        with anyio.fail_after(10), pytest.raises(ChildEnded, match="it closed its channel and did not end"):
            await host.call("hang_up", timeout=5)


async def test_a_plugin_that_hangs_up_while_it_is_loaded_is_killed(tmp_path: Path) -> None:
    """Nor can it hold a launch."""
    machine_for("namespaces")
    plugin = write_plugin(tmp_path, "import os, signal\nos.closerange(3, 64)\nsignal.pause()\nclass Plug: pass\n")
    with anyio.fail_after(10), pytest.raises(LaunchError, match="it closed its channel and did not end"):
        await launch(plugin).__aenter__()


@pytest.mark.alone
@pytest.mark.skipif(os.geteuid() == 0, reason="root does not heed RLIMIT_NPROC, so that a bomb would know no end")
async def test_a_fork_bomb_ends_with_its_child() -> None:
    """What forks as fast as it is killed is stopped first, so that the zygote can serve its other children again."""
    running = sum(path.stat().st_uid == os.geteuid() for path in Path("/proc").glob("[0-9]*/task/*"))
    policy = FORKING.with_limits(processes=running + 60)
    async with loose("landlock") as sibling:
        async with loose("landlock", policy) as host:
            await host.call("bomb")
        assert await sibling.call("seen_flags") == 0
        async with loose("landlock") as next_one:
            assert await next_one.call("seen_flags") == 0


def test_the_filter_of_a_policy_is_checked() -> None:
    """A policy that was made without a check is checked before it becomes a filter."""
    with pytest.raises(SandboxError):
        compile_policy(Policy(covert_channels=("keys",), limits=Limits()), listener=False)
