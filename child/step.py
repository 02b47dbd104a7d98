"""What the author of an early-init step uses: `early_init`, `handed`, `around_seal`, `require_after_seal`.

    from belljar import early_init

    @early_init(needs=["files"], leaves={"threads": ["decoder-*"]}, deadline="5s")
    def codecs(sample: Path) -> Decoder:
        return Decoder(sample.read_bytes())

The host reads the arguments of the decorator without running the file, so each must be a literal. The parameters of the
function are the step's options in the configuration; one that is annotated with `Path` is a path there. What it returns
is handed on to the plugin (`handed`). See docs/early-init.md.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from ..sandbox.declaration import Declaration, LaterNeed, Need, Right
from ..sandbox.policy import Policy

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

F = TypeVar("F", bound=Callable[..., object])

CHANNEL_ZMQ: Final = "channel-zmq"
"""The step that hands on the channel of a process type with ``channel = "zmq"``."""


class StepError(Exception):
    """A step cannot do its work, or what it would have made is not there; the text says why, in one sentence."""


class Around(NamedTuple):
    """What a step wants done before the seal and after it; ``step`` is the name of that step."""

    step: str
    quiesce: Callable[[], object]
    resume: Callable[[], object] | None


class Scene:
    """What steps and plugin share in one child: what was handed on, who runs now, the loop that it serves on."""

    def __init__(self) -> None:
        self.policy = Policy()
        self.endpoint = ""  # of the channel zmq
        self.control: socket.socket | None = None  # over which the fds of that channel travel
        self.handed: dict[str, Any] = {}
        self.failed: dict[str, str] = {}
        self.arounds: list[Around] = []
        self.loop: AbstractEventLoop | None = None
        self.running = ""
        self.is_sealed = False


scene: Final = Scene()
"""This process's. A child that a zygote forks has a copy, with what the zygote's shared steps handed on."""


def early_init(
    *,
    needs: Sequence[Need] = ("files",),
    needs_after_seal: Sequence[LaterNeed] = (),
    leaves: Mapping[str, Any] | None = None,
    after: Sequence[str] = (),
    before: Sequence[str] = (),
    deadline: str | float | None = None,
    optional: bool = False,
    shared: bool = False,
) -> Callable[[F], F]:
    """Declare a function to be a step of early init; the words are those of `belljar.sandbox.declaration.Declaration`.

    Raises:
        ValueError: a word is not known, or its value cannot be used.
    """
    Declaration.of(
        {
            "needs": needs,
            "needs_after_seal": needs_after_seal,
            "leaves": leaves or {},
            "after": after,
            "before": before,
            "deadline": deadline,
            "optional": optional,
            "shared": shared,
        }
    )
    return lambda function: function


def handed(step: str) -> Any:
    """Return what the step named *step* handed on, before or after the seal. Call it in the child.

    Raises:
        StepError: there is no such step, it has not run, or it failed and was optional; the text says which.
    """
    if step in scene.handed:
        return scene.handed[step]
    if step in scene.failed:
        raise StepError(f"the step {step} handed nothing on: {scene.failed[step]}")
    known = ", ".join(scene.handed) or "no step has run"
    raise StepError(f"the step {step!r} has not run (there is: {known})")


def around_seal(*, quiesce: Callable[[], object], resume: Callable[[], object] | None = None) -> None:
    """In a step: have *quiesce* called when all steps are done, just before the seal, and *resume* after it.

    Quiesced in reverse order, resumed in order, each within the step's deadline. *resume* runs when the host has
    verified the seal and before the plugin is loaded; the seal holds for it, so to start a thread again takes a policy
    that grants threads (declare ``needs_after_seal=["threads"]``).

    Raises:
        StepError: no step is running, or it runs after the seal.
    """
    if not scene.running or scene.is_sealed:
        raise StepError("around_seal can only be called by a step that runs before the seal")
    scene.arounds.append(Around(scene.running, quiesce, resume))


def require_after_seal(right: Right, why: str) -> None:
    """In a step: fail now, with the reason *why*, unless the policy grants *right* to the sealed child.

    For what only the step itself can find out, such as the driver that it was given.

    Raises:
        StepError: the policy does not grant it.
    """
    if not scene.policy.grants(right):
        raise StepError(f"{why}: that needs {right} after the seal, which the policy does not grant")
