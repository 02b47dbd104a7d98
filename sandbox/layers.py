"""The layers: each is one thing that the kernel enforces."""

from __future__ import annotations

from enum import StrEnum


class Layer(StrEnum):
    """One thing that the kernel enforces on a child, and that the host can read back."""

    USER_NS = "user-namespace"
    PID_NS = "pid-namespace"
    NET_NS = "net-namespace"
    IPC_NS = "ipc-namespace"
    MOUNT_NS = "mount-namespace"
    UTS_NS = "uts-namespace"
    CGROUP_NS = "cgroup-namespace"
    EMPTY_ROOT = "empty-root"
    CAPABILITIES = "capabilities"
    NO_NEW_PRIVS = "no-new-privs"
    LANDLOCK = "landlock"
    SECCOMP = "seccomp"
    RLIMITS = "rlimits"
