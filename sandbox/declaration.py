"""What a step of early init declares: what it needs, what it leaves behind, and where it stands in the order.

The host reads a declaration before any process exists, and orders and checks the plan by it (`belljar.host.plan`);
the child runs the step and measures what it really left (`belljar.child.early_init`). A declaration is a value.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from .quantities import parse_duration

Right: TypeAlias = Literal[
    "files", "devices", "gpu", "network", "local-sockets", "threads", "subprocesses", "executable-memory"
]
Need: TypeAlias = Right | Literal["single-threaded"]
LaterNeed: TypeAlias = Right | Literal["graphics-driver"]
FdKind: TypeAlias = Literal[
    "file", "directory", "device", "socket", "pipe", "memfd", "eventfd", "eventpoll", "timerfd", "other"
]

RIGHTS: Final[dict[str, str]] = {
    "files": "reading files by name",
    "devices": "opening device nodes",
    "gpu": "commanding a GPU through a node that is open",
    "network": "sockets of the network, inet, inet6 or netlink",
    "local-sockets": "connecting a unix socket to a name in the file system",
    "threads": "starting threads",
    "subprocesses": "starting processes; they must have ended before the seal",
    "executable-memory": "memory that is made executable, by a JIT compiler or dlopen",
}
"""What a step may need, while it runs (``needs``) or for what it made (``needs_after_seal``)."""

SINGLE_THREADED: Final = "single-threaded"
"""The one need that other steps, and not layers and policy, decide."""

GRAPHICS_DRIVER: Final = "graphics-driver"
"""Stands for what the driver needs that the host finds for the child: the rights of `belljar.sandbox.graphics`."""

FD_KINDS: Final[tuple[str, ...]] = get_args(FdKind)

SEAL: Final = "seal"
"""The name, in ``after`` and ``before``, of the seal."""


class Leaves(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a step may leave behind; what is not named here and is found at the end of the step is reported.

    Attributes:
        threads: Names of threads that go on, as the kernel knows them (at most 15 characters), ``*`` for any part.
        fds: Kinds of fds that stay open.
        executable_memory: Whether executable memory stays mapped that no file stands behind, as a JIT compiler's.
        environment: Names of environment variables that are set, changed or gone; ``*`` for any part.
        signals: Names of signals whose handling is changed, such as ``SIGSEGV``.
    """

    threads: tuple[str, ...] = ()
    fds: tuple[FdKind, ...] = ()
    executable_memory: bool = False
    environment: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()


class Declaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a step of early init says of itself.

    Attributes:
        needs: What must be there while it runs: keys of `RIGHTS`, and ``single-threaded``.
        needs_after_seal: What the policy must grant for what the step made to work in the sealed child: keys of
            `RIGHTS`, and ``graphics-driver``.
        leaves: What it may leave behind.
        after, before: Names of steps, or ``seal``; those that are not in the plan do not count.
        deadline: Seconds it may take; None for the process type's ``step_timeout``.
        optional: Whether the launch goes on without it when it raises. (One that hangs or crashes ends the child.)
        shared: Whether a zygote may run it once for all its children. Such a step leaves no thread, no fd and no memory
            that a fork shares (else it is not shared), does not look at the environment that the process type sets, and
            draws no secret that children must not share.
    """

    needs: tuple[Need, ...] = ("files",)
    needs_after_seal: tuple[LaterNeed, ...] = ()
    leaves: Leaves = Leaves()
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    deadline: float | None = None
    optional: bool = False
    shared: bool = False

    @classmethod
    def of(cls, given: dict[str, Any]) -> Declaration:
        """Make a declaration of the keys that are *given*.

        Raises:
            ValueError: an unknown key or an unusable value; one sentence.
        """
        if given.get("deadline") is not None:
            given = {**given, "deadline": _deadline(given["deadline"])}
        try:
            return msgspec.convert(given, cls, strict=True)
        except msgspec.ValidationError as error:
            text, _, where = str(error).partition(" - at `$.")
            place = f"{where.rstrip('`')}: " if where else ""
            raise ValueError(f"{place}{text[:1].lower()}{text[1:]}") from None


def _deadline(value: Any) -> float:
    try:
        seconds = parse_duration(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"deadline: {error}") from None
    if seconds <= 0:
        raise ValueError("deadline: expected more than 0 seconds")
    return float(seconds)
