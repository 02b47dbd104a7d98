"""Landlock's rules: what each ABI can do of a wish, and what the kernel then refuses, in processes of their own."""

from __future__ import annotations

import errno
import fcntl
import json
import operator
import os
import signal
import socket
import termios
import threading
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.sandbox import confine, landlock
from belljar.sandbox.landlock import FEATURES, LATEST_ABI, Wish, grant, inner, outer, restrict
from belljar.sandbox.policy import Family, Policy
from belljar.sandbox.probe import probe
from belljar.sandbox.probes.forked import in_fork
from belljar.sandbox.steps import StepFailed

NAMES = tuple(feature.name for feature in FEATURES)
ABI_OF = {feature.name: feature.abi for feature in FEATURES}
EVERY_FS = reduce(operator.or_, (feature.fs for feature in FEATURES))
READ = landlock.FS_READ_FILE | landlock.FS_READ_DIR

Attempt = Callable[[], object]


@pytest.fixture(autouse=True)
def _no_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BELLJAR_FAKE_MISSING", raising=False)


def abi_here(at_least: int) -> int:
    """Return the kernel's ABI; skip where it is older than *at_least*."""
    if probe().landlock_abi < at_least:
        pytest.skip(f"needs landlock's ABI {at_least}, this kernel has {probe().landlock_abi}")
    return probe().landlock_abi


def errnos(attempts: dict[str, Attempt]) -> dict[str, str]:
    """Make each attempt; the errno of what failed, empty for success."""
    found: dict[str, str] = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            found[name] = ""
        except OSError as error:
            found[name] = errno.errorcode[error.errno or 0]
    return found


def under(wish: Wish, abi: int, **attempts: Attempt) -> dict[str, str]:
    """Make the attempts in a forked process that *wish* restricts with *abi*."""

    def restricted() -> str:
        confine.forbid_new_privileges()
        restrict(wish, abi)
        return json.dumps(errnos(attempts))

    found: dict[str, str] = json.loads(in_fork(restricted))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two folders with a file in each."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("content")
    return tmp_path


def touching(folder: Path) -> dict[str, Attempt]:
    """Return an attempt for each access of the first ABI that anybody may have."""
    file = folder / "file"

    def bind() -> None:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(folder / "socket"))

    return {
        "read": file.read_text,
        "write": lambda: os.close(os.open(file, os.O_WRONLY)),
        "list": lambda: os.listdir(folder),
        "execute": lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
        "make folder": lambda: os.mkdir(folder / "folder"),
        "remove folder": lambda: os.rmdir(folder / "folder"),
        "make file": (folder / "made").touch,
        "make fifo": lambda: os.mkfifo(folder / "fifo"),
        "make link": lambda: os.symlink("file", folder / "link"),
        "make socket": bind,
        "remove file": file.unlink,
    }


def refused_all(attempts: dict[str, Attempt], number: str) -> dict[str, str]:
    """Return what `under` gives if each is refused with *number*."""
    return dict.fromkeys(attempts, number)


def test_files_are_denied(folder: Path) -> None:
    """Feature ``file``: no access at all is left to what has no rule."""
    attempts = touching(folder / "a") | {"remove folder": lambda: os.rmdir(folder / "b")}
    assert under(Wish(("file",)), abi_here(1), **attempts) == refused_all(attempts, "EACCES")


def test_files_are_open_without_the_feature(folder: Path) -> None:
    """A wish without ``file`` leaves files as they were."""
    attempts = touching(folder / "a")
    assert under(Wish(("tcp",)), abi_here(4), **attempts) == refused_all(attempts, "")


def test_a_rule_opens_a_folder_and_nothing_beside_it(folder: Path) -> None:
    """What a rule allows holds below its folder only."""
    wish = Wish(("file",), ((str(folder / "a"), EVERY_FS), ("/", landlock.FS_EXECUTE | landlock.FS_READ_FILE)))
    attempts = touching(folder / "a") | {"neighbour": lambda: os.listdir(folder / "b")}
    found = under(wish, abi_here(1), **attempts)
    assert found.pop("neighbour") == "EACCES"
    assert set(found.values()) == {""}


def test_a_rule_may_name_a_file(folder: Path) -> None:
    """A path that is a file gets the accesses that a file can have; its neighbour gets none."""
    (folder / "a" / "other").write_text("content")
    wish = inner(Policy(read_only=(str(folder / "a" / "file"),)))
    found = under(
        wish,
        abi_here(1),
        read=(folder / "a" / "file").read_text,
        write=lambda: os.close(os.open(folder / "a" / "file", os.O_WRONLY)),
        other=(folder / "a" / "other").read_text,
        list=lambda: os.listdir(folder / "a"),
    )
    assert found == {"read": "", "write": "EACCES", "other": "EACCES", "list": "EACCES"}


def test_a_path_that_does_not_exist_is_an_error(folder: Path) -> None:
    """A policy whose path is gone means something else than it says, so the process is not restricted but fails."""
    wish = inner(Policy(read_only=(str(folder / "gone"),)))
    with pytest.raises(StepFailed, match=f"could not allow {folder}/gone in landlock: No such file") as caught:
        under(wish, abi_here(1))
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize(("access", "expected"), [(EVERY_FS & ~landlock.FS_REFER, "EXDEV"), (EVERY_FS, "")])
def test_moving_between_folders(access: int, expected: str, folder: Path) -> None:
    """Feature ``refer``: a file moves from folder to folder only where a rule says so for both."""
    wish = Wish(("file", "refer"), ((str(folder / "a"), access), (str(folder / "b"), access)))
    found = under(wish, abi_here(2), move=lambda: os.rename(folder / "a" / "file", folder / "b" / "moved"))
    assert found == {"move": expected}


@pytest.mark.parametrize(("feature", "expected"), [("truncate", "EACCES"), ("ioctl", "")])
def test_truncating(feature: str, expected: str, folder: Path) -> None:
    """Feature ``truncate``: neither truncate(2) nor O_TRUNC; without it both."""
    file = folder / "a" / "file"
    found = under(
        Wish((feature,)),
        abi_here(5),
        truncate=lambda: os.truncate(file, 0),
        open=lambda: os.close(os.open(file, os.O_WRONLY | os.O_TRUNC)),
    )
    assert found == {"truncate": expected, "open": expected}


@pytest.mark.parametrize(("feature", "expected"), [("ioctl", "EACCES"), ("truncate", "ENOTTY")])
def test_ioctl_of_a_device(feature: str, expected: str) -> None:
    """Feature ``ioctl``: a device that is opened from now on takes none; without it, /dev/null answers for itself."""

    def ask() -> None:
        with open("/dev/null", "rb") as device:
            fcntl.ioctl(device, termios.TIOCGWINSZ, bytes(8))

    assert under(Wish((feature,)), abi_here(5), ask=ask) == {"ask": expected}


@pytest.mark.parametrize(("feature", "bound", "connected"), [("tcp", "EACCES", "EACCES"), ("log", "", "ECONNREFUSED")])
def test_tcp(feature: str, bound: str, connected: str) -> None:
    """Feature ``tcp``: neither to bind nor to connect; a socket may still be made."""
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    found = under(
        Wish((feature,)),
        abi_here(7),
        bind=lambda: socket.socket().bind(("127.0.0.1", 0)),
        connect=lambda: socket.create_connection(("127.0.0.1", port)),
    )
    assert found == {"bind": bound, "connect": connected}


@pytest.mark.parametrize(("feature", "expected"), [("abstract-socket-scope", "EPERM"), ("signal-scope", "")])
def test_abstract_sockets(feature: str, expected: str) -> None:
    """Feature ``abstract-socket-scope``: none that was made outside can be connected to."""
    name = f"\0belljar-test-{os.getpid()}"

    def connect() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(name)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        assert under(Wish((feature,)), abi_here(6), connect=connect) == {"connect": expected}


@pytest.mark.parametrize(("feature", "expected"), [("signal-scope", "EPERM"), ("abstract-socket-scope", "")])
def test_signals(feature: str, expected: str) -> None:
    """Feature ``signal-scope``: no signal leaves; the process itself can still be reached."""
    outside = os.getpid()
    found = under(
        Wish((feature,)),
        abi_here(6),
        outside=lambda: os.kill(outside, 0),
        itself=lambda: os.kill(os.getpid(), signal.SIGURG),
    )
    assert found == {"outside": expected, "itself": ""}


def test_older_threads_are_not_held(folder: Path) -> None:
    """Before ABI 8, a thread that was there before the seal still reads files: the limit that the report tells of."""
    if abi_here(1) >= 8:
        pytest.skip("this kernel's landlock reaches all threads")
    assert by_an_older_thread(inner(Policy()), (folder / "a" / "file").read_text) == ["EACCES", ""]


def test_the_outer_ruleset_holds_all_later_threads() -> None:
    """What was denied while there was one thread is denied to every thread that begins later."""
    abi, outside = abi_here(6), os.getpid()

    def restricted() -> str:
        confine.forbid_new_privileges()
        restrict(outer(), abi)
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(errnos({"kill": lambda: os.kill(outside, 0)})["kill"]))
        thread.start()
        thread.join()
        return found[0]

    assert in_fork(restricted) == "EPERM"


def by_an_older_thread(wish: Wish, attempt: Attempt) -> list[str]:
    """Restrict a process that has two threads; return what *attempt* gives in the restricted one and in the older."""
    abi = probe().landlock_abi

    def restricted() -> str:
        sealed, found = threading.Event(), [""]

        def older() -> None:
            sealed.wait()
            found.append(errnos({"it": attempt})["it"])

        thread = threading.Thread(target=older)
        thread.start()
        confine.forbid_new_privileges()
        restrict(wish, abi)
        found[0] = errnos({"it": attempt})["it"]
        sealed.set()
        thread.join()
        return json.dumps(found)

    found: list[str] = json.loads(in_fork(restricted))
    return found


@pytest.mark.parametrize("abi", range(1, 8))
def test_an_older_abi_is_taken_at_its_word(abi: int, folder: Path) -> None:
    """The policy's own wish, cut to an older ABI, denies exactly what that one knows."""
    abi_here(7)
    outside, file = os.getpid(), folder / "b" / "file"
    found = under(
        inner(Policy(read_only=(str(folder / "a"),))),
        abi,
        file=file.read_text,
        truncate=lambda: os.truncate(file, 1),
        tcp=lambda: socket.socket().bind(("127.0.0.1", 0)),
        signal=lambda: os.kill(outside, 0),
        granted=(folder / "a" / "file").read_text,
    )
    since = {"file": 1, "truncate": 3, "tcp": 4, "signal": 6}
    assert {name for name, number in found.items() if number} == {name for name, first in since.items() if abi >= first}


def test_a_wish_that_the_abi_does_not_know_restricts_nothing(folder: Path) -> None:
    """The outer ruleset before ABI 6 is empty, which the kernel would refuse: the process goes on as it was."""
    assert under(outer(), min(5, abi_here(1)), read=(folder / "a" / "file").read_text) == {"read": ""}


def test_it_takes_no_new_privs() -> None:
    """Without no_new_privs the kernel refuses, and the step is named; root is exempt."""
    if os.geteuid() == 0:
        pytest.skip("CAP_SYS_ADMIN may do without")
    abi = abi_here(1)
    with pytest.raises(StepFailed, match="could not restrict this process with landlock: Operation not permitted"):
        in_fork(lambda: str(restrict(inner(Policy()), abi)))


wishes = st.builds(Wish, st.lists(st.sampled_from(NAMES), unique=True).map(tuple))


@given(wish=wishes, abi=st.integers(0, 20))
def test_nothing_is_granted_that_the_abi_lacks(wish: Wish, abi: int) -> None:
    """What is granted is asked for and known to the ABI, what is unknown is asked for and not, and nothing is lost."""
    found = grant(wish, abi)
    assert set(found.granted) | set(found.unknown) == set(wish.features)
    assert not set(found.granted) & set(found.unknown)
    assert all(ABI_OF[name] <= abi for name in found.granted)
    assert all(ABI_OF[name] > abi for name in found.unknown)
    assert found.all_threads == ("all-threads" in found.granted)


@given(wish=wishes, abi=st.integers(0, 20))
def test_a_newer_abi_grants_no_less(wish: Wish, abi: int) -> None:
    """What one ABI grants, the next one grants as well."""
    assert set(grant(wish, abi).granted) <= set(grant(wish, abi + 1).granted)


families = st.sets(st.sampled_from(("unix", "inet", "inet6", "netlink"))).map(lambda found: tuple(sorted(found)))


@given(network=families, subprocesses=st.booleans())
def test_the_inner_ruleset_denies_what_the_policy_does_not_grant(
    network: tuple[Family, ...], subprocesses: bool
) -> None:
    """Every feature is denied but those that stand in the way of a granted family."""
    paths = {"read_only": ("/r",), "read_write": ("/w",), "devices": ("/dev/d",)}
    executes = {"subprocesses": subprocesses, "executable_memory": subprocesses}
    wish = inner(Policy(network=network, **executes, **paths))  # type: ignore[arg-type]
    left_open = {"tcp", "udp"} if {"inet", "inet6"} & set(network) else set()
    assert set(wish.features) == set(NAMES) - left_open
    access = dict(wish.paths)
    writing = landlock.FS_WRITE_FILE | landlock.FS_MAKE_REG | landlock.FS_REMOVE_FILE | landlock.FS_TRUNCATE
    assert access["/r"] & READ == READ
    assert not access["/r"] & writing
    assert access["/w"] & writing == writing
    assert bool(access["/r"] & landlock.FS_EXECUTE) == subprocesses
    assert bool(access["/w"] & landlock.FS_MAKE_SOCK) == ("unix" in network)
    assert access["/dev/d"] == landlock.FS_READ_FILE | landlock.FS_WRITE_FILE | landlock.FS_IOCTL_DEV


def test_features_stand_in_the_kernels_order() -> None:
    """Names are unique, ABIs ascend, no bit belongs to two features, and the last is the latest."""
    assert len(set(NAMES)) == len(NAMES)
    assert [feature.abi for feature in FEATURES] == sorted(feature.abi for feature in FEATURES)
    assert FEATURES[-1].abi == LATEST_ABI
    for field in ("fs", "net", "scoped", "flags"):
        bits = [getattr(feature, field) for feature in FEATURES]
        assert sum(bits) == reduce(operator.or_, bits)
