"""What a sealed child is refused, on every backend; where one does not refuse it, its report says so.

Drawn from Sandbox2's PtraceDisallowed, BpfDisallowed, ExecveatNotAllowedByDefault and MmapWithExecNotAllowedByDefault,
firejail's memwrexe.exp and seccomp-*.exp, sandlock's *_blocked, bubblewrap's "cannot read /etc/shadow", Gecko's
ioctl_tiocsti, socket_inet, fork, mknod, getcwd and readlink_exe, Chromium's ForkErrno, EPERM_open and SIGSYS_*.
"""

from __future__ import annotations

import re

import pytest

from belljar.sandbox.layers import Layer
from belljar.sandbox.protection import Operation

from .observe import Seen, engaged_by_report, refused_by_report

DENIED = {"EACCES", "ENOENT", "ESRCH"}
"""What a program understands as: it is not yours, or it is not there."""

FORBIDDEN = {"EPERM"}
ABSENT = {"ENOSYS"}

REFUSED: dict[str, tuple[Operation | Layer, set[str]]] = {
    "read a file": (Operation.READ_FILE, DENIED),
    "read a system file": (Operation.READ_FILE, DENIED),
    "read its own maps": (Operation.READ_FILE, DENIED),
    "read a link": (Operation.READ_FILE, DENIED),
    "ask for the working directory": (Operation.READ_FILE, DENIED),
    "change the working directory": (Operation.READ_FILE, DENIED),
    "list the root": (Operation.LIST_DIRECTORY, DENIED),
    "list a folder": (Operation.LIST_DIRECTORY, DENIED),
    "list its own fds": (Operation.LIST_DIRECTORY, DENIED),
    "stat a file": (Operation.STAT, DENIED),
    "write into a file": (Operation.WRITE_FILE, DENIED),
    "make a file": (Operation.WRITE_FILE, DENIED),
    "make a file without a name": (Operation.WRITE_FILE, DENIED),
    "make a temporary file": (Operation.WRITE_FILE, DENIED),
    "make a folder": (Operation.WRITE_FILE, DENIED),
    "make a fifo": (Operation.WRITE_FILE, DENIED),
    "make a link": (Operation.WRITE_FILE, DENIED),
    "make a hard link": (Operation.WRITE_FILE, DENIED),
    "truncate a file": (Operation.WRITE_FILE, DENIED),
    "rename a file": (Operation.WRITE_FILE, DENIED),
    "remove a file": (Operation.WRITE_FILE, DENIED),
    "change a mode": (Operation.WRITE_FILE, DENIED),
    "set times": (Operation.WRITE_FILE, DENIED),
    "execute a file": (Operation.EXECUTE, {"EACCES"}),
    "execute a memfd": (Operation.EXECUTE, {"EACCES"}),
    "make a tcp socket": (Operation.INET, {"EACCES"}),
    "make a udp socket": (Operation.INET, {"EACCES"}),
    "make an ipv6 socket": (Operation.INET, {"EACCES"}),
    "make a netlink socket": (Operation.INET, {"EACCES"}),
    "make a packet socket": (Operation.INET, {"EACCES"}),
    "make a vsock socket": (Operation.VSOCK, {"EACCES"}),
    "make a crypto socket": (Layer.SECCOMP, {"EACCES"}),
    "connect to a path": (Operation.UNIX_PATH, {"EACCES"}),
    "connect to an abstract name": (Operation.UNIX_ABSTRACT, {"EACCES"}),
    "make a datagram pair": (Operation.UNIX_ABSTRACT, {"EACCES"}),
    "fork": (Operation.MAKE_PROCESS, FORBIDDEN),
    "spawn": (Operation.MAKE_PROCESS, FORBIDDEN),
    "run a program": (Operation.MAKE_PROCESS, FORBIDDEN),
    "signal the host": (Operation.SIGNAL_OUTSIDE, {"EPERM", "ESRCH"}),
    "see the host": (Operation.SEE_PROCESSES, {"ESRCH"}),
    "open a pidfd of the host": (Layer.SECCOMP, FORBIDDEN),
    "queue a signal to the host": (Layer.SECCOMP, FORBIDDEN),
    "read the host's memory": (Operation.PTRACE, FORBIDDEN),
    "trace": (Operation.PTRACE, FORBIDDEN),
    "map executable memory": (Operation.EXECUTABLE_MEMORY, {"EACCES"}),
    "make memory executable": (Operation.EXECUTABLE_MEMORY, {"EACCES"}),
    "type on the terminal": (Operation.TERMINAL, {"EACCES"}),
    "type with garbage above": (Operation.TERMINAL, {"EACCES"}),
    "use the keyring": (Operation.KEYCTL, FORBIDDEN),
    "use io_uring": (Operation.IO_URING, ABSENT),
    "load a bpf program": (Operation.KERNEL_TOOLS, FORBIDDEN),
    "open a perf event": (Operation.KERNEL_TOOLS, FORBIDDEN),
    "handle page faults": (Operation.KERNEL_TOOLS, FORBIDDEN),
    "use clone3": (Operation.NEW_USER_NAMESPACE, ABSENT),
    "unshare": (Operation.NEW_USER_NAMESPACE, FORBIDDEN),
    "join a namespace": (Operation.NEW_USER_NAMESPACE, FORBIDDEN),
    "mount": (Operation.MOUNT, FORBIDDEN),
    "change the root": (Operation.MOUNT, FORBIDDEN),
    "set the host name": (Operation.TIME_AND_NAME, FORBIDDEN),
    "set the time": (Operation.TIME_AND_NAME, FORBIDDEN),
    "find shared memory": (Operation.IPC_OBJECTS, FORBIDDEN),
    "find a message queue": (Operation.IPC_OBJECTS, FORBIDDEN),
    "find semaphores": (Operation.IPC_OBJECTS, FORBIDDEN),
    "open a posix queue": (Operation.IPC_OBJECTS, FORBIDDEN),
    "become another user": (Layer.SECCOMP, FORBIDDEN),
    "change its groups": (Layer.SECCOMP, FORBIDDEN),
    "change its personality": (Layer.SECCOMP, FORBIDDEN),
    "filter itself": (Layer.SECCOMP, FORBIDDEN),
    "hide from the host": (Layer.SECCOMP, FORBIDDEN),
    "raise its priority": (Layer.SECCOMP, FORBIDDEN),
}
"""Each attempt of `children/behaves/tries.py`: what the report must say is enforced, and the errnos that refuse it."""


def skip_by_report(seen: Seen, what: Operation | Layer) -> None:
    """Skip if the report of the child does not promise *what*."""
    if isinstance(what, Operation):
        refused_by_report(seen.protection, what)
    else:
        engaged_by_report(seen.protection, what)


@pytest.mark.parametrize("name", REFUSED)
def test_an_attempt_is_refused(seen: Seen, name: str) -> None:
    """What the policy does not name is refused with an errno that programs understand, whatever the backend."""
    what, errnos = REFUSED[name]
    skip_by_report(seen, what)
    assert seen.tries[name] in errnos


def test_the_table_is_complete(seen: Seen) -> None:
    """No attempt goes unjudged."""
    others = {"look a name up", "raise a limit", "start a thread after that"}
    assert set(seen.tries) == set(REFUSED) | others


def test_names_are_not_looked_up(seen: Seen) -> None:
    """A resolver without network says so, and neither hangs nor crashes."""
    refused_by_report(seen.protection, Operation.INET)
    assert "name resolution" in seen.tries["look a name up"]


def test_a_limit_cannot_be_raised(seen: Seen) -> None:
    """A hard limit stays, as resource.setrlimit says in its own way."""
    engaged_by_report(seen.protection, Layer.RLIMITS)
    assert seen.tries["raise a limit"] in ("ValueError: not allowed to raise maximum limit", "EPERM")


def test_threads_start_after_a_refused_fork(seen: Seen) -> None:
    """The refusal of a process costs the child none of what the policy grants."""
    assert seen.tries["start a thread after that"] is True


def test_the_folder_is_as_it_was(seen: Seen) -> None:
    """What the report calls enforced has left no trace in the host's folder."""
    refused_by_report(seen.protection, Operation.WRITE_FILE)
    assert seen.left == {"file", "other", "third", "socket"}


def test_a_late_import_is_refused_and_named(seen: Seen) -> None:
    """An import after the seal fails, and the error names the module, so that it can be preloaded."""
    refused_by_report(seen.protection, Operation.READ_FILE)
    error = seen.errors["imports_late"]
    assert error.remote_type == "ModuleNotFoundError"
    assert "import wave" in error.refused
    assert re.search(r"the seal refused import wave.*preload it", str(error))


def test_a_refused_file_is_named_in_the_log(seen: Seen) -> None:
    """The host tells which file the child asked for, from the kernel and not from the child."""
    refused_by_report(seen.protection, Operation.READ_FILE)
    assert ("belljar.host", "behaves: the seal refused openat /etc/passwd") in seen.log


def test_every_promised_layer_is_engaged(seen: Seen) -> None:
    """The report shows as engaged all that the backend promises, for each layer with what the kernel says."""
    assert seen.protection.shortfall() is None
    assert {status.layer for status in seen.protection.layers} == set(Layer)
    assert all(status.detail for status in seen.protection.layers)


def test_the_kernel_agrees_with_the_report(seen: Seen) -> None:
    """What /proc showed of the child is what the report says of filter, no_new_privs and capabilities."""
    status, engaged = seen.outside.status, seen.protection.engaged()
    assert (status["Seccomp"] == "2") == (Layer.SECCOMP in engaged)
    assert (status["NoNewPrivs"] == "1") == (Layer.NO_NEW_PRIVS in engaged)
    assert (int(status["CapEff"], 16) == 0 == int(status["CapPrm"], 16)) or Layer.CAPABILITIES not in engaged
    assert (len(status["NSpid"].split()) > 1) == (Layer.PID_NS in engaged)
