"""Hints: a refused step is explained by what /proc shows, and never by a guess where that shows the cause."""

from __future__ import annotations

import os
import re
from errno import (
    EACCES,
    EAGAIN,
    EBADF,
    EBUSY,
    EINVAL,
    EMFILE,
    ENOENT,
    ENOPROTOOPT,
    ENOSPC,
    ENOSYS,
    EOPNOTSUPP,
    EPERM,
    EROFS,
    ESRCH,
)
from pathlib import Path

import pytest

from belljar.sandbox.hints import diagnose, hint

# What `root` may do is not bound by the switches for unprivileged users.
not_root = pytest.mark.skipif(os.geteuid() == 0, reason="these switches do not bind root")

CLONE = "sys/kernel/unprivileged_userns_clone"
APPARMOR = "sys/kernel/apparmor_restrict_unprivileged_userns"
LIMIT = "sys/user/max_user_namespaces"
STATUS = "self/status"
PROFILE = "self/attr/apparmor/current"


def proc_with(root: Path, files: dict[str, str]) -> Path:
    """Write a /proc of another machine."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@not_root
@pytest.mark.parametrize(
    ("step", "errno"),
    [("make a user namespace", EPERM), ("use a capability in the user namespace", EPERM), ("write uid_map", EACCES)],
)
@pytest.mark.parametrize(("file", "value"), [(CLONE, "0"), (APPARMOR, "1")])
def test_sysctl_that_refuses_is_named(*, step: str, errno: int, file: str, value: str, tmp_path: Path) -> None:
    """The sysctl that takes user namespaces away is in the cause, and setting it is the remedy."""
    found = diagnose(step, errno, proc=proc_with(tmp_path, {file: value + "\n", LIMIT: "9999\n"}))
    assert found is not None
    name = file.removeprefix("sys/").replace("/", ".")
    assert f"{name}={value}" in found.cause
    assert f"sysctl -w {name}=" in found.remedy


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({LIMIT: "0\n"}, "user.max_user_namespaces=0"),
        ({STATUS: "Seccomp:\t2\n", LIMIT: "9999\n"}, "seccomp filter of an outer container"),
        ({STATUS: "Seccomp:\t0\n", CLONE: "1\n", APPARMOR: "0\n"}, "chroot"),
        ({}, "chroot"),
    ],
)
def test_user_namespace_refused_with_eperm(files: dict[str, str], expected: str, tmp_path: Path) -> None:
    """EPERM from unshare(CLONE_NEWUSER) is explained by what is set, in the kernel's own order."""
    found = diagnose("make a user namespace", EPERM, proc=proc_with(tmp_path, files))
    assert found is not None
    assert expected in found.cause


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({STATUS: "Seccomp:\t2\n"}, "seccomp filter of an outer container"),
        ({PROFILE: "docker-default (enforce)\n"}, "AppArmor profile 'docker-default'"),
        ({PROFILE: "unconfined\n"}, "a security module"),
    ],
)
@pytest.mark.parametrize("step", ["make a pid namespace", "use a capability in the user namespace"])
def test_refusal_after_the_user_namespace(step: str, files: dict[str, str], expected: str, tmp_path: Path) -> None:
    """EPERM for what follows a made user namespace points to a filter or a security module, not to user namespaces."""
    found = diagnose(step, EPERM, proc=proc_with(tmp_path, files))
    assert found is not None
    assert expected in found.cause


def test_mount_refused_by_a_profile(tmp_path: Path) -> None:
    """EACCES from mount under a container's AppArmor profile names that profile."""
    found = diagnose("mount the empty root", EACCES, proc=proc_with(tmp_path, {PROFILE: "docker-default (enforce)\n"}))
    assert found is not None
    assert "'docker-default'" in found.cause
    assert "apparmor=unconfined" in found.remedy


def test_namespace_limit_carries_its_value(tmp_path: Path) -> None:
    """ENOSPC below a limit that is not 0 names the limit."""
    found = diagnose("make a user namespace", ENOSPC, proc=proc_with(tmp_path, {LIMIT: "7\n"}))
    assert found is not None
    assert "user.max_user_namespaces=7" in found.cause


@pytest.mark.parametrize(
    ("step", "errno", "expected"),
    [
        ("write uid_map", EROFS, "read-only"),
        ("write gid_map", EPERM, "map"),
        ("forbid nested user namespaces", EROFS, "read-only"),
        ("forbid nested user namespaces", EACCES, "masked"),
        ("make the net namespace", ENOSPC, "user.max_*_namespaces"),
        ("make the net namespace", EINVAL, "without this kind of namespace"),
        ("mount a new /proc", EPERM, "mount too revealing"),
        ("read /proc/PID/ns/user of another process", EACCES, "hidepid"),
        ("open a pidfd", ENOSYS, "older than Linux 5.4"),
        ("ask for pidfds of senders", ENOPROTOOPT, "older than Linux 6.5"),
        ("install a seccomp filter", EINVAL, "lacks seccomp filters"),
        ("install the seccomp filter on all threads", EBUSY, "only one"),
        ("install the seccomp filter on all threads", ESRCH, "one thread"),
        ("ask for landlock's ABI", EOPNOTSUPP, "at boot"),
        ("ask for landlock's ABI", ENOSYS, "without landlock"),
        ("make a sealed memfd", EACCES, "vm.memfd_noexec=2"),
        ("fork the child", EAGAIN, "processes"),
        ("start a thread", EAGAIN, "processes"),
        ("make a user namespace", EAGAIN, "processes"),
        ("place the file descriptors", EINVAL, "open files"),
        ("make /srv/fonts visible", ENOENT, "a path of the policy does not exist"),
        ("allow /srv/fonts in landlock", EACCES, "may not see it"),
        ("start the reader", EMFILE, "open files"),
    ],
)
def test_errno_of_a_step(step: str, errno: int, expected: str, tmp_path: Path) -> None:
    """Each errno that is known to lie is explained for its step."""
    found = diagnose(step, errno, proc=tmp_path)
    assert found is not None
    assert expected in found.cause
    assert found.remedy


def test_hint_is_one_clause() -> None:
    """A hint goes in parentheses after an error: one line, a lower-case start, no full stop."""
    text = hint("open a pidfd", ENOSYS)
    assert re.fullmatch(r"[a-z][^\n]*[^.\n]", text)
    assert "; " in text


def test_nothing_known_is_no_hint() -> None:
    """What is not known is left out, not guessed."""
    assert hint("juggle", EBADF) == ""
    assert diagnose("open a pidfd", EBADF) is None
