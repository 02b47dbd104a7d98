"""``chrome-sandbox``: Chromium's setuid helper, the one of the bug that belljar began with (Debian: chromium-sandbox).

    guard - chrome-sandbox - child          chrome-sandbox, the outer half: no root any more, waits for the child
                           - chroot helper  lives beside the child until the seal; shares its root with it (CLONE_FS)

The helper makes a pid and a network namespace, which needs root and so no user namespace, and executes the child as
pid 1 of it. Its protocol, number 1: fd 7 is open (a pipe's read end), SBX_CHROME_API_RQ is "1"; the child finds
SBX_CHROME_API_PRV, SBX_PID_NS and SBX_NET_NS (present and empty means yes), SBX_D, the fd over which it asks for its
chroot, and SBX_HELPER_PID. At the seal it writes "C" there, waits for the helper, and reads "O". Its root is then an
empty directory of a process that has ended: nothing can be listed, found or made in it (tried: ESRCH).

What it cannot do: there is no mount, ipc, uts or user namespace of its own, the bounding set stays full (dropping it
takes CAP_SETPCAP), and no file can stay visible, nor the network. A policy that grants those is refused here. A
setuid program gives nothing to a process that has no_new_privs, so the child sets that and never its launcher.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from .. import confine
from ..base import FOR_A_SEAL, Birth, Launch, empty_root_limit, first_path
from ..errors import SandboxError
from ..launch.executed import CONTROL_FD, Command, ExecutedHost
from ..layers import Layer
from ..policy import Policy
from ..probe import Machine
from ..programs import CHROME_SANDBOX, find
from ..steps import step
from .seccomp import BOUNDING_SET, beyond_the_child

_ID_FD = 7
_API = "1"
_VARIABLES = ("SBX_CHROME_API_RQ", "SBX_CHROME_API_PRV", "SBX_PID_NS", "SBX_NET_NS", "SBX_D", "SBX_HELPER_PID")

_ELSEWHERE = "use another backend"
_WORDS = (  # a part of what the helper says, what that means, what to do
    (
        "not running as root",
        "the helper did not become root: no_new_privs is set here, or its file is not setuid root",
        "start this program without no_new_privs, and outside of user namespaces without root",
    ),
    ("provides API version", "the helper speaks another version of its protocol", "install Chromium's current one"),
    (
        "Failed to move to new namespace",
        "the kernel refused the helper its namespaces, as inside of a container",
        "start the container with CAP_SYS_ADMIN and a seccomp profile that allows clone with CLONE_NEWPID, "
        f"or {_ELSEWHERE}",
    ),
    ("Cannot chroot", "the helper could not change its root", _ELSEWHERE),
    ("Could not drop privileges", "the helper could not give up root", _ELSEWHERE),
    ("Still dumpable", "the helper could not protect itself from ptrace", _ELSEWHERE),
    ("execv failed", "the helper could not execute the interpreter", "let every user read and execute that file"),
    ("Read on socketpair", "the helper's two halves lost each other", _ELSEWHERE),
)


class HostSide(ExecutedHost):
    """Has the guard start each child through the helper."""

    name = "chrome-sandbox"
    has_helper = True
    own_pid_only = False
    requires = (
        "chrome-sandbox",
        *FOR_A_SEAL,
    )

    def unable(self, policy: Policy, machine: Machine) -> str:
        """The root is wholly empty and the network wholly away."""
        if named := first_path(policy):
            return f"its root is empty after the seal, so that {named} cannot stay visible"
        online = [family for family in policy.network if family != "unix"]
        if online:
            return f"its network namespace is its own, so that network = {online} leads nowhere"
        return beyond_the_child(policy)

    def promises(self, policy: Policy) -> Mapping[Layer, str]:
        """Two namespaces, the empty root, and what a process can do to itself."""
        return {
            Layer.PID_NS: "",
            Layer.NET_NS: "",
            Layer.EMPTY_ROOT: empty_root_limit(policy),
            Layer.CAPABILITIES: BOUNDING_SET,
            Layer.NO_NEW_PRIVS: "",
            Layer.SECCOMP: "",
            Layer.RLIMITS: "",
        }

    def command(self, launch: Launch, fds: ExitStack) -> Command:
        """The helper, its request, and a pipe whose writer is closed."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.close(writer)
        fds.callback(os.close, reader)
        return Command([find(CHROME_SANDBOX)], {"SBX_CHROME_API_RQ": _API}, {_ID_FD: reader})

    def explain(self, exit_code: int | None, stderr: Sequence[str]) -> str:
        """The helper ends with 1 for all that goes wrong, and says what on stderr."""
        found = None if exit_code in (None, 0) else meaning_of(stderr)
        return f"chrome-sandbox ended with exit code {exit_code}: {found[0]}; {found[1]}" if found else ""

    def child_status(self, status: int) -> int | None:
        """The helper passes an exit code on, and says 0 of a child that a signal ended."""
        return None if os.waitstatus_to_exitcode(status) == 0 else status


def meaning_of(stderr: Sequence[str]) -> tuple[str, str] | None:
    """Return cause and remedy of what the helper said, None where that is not known."""
    text = " ".join(stderr)
    for words, meaning, remedy in _WORDS:
        if words in text:
            return f"{meaning} (it said: {next(line for line in stderr if line)})", remedy
    return None


class ChildSide:
    """The client of the helper."""

    def __init__(self, link: socket.socket | None) -> None:
        """There is no link: what the helper says stands in the environment."""

    def confine_early(self, birth: Birth) -> None:
        """Take over what the helper left, then do what an executed child does."""
        said = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
        if said.get("SBX_CHROME_API_PRV") != _API or said.get("SBX_PID_NS") != "" or said.get("SBX_NET_NS") != "":
            raise SandboxError(f"chrome-sandbox did not give what was asked of it, but {said}")
        numbers = (said.get("SBX_D", ""), said.get("SBX_HELPER_PID", ""))
        if not all(map(str.isdecimal, numbers)):
            raise SandboxError(f"chrome-sandbox did not say how to ask it for the empty root, but {said}")
        self.chroot_fd, self.helper_pid = map(int, numbers)
        os.set_inheritable(self.chroot_fd, False)
        with step("start a session"):  # the helper's outer half is in the old group, which kill(0, ...) would reach
            os.setsid()
        confine.die_with(signal.SIGKILL)  # once more: the setuid exec cleared it, and the helper waits in one thread
        confine.close_fds_except({CONTROL_FD, self.chroot_fd})
        confine.drop_own_capabilities()
        confine.forbid_new_privileges()
        confine.set_limits(birth.policy.limits)
        confine.leave_keyrings(birth.policy)

    def take_files(self) -> None:
        """Have the helper change the root of both, and wait until it is gone."""
        with step("leave the working directory"):
            os.chdir("/")  # while there is one: both live in one fs structure, and the helper's chdir is ours too
        with step("ask chrome-sandbox for the empty root"):
            os.write(self.chroot_fd, b"C")
            os.waitpid(self.helper_pid, 0)
            answer = os.read(self.chroot_fd, 1)
            os.close(self.chroot_fd)
        if answer != b"O":
            raise SandboxError(f"chrome-sandbox did not empty the root: it answered {answer!r}")
