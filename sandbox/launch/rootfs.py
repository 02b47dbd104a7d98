"""Empty the root of a child, from outside. Stage 7 of the ``namespaces`` backend.

The child has no capability, so it cannot do this itself; its zygote can, since the child's mount namespace belongs
to the zygote's user namespace. setns(2) with a pidfd (Linux 5.8) joins that mount namespace, which needs a process
whose fs structure is not shared, that is: one thread. pivot_root(2) changes the root *and the working directory*
of every process and thread that has the old root, so it moves all threads of the child; one whose working
directory is elsewhere would stay in the old tree, which is why the child must have done chdir("/") before.
pivot_root(".", ".") stacks the old root on the new one, and MNT_DETACH takes it off.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from .. import syscalls as sc
from ..steps import step

_ANY_DIRECTORY = "/proc"  # only a place to hang the new root for a moment
_LOCKED_DOWN = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC


@dataclass(frozen=True, slots=True)
class View:
    """The paths that a policy names and that stay visible: everything else is gone.

    ``real_paths`` says where those lead that begin with a link in /; no other link is followed.
    """

    read_only: Sequence[str] = ()
    read_write: Sequence[str] = ()
    devices: Sequence[str] = ()
    real_paths: Mapping[str, str] = field(default_factory=dict)


def replace_root(pidfd: int, own_mount_namespace: int, view: View) -> None:
    """Leave the process behind *pidfd* with a read-only root that holds *view* only.

    Raises:
        StepFailed: naming the step; the child must then be killed, for its root is half-made.
    """
    with _inside(pidfd, own_mount_namespace):
        with step("mount the empty root"):
            sc.mount("belljar", _ANY_DIRECTORY, "tmpfs", _LOCKED_DOWN, "mode=0755,size=64k")
        for path in view.read_only:
            _bind(path, sc.MS_RDONLY | sc.MS_NOSUID | sc.MS_NODEV, view.real_paths.get(path, path))
        for path in view.read_write:
            _bind(path, sc.MS_NOSUID | sc.MS_NODEV)
        for path in view.devices:  # a device can be written all the same; its mode and its owner cannot
            _bind(path, sc.MS_RDONLY | sc.MS_NOSUID | sc.MS_NOEXEC)
        with step("make the empty root read-only"):
            sc.mount("belljar", _ANY_DIRECTORY, None, sc.MS_REMOUNT | sc.MS_BIND | sc.MS_RDONLY | _LOCKED_DOWN)
        with step("pivot to the empty root"):
            os.chdir(_ANY_DIRECTORY)
            sc.pivot_root(".", ".")
        with step("detach the old root"):
            sc.umount2(".", sc.MNT_DETACH)


@contextmanager
def _inside(pidfd: int, own_mount_namespace: int) -> Iterator[None]:
    with step("join the child's mount namespace"):
        sc.setns(pidfd, sc.CLONE_NEWNS)
    try:
        yield
    finally:
        sc.setns(own_mount_namespace, sc.CLONE_NEWNS)  # if this fails, the zygote ends rather than stay in there


def _bind(path: str, flags: int, real: str = "") -> None:
    """Bind *path*, and all that is mounted below it, at the same place below the new root, with *flags* on each.

    By fds, which are opened without following any link: a child that may write above *path* could have put one there.
    A remount would set the flags of the topmost mount only; mount_setattr(2), Linux 5.12, sets those of all.
    """
    target = _ANY_DIRECTORY + path
    with step(f"make {path} visible"), ExitStack() as fds:
        source = _opened(fds, sc.open_without_links(real or path))
        if stat.S_ISDIR(os.fstat(source).st_mode):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o444))
        tree = _opened(fds, sc.copy_tree(source))
        sc.mount_setattr(tree, flags)
        sc.attach_tree(tree, _opened(fds, sc.open_without_links(target)))


def _opened(fds: ExitStack, fd: int) -> int:
    fds.callback(os.close, fd)
    return fd
