"""``bubblewrap``: the program bwrap makes namespaces and a view of few files, and landlock closes that at the seal.

    guard - bwrap - bwrap (pid 1 inside, reaps) - child (pid 2)

bwrap's view of the file system stands from the start and cannot be taken away later, so it is small and read-only: what
the interpreter, its packages and their libraries need, what early init and the policy name, and five devices that
say and swallow nothing. All else that a child could read in there goes with landlock's inner ruleset at the seal (see
`landlock` for its limit with older threads: here, too, a policy that grants files asks for a child without them).

``--disable-userns`` (0.8.0) closes the door to nested user namespaces, ``--new-session`` the one to the terminal, and
``--cap-drop ALL`` matters to root. Over ``--json-status-fd`` bwrap says which process it started, so that the sender of
the hello must be that one's child and not merely somewhere below.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ...ipc import pidfds
from ...ipc.messages import Landlock, RunStep
from .. import confine, landlock
from ..base import FOR_A_SEAL, Birth, Launch, Started, shares_network
from ..hints import hint
from ..launch.executed import CONTROL_FD, Command, ExecutedHost
from ..layers import Layer
from ..policy import Policy
from ..programs import BWRAP, find
from ..steps import step
from ..user import User
from .landlock import OLDER_THREADS

_STATUS_FD = 5
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_SYSTEM = (
    *("/lib", "/lib32", "/lib64", "/libx32", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/local/lib"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/fonts", "/etc/alternatives"),
    *("/usr/share/zoneinfo", "/usr/share/fonts", "/usr/share/fontconfig", "/usr/share/glvnd", "/usr/share/locale"),
)
_STEPS = (  # a part of what bwrap says, and the step for which `hints` knows causes
    ("No permissions to create", "make a user namespace", errno.EPERM),
    ("kernel does not support user namespaces", "make a user namespace", errno.EINVAL),
    ("max_user_namespaces", "forbid nested user namespaces", 0),
    ("Creating new namespace failed", "make a user namespace", 0),
    ("Can't fork", "fork", 0),
    ("Can't find source path", "show a path of the policy", 0),
    ("setting up uid map", "write uid_map", 0),
    ("mount proc", "mount /proc", 0),
    ("mount", "mount the view", 0),
    ("loopback", "use a capability", errno.EPERM),
)


class HostSide(ExecutedHost):
    """Has the guard start each child through bwrap."""

    name = "bubblewrap"
    has_helper = True
    own_pid_only = False
    requires = (
        "bwrap",
        "landlock",
        *FOR_A_SEAL,
    )

    def promises(self, policy: Policy) -> Mapping[Layer, str]:
        """Every layer but the empty root, and but the network namespace when the policy grants the host's network."""
        named = policy.read_only or policy.read_write or policy.devices
        absent = {Layer.EMPTY_ROOT} | ({Layer.NET_NS} if shares_network(policy) else set())
        promised = dict.fromkeys(set(Layer) - absent, "")
        return {**promised, Layer.LANDLOCK: "" if named else OLDER_THREADS}

    def is_warm(self, shared: tuple[RunStep, ...], user: User) -> bool:
        """Whether the guard runs and the child's import path is known."""
        return super().is_warm(shared, user) and bool(import_path.cache_info().currsize)

    def warm(self, shared: tuple[RunStep, ...], user: User) -> None:
        """Start the guard and ask an interpreter for its import path."""
        super().warm(shared, user)
        import_path()

    def start(self, launch: Launch) -> Started:
        """Have the guard start bwrap, and keep the end over which it says what it started."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        status = Status(reader)
        try:
            arguments = [
                *options(share_network=shares_network(launch.policy)),
                "--json-status-fd",
                str(_STATUS_FD),
                *view(launch),
                "--",
            ]
            self.execute(launch, Command([find(BWRAP), *arguments], {}, {_STATUS_FD: writer}))
        except BaseException:
            status.close()
            raise
        finally:
            os.close(writer)
        return status

    def explain(self, exit_code: int | None, stderr: Sequence[str]) -> str:
        """What bwrap said, and what to do about it where this machine shows that."""
        said = next((line.removeprefix("bwrap: ") for line in stderr if line.startswith("bwrap: ")), "")
        if not said:
            return ""
        known = step_of(said)
        remedy = hint(*known) if known else ""
        return f"bwrap could not start the child: {said}{f' ({remedy})' if remedy else ''}"

    def child_status(self, status: int) -> int | None:
        """bwrap ends with the child's exit code, or with 128 and the signal that ended it."""
        code = os.waitstatus_to_exitcode(status)
        is_signal = code > 128 and code - 128 in signal.valid_signals()
        return code - 128 if is_signal else status


class Status:
    """What bwrap says of the processes that it starts. Owns *reader*."""

    def __init__(self, reader: int) -> None:
        os.set_blocking(reader, False)
        self.reader = reader

    def confirm(self, child_pid: int) -> str:
        """The sender's launcher must be the process that bwrap calls its child: pid 1 of the new namespace."""
        try:
            said = os.read(self.reader, 4096)
            inner = int(json.loads(said.split(b"\n")[0])["child-pid"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            return f"bwrap did not say which process it started: {error}"
        chain = pidfds.ancestors(child_pid)
        if inner in chain[1:2]:
            return ""
        return f"its launcher is {chain[1:2]} instead of {inner}, which bwrap started"

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.reader)


def options(*, share_network: bool) -> list[str]:
    """Return what bwrap shall take away."""
    network = ["--share-net"] if share_network else []
    confine_all = ["--unshare-all", *network, "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    return [*confine_all, "--new-session", "--die-with-parent", "--hostname", "belljar", "--chdir", "/"]


def view(launch: Launch) -> Iterator[str]:
    """Yield the operations that build the root, in bwrap's order: later ones lie over earlier ones."""
    policy = launch.policy
    for path in readable(launch):
        yield from ("--symlink", os.readlink(path), path) if _is_system_link(path) else ("--ro-bind", path, path)
    for path in policy.read_only:
        yield from ("--ro-bind", launch.birth.real_paths.get(path, path), path)
    for path in policy.read_write:
        yield from ("--bind", path, path)
    for path in (*_DEVICES, *policy.devices):
        yield from ("--dev-bind", path, path)
    yield from ("--proc", "/proc", "--remount-ro", "/")


def readable(launch: Launch) -> list[str]:
    """Return what the child reads before its seal, outermost first, and nothing that lies in another of them."""
    imported = Path(sys.modules["belljar"].__file__ or "").absolute().parent
    own = Path(__file__).resolve().parents[2]  # the folder of child, ipc and sandbox, to which belljar/ has links
    packages = [entry for entry in import_path() if entry != str(own)]  # a checkout is more than its packages
    code = [str(imported), str(imported.resolve()), *(str(own / name) for name in ("child", "ipc", "sandbox"))]
    python = [*_links_from(sys.executable), f"{sys.prefix}/pyvenv.cfg", f"{sys.base_prefix}/lib"]
    wanted = {*_SYSTEM, *packages, *code, *python, *launch.files}
    return _outermost(path for path in wanted if os.path.lexists(path) and path != "/")


@functools.cache
def import_path() -> tuple[str, ...]:
    """Return the import path of a child. Asked of an interpreter, for the host's own has more: its script's folder."""
    code = "import json, sys; print(json.dumps(sys.path))"
    with step("start a process that knows the import path"):
        done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)
    return tuple(entry for entry in json.loads(done.stdout) if entry.startswith("/"))


def _outermost(paths: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for path in sorted(paths):
        inside = any(path.startswith(f"{outer}/") for outer in kept if not os.path.islink(outer))
        if not inside:
            kept.append(path)
    return kept


def _links_from(path: str) -> Iterator[str]:
    """Yield *path* and each file on the way of its links: a virtual environment's interpreter and the real one."""
    yield path
    while os.path.islink(path):
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        yield path


def _is_system_link(path: str) -> bool:
    return os.path.islink(path) and os.path.dirname(path) == "/"


def step_of(said: str) -> tuple[str, int] | None:
    """Return the step and the errno that *said*, a line of bwrap's, speaks of, as `hints` knows steps."""
    for words, name, number in _STEPS:
        if words in said:
            return name, number or _errno_of(said.rpartition(": ")[2])
    return None


def _errno_of(text: str) -> int:
    """The errno behind the end of a line: its text, or its name in parentheses as for too many namespaces."""
    name = text.rpartition("(")[2].rstrip(")")
    return next(
        (number for number, known in errno.errorcode.items() if text == os.strerror(number) or name == known), 0
    )


class ChildSide:
    """What the child does to itself inside of bwrap's namespaces."""

    def __init__(self, link: socket.socket | None) -> None:
        """There is no link."""

    def confine_early(self, birth: Birth) -> None:
        """Close foreign fds, take the limits, and landlock's outer ruleset; bwrap did the rest."""
        self.birth = birth
        if "PWD" not in birth.env:
            os.environ.pop("PWD", None)  # bwrap's own addition
        confine.close_fds_except({CONTROL_FD})
        confine.drop_own_capabilities()
        confine.forbid_new_privileges()
        confine.set_limits(birth.policy.limits)
        confine.leave_keyrings(birth.policy)
        landlock.restrict(landlock.outer(), birth.landlock_abi)

    def take_files(self) -> Landlock:
        """Landlock's inner ruleset closes the view."""
        return landlock.restrict(landlock.inner(self.birth.policy, self.birth.real_paths), self.birth.landlock_abi)
