"""Covert channels and single calls on the real kernel: off, unless a policy says so and names the danger."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from belljar.sandbox.danger import COVERT_CHANNELS, EXECUTABLE_MEMORY, SYSCALLS
from belljar.sandbox.policy import CovertChannel, Policy

from .filtered import answers, number, run

GARBAGE = 1 << 40
MINUS_ONE = (1 << 64) - 1
SHM_EXEC = 0o100000
IPC_PRIVATE, IPC_CREAT, IPC_RMID = 0, 0o1000, 0
F_SETLK, F_SETLEASE, F_GETLEASE, F_OFD_SETLK = 6, 1024, 1025, 37
KEYCTL_GET_KEYRING_ID, KEYCTL_SESSION_TO_PARENT, THREAD_KEYRING = 0, 18, MINUS_ONE

# A call of each channel, and what the kernel itself says of it, which shows that it came through.
CALLS: dict[CovertChannel, list[tuple[tuple[Any, ...], set[str]]]] = {
    "keys": [
        (("keyctl", 0xFFFF, 0), {"EOPNOTSUPP", "ENOTSUP", "ENOSYS"}),
        (("add_key", 0, 0, 0, 0, 0), {"EFAULT", "EINVAL", "ENOSYS"}),
        (("request_key", 0, 0, 0, 0), {"EFAULT", "ENOSYS"}),
    ],
    "locks": [
        (("flock", MINUS_ONE, 2), {"EBADF"}),
        (("fcntl", MINUS_ONE, F_SETLK, ""), {"EBADF"}),
        (("fcntl", MINUS_ONE, F_OFD_SETLK | GARBAGE, ""), {"EBADF"}),
        (("fcntl", MINUS_ONE, F_SETLEASE, 1), {"EBADF"}),
        (("fcntl", MINUS_ONE, F_GETLEASE, 0), {"EBADF"}),
    ],
    "vsock": [
        (("socket", 40, 0xF, 0), {"EINVAL", "ESOCKTNOSUPPORT", "EAFNOSUPPORT"}),
        (("connect", MINUS_ONE, 0, 0), {"EBADF"}),
    ],
    "sysv-ipc": [
        (("msgget", 0xFFFF, 0), {"ENOENT"}),
        (("semget", 0xFFFF, 0, 0), {"ENOENT"}),
        (("shmget", 0xFFFF, 0, 0), {"ENOENT"}),
        (("shmctl", MINUS_ONE, IPC_RMID, 0), {"EINVAL"}),
        (("shmat", MINUS_ONE, 0, 0), {"EINVAL"}),
    ],
    "posix-queues": [
        (("mq_open", 0, 0, 0, 0), {"EFAULT"}),
        (("mq_unlink", 0), {"EFAULT"}),
        (("mq_notify", MINUS_ONE, 0), {"EBADF"}),
    ],
}


@pytest.mark.parametrize("channel", CALLS)
def test_covert_channel_is_a_switch_of_its_own(channel: CovertChannel, tmp_path: Path) -> None:
    """With a channel its calls come through; without, they are refused, also to a child that may write files."""
    calls = [call for call, _ in CALLS[channel]]
    granted = Policy().allow_covert_channels(channel, COVERT_CHANNELS)
    for (call, expected), answer in zip(CALLS[channel], answers(granted, calls, tmp_path), strict=True):
        assert answer in expected, call
    others: tuple[CovertChannel, ...] = tuple(other for other in CALLS if other != channel)
    for policy in (
        Policy().allow_files_read_write("/srv").allow_threads(),
        Policy().allow_covert_channels(others, COVERT_CHANNELS),
    ):
        assert set(answers(policy, calls, tmp_path)) <= {"EACCES", "EPERM"}


def test_databases_need_locks(tmp_path: Path) -> None:
    """A child that may write files locks them only if its policy says so, in every way that there is."""
    writing = Policy().allow_files_read_write("/srv")
    assert run(writing, "locks", tmp_path) == dict.fromkeys(("flock", "lockf", "open_file", "lease"), "EACCES")
    found = run(writing.allow_covert_channels("locks", COVERT_CHANNELS), "locks", tmp_path)
    assert (found["flock"], found["lockf"], found["open_file"]) == (None, None, 32)
    assert found["lease"] in (0, 1, 2)


def test_shared_segment_is_executable_only_by_policy(tmp_path: Path) -> None:
    """shmat cannot make memory executable, unless the policy says so, whatever else its flags say."""
    ipc = Policy().allow_covert_channels("sysv-ipc", COVERT_CHANNELS)
    calls = [("shmat", MINUS_ONE, 0, SHM_EXEC), ("shmat", MINUS_ONE, 0, SHM_EXEC | GARBAGE)]
    assert answers(ipc, [*calls], tmp_path) == ["EACCES", "EACCES"]
    assert answers(ipc.allow_executable_memory(EXECUTABLE_MEMORY), [*calls], tmp_path) == ["EINVAL", "EINVAL"]


def test_keys_of_the_starter_stay(tmp_path: Path) -> None:
    """Even with keys, a child cannot change the session keyring of the process that started it."""
    keys = Policy().allow_covert_channels("keys", COVERT_CHANNELS)
    calls = [("keyctl", KEYCTL_SESSION_TO_PARENT), ("keyctl", KEYCTL_SESSION_TO_PARENT | GARBAGE)]
    assert answers(keys, [*calls], tmp_path) == ["EPERM", "EPERM"]


def test_single_calls_by_name(tmp_path: Path) -> None:
    """A call that is granted by name comes through, and no other."""
    calls = [("inotify_init1", 0), ("inotify_rm_watch", MINUS_ONE, 0), ("splice", MINUS_ONE, 0, MINUS_ONE, 0, 0, 0)]
    here = [call for call in calls if number(str(call[0])) >= 0]
    assert answers(Policy(), [*here], tmp_path) == ["EACCES", "EACCES", "EPERM"]
    granted = Policy().allow_syscalls("inotify_init1", SYSCALLS)
    assert answers(granted, [*here], tmp_path) == ["done", "EACCES", "EPERM"]


def test_channels_bring_nothing_else(tmp_path: Path) -> None:
    """All channels together open no file, no other socket and no process."""
    every = Policy().allow_covert_channels(tuple(CALLS), COVERT_CHANNELS)
    calls = [("openat", 0, "/etc/passwd", os.O_RDONLY), ("socket", 2, 1, 0), ("socket", 1, 1, 0), ("clone", 17)]
    assert answers(every, [*calls], tmp_path) == ["EACCES", "EACCES", "EACCES", "EPERM"]
