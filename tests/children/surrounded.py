"""A host in hostile surroundings: ``surrounded.py SURROUNDING RUN_AS BACKEND...`` sets them up, then launches.

Each surrounding is the kernel's own, as a container engine, an administrator or a careless launcher makes it; nothing
is pretended. Prints JSON: for each backend the answer of one call, what is engaged, and how a child that leaves with
exit code 7 ended, or the sentence of the refusal; and whether a process was left.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import prctl
import pyseccomp

from belljar import Policy, Process, ProcessHost
from belljar.host.errors import ChildEnded
from belljar.ipc.errors import BelljarError
from belljar.sandbox import confine
from belljar.sandbox import syscalls as sc
from belljar.sandbox.launch import client
from belljar.sandbox.launch.userns import enter_user_namespace, forbid_nested_user_namespaces

PLUGIN = str(Path(__file__).with_name("plain.py")) + ":Plain"
_NO_EXEC = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC

_NEW_NAMESPACES = (
    *(sc.CLONE_NEWNS, sc.CLONE_NEWCGROUP, sc.CLONE_NEWUTS, sc.CLONE_NEWIPC, sc.CLONE_NEWUSER, sc.CLONE_NEWPID),
    sc.CLONE_NEWNET,
)

# What docker's and podman's default profiles leave out for a container without CAP_SYS_ADMIN and its like.
_REFUSED_IN_CONTAINERS = (
    *("unshare", "setns", "mount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig"),
    *("fspick", "mount_setattr", "keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "kexec_load", "init_module", "finit_module"),
    *("delete_module", "quotactl", "swapon", "swapoff", "reboot", "sethostname", "setdomainname", "settimeofday"),
    *("clock_settime", "syslog", "acct", "lookup_dcookie", "open_by_handle_at", "name_to_handle_at", "nfsservctl"),
)
# runtime-spec's usual maskedPaths and readonlyPaths.
_MASKED = ("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list")
_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_CONTAINER_CAPABILITIES = (
    *(prctl.CAP_CHOWN, prctl.CAP_DAC_OVERRIDE, prctl.CAP_FSETID, prctl.CAP_FOWNER, prctl.CAP_MKNOD, prctl.CAP_NET_RAW),
    *(prctl.CAP_SETGID, prctl.CAP_SETUID, prctl.CAP_SETFCAP, prctl.CAP_SETPCAP, prctl.CAP_NET_BIND_SERVICE),
    *(prctl.CAP_SYS_CHROOT, prctl.CAP_KILL, prctl.CAP_AUDIT_WRITE),
)


def container_filter() -> None:
    """The seccomp filter of a container engine; clone3 is ENOSYS there, so that libc falls back to clone."""
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    if os.geteuid() == 0:  # an engine filters root before it takes CAP_SYS_ADMIN away, so needs no no_new_privs
        rules.set_attr(pyseccomp.Attr.CTL_NNP, 0)
    for name in _REFUSED_IN_CONTAINERS:
        rules.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
    for flag in _NEW_NAMESPACES:
        rules.add_rule(pyseccomp.ERRNO(errno.EPERM), "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    rules.load()


def no_nested_user_namespaces() -> None:
    """Inside of a sandbox that switched nested user namespaces off, as belljar's own does."""
    enter_user_namespace()
    forbid_nested_user_namespaces()


def own_mounts() -> None:
    """A mount namespace to make changes in: root's own, for others one inside of a new user namespace."""
    if os.geteuid() != 0:
        enter_user_namespace()
    sc.unshare(sc.CLONE_NEWNS)
    sc.mount("none", "/", None, sc.MS_REC | sc.MS_PRIVATE)


def read_only_proc_sys() -> None:
    """Only /proc/sys read-only."""
    own_mounts()
    _make_read_only("/proc/sys")


def masked_proc() -> None:
    """All that runtime-spec masks or makes read-only in /proc."""
    own_mounts()
    for name in _MASKED:
        path = f"/proc/{name}"
        if os.path.isdir(path):
            sc.mount("tmpfs", path, "tmpfs", sc.MS_RDONLY)
        elif os.path.exists(path):
            sc.mount("/dev/null", path, None, sc.MS_BIND)
    for name in _READ_ONLY:
        if os.path.exists(f"/proc/{name}"):
            _make_read_only(f"/proc/{name}")


def _make_read_only(path: str) -> None:
    sc.mount(path, path, None, sc.MS_BIND | sc.MS_REC)
    sc.mount("none", path, None, sc.MS_REMOUNT | sc.MS_BIND | sc.MS_RDONLY | _NO_EXEC)


def container() -> None:
    """The three together, and a container's capabilities."""
    masked_proc()
    container_filter()
    if os.geteuid() == 0:
        dropped = [cap for cap in prctl.ALL_CAPS if cap not in _CONTAINER_CAPABILITIES]
        prctl.capbset.drop(*dropped)
        prctl.set_caps(*((cap, flag, False) for flag in prctl.ALL_FLAGS for cap in dropped))


def no_proc() -> None:
    """Nothing in /proc."""
    own_mounts()
    sc.mount("tmpfs", "/proc", "tmpfs", sc.MS_RDONLY)


def no_shared_memory() -> None:
    """A /dev of five devices, and so without /dev/shm."""
    own_mounts()
    with tempfile.TemporaryDirectory() as folder:
        sc.mount("tmpfs", folder, "tmpfs", 0, "mode=755")
        for name in ("null", "zero", "full", "random", "urandom"):
            Path(folder, name).touch()
            sc.mount(f"/dev/{name}", f"{folder}/{name}", None, sc.MS_BIND)
        sc.mount(folder, "/dev", None, sc.MS_BIND | sc.MS_REC)
        sc.umount2(folder, sc.MNT_DETACH)
    assert not os.path.exists("/dev/shm")


def no_new_privileges() -> None:
    """As systemd's NoNewPrivileges=, and every sandbox."""
    confine.forbid_new_privileges()


def processes(count: int) -> Callable[[], None]:
    """A low RLIMIT_NPROC; in a user namespace, for only there is what it counts nobody else's."""

    def limit() -> None:
        enter_user_namespace()
        resource.setrlimit(resource.RLIMIT_NPROC, (count, count))

    return limit


def files(count: int) -> Callable[[], None]:
    """A low RLIMIT_NOFILE."""
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def odd_signals() -> None:
    """SIGCHLD ignored, as some launchers leave it, and all signals blocked."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def no_standard_fds() -> None:
    """Neither stdin, stdout nor stderr, as a daemon is left by careless hands."""
    os.closerange(0, 3)


def odd_folder() -> None:
    """A working directory that is gone, and a umask that takes all."""
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)
    os.umask(0o777)


SURROUNDINGS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "no-nested-userns": no_nested_user_namespaces,
    "container-filter": container_filter,
    "proc-sys-read-only": read_only_proc_sys,
    "proc-masked": masked_proc,
    "container": container,
    "no-proc": no_proc,
    "no-new-privs": no_new_privileges,
    "no-shm": no_shared_memory,
    "20-processes": processes(20),
    "6-processes": processes(6),
    "2-processes": processes(2),
    "32-files": files(32),
    "14-files": files(14),
    "odd-signals": odd_signals,
    "no-standard-fds": no_standard_fds,
    "odd-folder": odd_folder,
}


async def outcome(backend: str, run_as: str) -> dict[str, Any]:
    """Launch one child and call it once."""
    process = Process(plugin=PLUGIN, backend=backend, policy=Policy.compute(), run_as=run_as)
    try:
        async with ProcessHost(process) as host:
            answer = await host.call("add", 20, 22)
            assert host.protection is not None
            layers = {status.layer.value: status.detail for status in host.protection.layers if status.engaged}
            with suppress(ChildEnded):
                await host.call("leave", 7)
            ended = await host.wait()
    except BelljarError as error:
        return {"refused": str(error)}
    chosen = host.protection.backend
    return {"answer": answer, "chosen": chosen, "layers": layers, "exit_code": ended.exit_code}


def is_alone() -> bool:
    """End the guard, and tell whether nothing is left below this process, which orphans are given to."""
    client.stop()
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def main() -> None:
    surrounding, run_as, *backends = sys.argv[1:]
    out = os.dup(1)
    sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
    SURROUNDINGS[surrounding]()
    found = {backend: anyio.run(outcome, backend, run_as) for backend in backends}
    os.write(out, json.dumps({"backends": found, "alone": is_alone()}).encode())


if __name__ == "__main__":
    main()
