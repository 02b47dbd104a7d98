"""Which graphics driver a child will find: a GPU's, if it may open a render node, or else llvmpipe.

Mesa's llvmpipe renders on the processor. It compiles shaders to machine code, also while it draws, so it needs
executable memory in the sealed child; denied, it crashes at the first draw (tests/child/steps). A driver of a GPU
compiles for the GPU, hands the code to the kernel by ioctl on a node that early init opened, and starts threads when
its queues fill. That is what Mesa's source says; it has not been seen on a GPU.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .declaration import Right
from .user import User

RENDER_NODES = Path("/dev/dri")


class Driver(NamedTuple):
    """A driver: its name for people, and what the policy must grant for it to draw in the sealed child."""

    name: str
    rights: tuple[Right, ...]


LLVMPIPE = Driver("llvmpipe", ("executable-memory",))


def find_driver(user: User) -> Driver:
    """Return the driver that a child of *user* will find."""
    for node in sorted(RENDER_NODES.glob("renderD*")):
        if _may_open(node, user):
            return Driver(str(node), ("gpu", "threads"))
    return LLVMPIPE


def _may_open(node: Path, user: User) -> bool:
    """Whether the mode of *node* lets *user* read and write it: the host may be another user than its children."""
    try:
        about = os.stat(node)
    except OSError:
        return False
    if user.uid in (0, about.st_uid):
        return user.uid == 0 or about.st_mode & 0o600 == 0o600
    if about.st_gid in (user.gid, *user.groups):
        return about.st_mode & 0o060 == 0o060
    return about.st_mode & 0o006 == 0o006
