"""What a backend is: two halves, one for each side of the launch.

A backend is one file in ``sandbox/backends/``, or a package of somebody else's with an entry point of the group
``belljar.backends``. Its host half says what it needs and promises and starts the process; its child half is applied
by the child to itself. Nothing outside of that file knows how it confines.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from ..ipc.messages import Landlock, RunStep
from .layers import Layer
from .policy import Policy
from .user import User

if TYPE_CHECKING:
    from .probe import Machine


FOR_A_CHILD: Final = ("pidfd", "memfd-seal", "proc")
"""The features of `probe` without which no child can be launched and looked at."""

FOR_A_SEAL: Final = ("no-new-privs", "seccomp", "seccomp-tsync", "rlimits", *FOR_A_CHILD)
"""Those of every backend that confines."""


class Birth(msgspec.Struct, frozen=True):
    """What a child must know before its hello, because it acts on it in stage 3.

    ``landlock_abi`` is the highest ABI that it may use, 0 for none. ``real_paths`` says where those paths of the policy
    lead that begin with a link in /; no other link is followed.
    """

    backend: str
    name: str
    policy: Policy
    env: dict[str, str]
    landlock_abi: int = 0
    real_paths: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch as the host asks a backend for it. The backend copies the fds; the host closes its own.

    Attributes:
        control: the child's end of the control channel.
        report: the end over which the process that waits for the child reports (`launch.wire`).
        stdout, stderr: write ends of the pipes that the host reads.
        shared: early-init steps that may run before the child exists, once for many, where the backend can.
        files: paths that early init reads, for a backend that narrows the view from the start.
    """

    control: socket.socket
    report: socket.socket
    stdout: int
    stderr: int
    birth: Birth
    shared: tuple[RunStep, ...]
    user: User
    files: tuple[str, ...] = ()

    @property
    def policy(self) -> Policy:
        """What the child may do once it is sealed."""
        return self.birth.policy


class Started(Protocol):
    """What a backend knows of one launch beyond the reports of the launcher."""

    def confirm(self, child_pid: int) -> str:
        """Return why the sender of the hello cannot be the child, empty if nothing speaks against it."""
        ...

    def close(self) -> None:
        """Close what it holds."""
        ...


class HostHalf(Protocol):
    """What a backend does outside of the child."""

    @property
    def name(self) -> str:
        """The name in configuration files."""
        ...

    @property
    def requires(self) -> tuple[str, ...]:
        """The features of `probe` without which this backend refuses to launch."""
        ...

    @property
    def has_helper(self) -> bool:
        """Whether the child is a descendant of the launched process instead of that process itself."""
        ...

    @property
    def own_pid_only(self) -> bool:
        """Whether the filter must keep the child from other processes, because no pid namespace does."""
        ...

    def unable(self, policy: Policy, machine: Machine) -> str:
        """Return what *policy* grants that this backend cannot give here without giving more; empty if it can."""
        ...

    def promises(self, policy: Policy) -> Mapping[Layer, str]:
        """The layers that must be seen engaged from outside once a child under *policy* is sealed.

        Each with what is known to lack in it, empty for nothing: a layer that then lacks more is a broken promise.
        """
        ...

    def is_warm(self, shared: tuple[RunStep, ...], user: User) -> bool:
        """Whether `warm` would return at once."""
        ...

    def warm(self, shared: tuple[RunStep, ...], user: User) -> None:
        """Start the processes that launches need beforehand, once for all of them. Blocks; safe in any thread.

        Raises:
            SandboxError: one of them could not be started.
        """
        ...

    def start(self, launch: Launch) -> Started:
        """Ask for the child; the answer comes over ``launch.report``. Does not block after `warm`."""
        ...

    def explain(self, exit_code: int | None, stderr: Sequence[str]) -> str:
        """Return why the launched process ended before the child said hello, or nothing where it did not say."""
        ...

    def child_status(self, status: int) -> int | None:
        """Return the child's wait status from that of the launched process, None where that does not tell."""
        ...


class ChildHalf(Protocol):
    """What a backend does to the process it runs in. It cannot be undone."""

    def confine_early(self, birth: Birth) -> None:
        """Stage 3: all that needs a single thread. `OSError` or `SandboxError` names the step that failed."""
        ...

    def take_files(self) -> Landlock | None:
        """Stage 7, before the filter: take away the files. Return what landlock granted, None where it is not used."""
        ...


def shares_network(policy: Policy) -> bool:
    """Whether *policy* needs the host's network namespace, because it allows more than local sockets."""
    return bool({"inet", "inet6", "netlink"} & set(policy.network))


def empty_root_limit(policy: Policy) -> str:
    """Return what the empty root lacks under *policy*, empty for nothing: directories that may stay open."""
    return (
        "directories that early init left open lead around it, and only the filter closes them"
        if policy.open_directories
        else ""
    )


def first_path(policy: Policy) -> str:
    """Return the first path that *policy* grants with its key, as it stands in a file; empty if it grants none."""
    keys = ("read_only", "read_write", "devices")
    return next((f"{key} = [{path!r}]" for key in keys for path in getattr(policy, key)), "")
