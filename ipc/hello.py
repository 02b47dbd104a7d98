"""Whether a first message may be believed. Pure: facts in, a verdict out.

The hello carries a claimed pid, which is never used for anything but a log line. What counts is what the kernel
attached to the message (`credentials`) and what the launching side knows of the process that it started.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .credentials import Credentials
from .errors import HelloError
from .messages import HIGHEST, LOWEST, FromChild, Hello


@dataclass(frozen=True, slots=True)
class Expected:
    """What the host knows before the hello.

    ``outer_pid`` is the launched process's pid as the host sees it; ``related`` is true when a helper stands
    between, so that the child must be a descendant of the launched process instead of that process itself.
    """

    uid: int
    outer_pid: int
    related: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What came with the first message.

    ``pidfd_pid`` is the pid behind the message's own pidfd (None on kernels without SO_PASSPIDFD); ``ancestors``
    are the pids from the sender's up to the host's, as /proc told while the sender was held by a pidfd.
    """

    message: FromChild
    credentials: Sequence[Credentials]
    fd_count: int
    pidfd_pid: int | None
    ancestors: Sequence[int] = ()


def judge_sender(facts: Facts, expected: Expected) -> Credentials:
    """Return the sender's credentials if it is the process that was launched.

    Raises:
        HelloError: naming the first rule that the message breaks.
    """
    if len(facts.credentials) != 1:
        raise HelloError(f"the first message came with {len(facts.credentials)} credentials instead of one")
    sender = facts.credentials[0]
    if facts.fd_count:
        raise HelloError(f"the first message came with {facts.fd_count} surplus fds")
    if sender.sender_pid <= 0:
        raise HelloError("the kernel could not name the sender in the host's pid namespace (pid 0)")
    if sender.uid != expected.uid:
        raise HelloError(f"the first message came from uid {sender.uid} instead of {expected.uid}")
    if facts.pidfd_pid == -1:
        raise HelloError("the sender of the first message ended before it was identified")
    if facts.pidfd_pid is not None and facts.pidfd_pid != sender.sender_pid:
        raise HelloError(f"the sender's pidfd is of process {facts.pidfd_pid}, its credentials of {sender.sender_pid}")
    if not _is_launched(sender, facts, expected):
        raise HelloError(f"the first message came from process {sender.sender_pid}, which the backend did not launch")
    return sender


def judge_hello(facts: Facts) -> Hello:
    """Return the hello; `HelloError` if the first message is something else."""
    if not isinstance(facts.message, Hello):
        raise HelloError(f"the first message is {type(facts.message).__name__} instead of a hello")
    return facts.message


def choose_version(hello: Hello, lowest: int = LOWEST, highest: int = HIGHEST) -> int:
    """Return the highest version that the child and a host of *lowest* to *highest* speak.

    Raises:
        HelloError: there is none; the text says which side is too old.
    """
    if hello.lowest > hello.highest:
        raise HelloError(f"the child speaks {_versions(hello.lowest, hello.highest)}, which is none")
    if hello.highest < lowest or hello.lowest > highest:
        old = "child" if hello.highest < lowest else "host"
        theirs, ours = _versions(hello.lowest, hello.highest), _versions(lowest, highest)
        raise HelloError(f"the child speaks {theirs} of the protocol and the host {ours}; update the {old}")
    return min(hello.highest, highest)


def _versions(lowest: int, highest: int) -> str:
    return f"version {lowest}" if lowest == highest else f"versions {lowest} to {highest}"


def _is_launched(sender: Credentials, facts: Facts, expected: Expected) -> bool:
    if expected.related:
        return sender.sender_pid != expected.outer_pid and expected.outer_pid in facts.ancestors
    return sender.sender_pid == expected.outer_pid
