"""What can go wrong on the application's side: configuration, launch, protection, ending and calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..ipc.errors import BelljarError

if TYPE_CHECKING:
    from ..ipc.stage import Stage
    from ..sandbox.layers import Layer
    from .ended import Ended


class ConfigError(BelljarError):
    """A configuration cannot be used; the text names file, key path, what was expected and the nearest valid name."""


class PlanError(ConfigError):
    """The early-init steps cannot run in their order; the text names both sides and the remedy."""


class LaunchError(BelljarError):
    """A launch failed at ``stage``; ``errno`` is 0 where no call of the kernel failed, ``text`` says what happened."""

    def __init__(self, stage: Stage, errno: int, text: str) -> None:
        super().__init__(f"stage {int(stage)} ({stage.label}): {text}")
        self.stage = stage
        self.errno = errno
        self.text = text


class ProtectionError(LaunchError):
    """The kernel does not show what the backend promised: ``layer``, and the ``thread`` (tid) that lacks it, if one."""

    def __init__(self, stage: Stage, text: str, *, layer: Layer, thread: int | None = None) -> None:
        super().__init__(stage, 0, text)
        self.layer = layer
        self.thread = thread


class ChildEnded(BelljarError):
    """The child ended before it answered; ``ended`` says how."""

    def __init__(self, text: str, ended: Ended) -> None:
        super().__init__(text)
        self.ended = ended
