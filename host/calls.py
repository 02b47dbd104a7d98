"""The host's side of calls: what it makes of a child's errors, and what a child learns of its own."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from ..ipc.errors import (
    ArgumentError,
    CallCancelled,
    CallError,
    RemoteError,
    ResultError,
    ServiceRefused,
    UnknownMethod,
    printable,
)
from ..ipc.frames import Failed, FailureKind, Reply, decode_from_child
from ..ipc.interface import ArgumentsUnfit, Codec, Declared, ValueUnfit, codec
from ..ipc.interface.shapes import UNENCODABLE
from ..ipc.interface.shapes import encode_plain as encode
from ..ipc.peer.records import Incoming, Outgoing

log = logging.getLogger("belljar.host")

MAX_LOGGED = 100
"""Records of one kind that are logged for one child, which can cause as many as it likes.

There are two kinds: services that failed, and calls in which the seal refused something.
"""

_HOST_ONLY = ("belljar.host", "belljar.testing")

SHOWN = 4
"""Imports, and files, that the seal refused and that one sentence names."""


class HostSide:
    """How the host tells and hears errors (`belljar.ipc.peer.base.Side`).

    Args:
        name: The child's, for the log.
        refusals: Returns the files that the seal has refused since it was asked last.
        make_proxy: Returns an object whose methods are calls of the child's target of that number.
    """

    decode = staticmethod(decode_from_child)
    takes_many = False

    def __init__(
        self, name: str, refusals: Callable[[], tuple[str, ...]], make_proxy: Callable[[type, int], object]
    ) -> None:
        self._name = name
        self._refusals = refusals
        self.proxy = make_proxy
        self._logged: Counter[str] = Counter()
        self._refused: tuple[str, ...] = ()
        self._imports: tuple[str, ...] = ()
        self._refused_words = ""

    def answered(self, call: Outgoing, answer: Reply | Failed) -> None:
        """Log what the seal refused during the call, even if a library hid it."""
        files = self._refusals()
        if not (files or answer.refused):
            self._refused = ()
            return
        self._imports = answer.refused
        # Words of the child, on their way into the log: no line breaks, and nothing that a terminal would obey.
        imports = [f"import {printable(name)}" for name in answer.refused]
        self._refused = (*imports, *files)
        self._refused_words = ", ".join(filter(None, (some_of(imports), some_of(files))))
        if self._may_log("calls were refused something"):
            log.warning("%s: after the seal, %r was refused %s", self._name, call.declared.name, self._refused_words)

    def _may_log(self, what: str) -> bool:
        """Return whether one more record of the kind *what* may be logged; say so once if none may any more."""
        self._logged[what] += 1
        if self._logged[what] == MAX_LOGGED + 1:
            log.error("%s: %s too often; what else there is of it is not logged", self._name, what)
        return self._logged[what] <= MAX_LOGGED

    def heard(self, call: Outgoing, failed: Failed) -> CallError | Exception:
        """Return the error that the caller gets.

        No terminal obeys what the child says in it, and only a traceback and a declared error have more than one line.
        """
        method, is_declared = call.declared.name, failed.kind == "declared"
        said = printable(failed.text, keep="\n\t" if is_declared else "")
        if failed.kind == "not-offered":
            return UnknownMethod(f"could not call {method!r}: {said}")
        if failed.kind == "unknown-method":
            return UnknownMethod(f"the plugin has no method {method!r}; {said}")
        if failed.kind == "argument":
            return ArgumentError(f"could not call {method!r}: {said}")
        if failed.kind == "result":
            return ResultError(f"the result of {method!r} cannot be sent: {said}")
        if failed.kind == "cancelled":
            return CallCancelled(f"{method!r} was ended by the child: {said}")
        kind = printable(failed.error)
        text = f"{method!r} raised {kind}: {said}"
        if self._refused:
            remedy = host_only(self._imports) or "preload it or warm it up, if that is why"
            text += f" (the seal refused {self._refused_words}: {remedy})"
        trace = printable(failed.traceback, keep="\n\t")
        remote = RemoteError(text, remote_type=kind, remote_traceback=trace, refused=self._refused)
        wanted = call.declared.raises.get(failed.error) if is_declared else None
        if wanted is None:
            return remote
        try:
            error = wanted(said)
        except Exception:  # noqa: BLE001 - the application's own class, which may refuse what the child says
            return remote
        error.__cause__ = remote
        return error

    def told(self, incoming: Incoming, error: BaseException) -> tuple[FailureKind, str, str, str]:
        """What a service raises is the host's own affair; the child learns only what is meant for it."""
        declared = incoming.answer.declared
        if type(error).__name__ in declared.raises and isinstance(error, declared.raises[type(error).__name__]):
            return "declared", type(error).__name__, str(error), ""
        if isinstance(error, ArgumentsUnfit):
            return "argument", "", str(error), ""
        if isinstance(error, ValueUnfit):
            return "result", "", str(error), ""
        if isinstance(error, ServiceRefused):
            return "refused", "", str(error), ""
        if not isinstance(error, Exception):
            return "cancelled", "", "the host ended it", ""
        self.lost(incoming, error)
        return "failed", "", f"{incoming.answer.title} failed in the host", ""

    def lost(self, incoming: Incoming, error: BaseException) -> None:
        """Log the error, unless there were too many: each has a traceback. One that was cancelled has not failed."""
        if not isinstance(error, Exception):
            return
        if self._may_log("services failed"):
            log.error("%s: %s failed in the host", self._name, incoming.answer.title, exc_info=error)

    def refused(self) -> tuple[str, ...]:
        """Nothing is refused to a host."""
        return ()


def some_of(refused: Sequence[str]) -> str:
    """Return the first names of what the seal *refused*, and how many more there are; nothing if there are none."""
    more = f" and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
    return ", ".join(refused[:SHOWN]) + more


def host_only(imports: Iterable[str]) -> str:
    """Return what to do about those of the *imports* that no child may have; nothing if there are none."""
    for name in imports:
        home = ".".join(name.split(".")[:2])  # the rest is the child's words
        if home in _HOST_ONLY:
            return f"no child has {home}: import it in the host's modules only, or under `if TYPE_CHECKING`"
    return ""


class Untyped(Declared):
    """A method of which nothing is known but its name, and what its result must be."""

    def __init__(self, name: str, returns: Any) -> None:
        self.name = name
        self.kind = "call"
        self.parameters = ()
        self.upload = {}
        self.uploads = ()
        self.raises = {}
        self.item: Codec | None = None
        self.result = codec(returns)
        self.plain = self.is_simple = True

    def bind(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, ...]:
        """Any arguments fit."""
        return arguments

    def encode_many(self, calls: Sequence[tuple[Any, ...]], attaching: object = None) -> bytes:
        """Return the arguments of *calls*, all with as many, as one array of arrays."""
        if len(set(map(len, calls))) > 1:
            raise ArgumentsUnfit("calls that go together have equally many arguments")
        return self.encode_arguments(tuple(calls))

    def encode_arguments(self, bound: tuple[Any, ...], attaching: object = None) -> bytes:
        """Return *bound* as msgpack."""
        try:
            return encode(bound)
        except UNENCODABLE as error:
            text = "what is no plain value takes an interface, see host.proxy"
            raise ArgumentsUnfit(f"its arguments cannot be sent: {error}; {text}") from None


@lru_cache(maxsize=512)
def untyped(name: str, returns: Any) -> Untyped:
    """Return the method *name*, about which only the type of the result is known.

    Raises:
        UnknownMethod: no method can have that name.
    """
    if not name.isidentifier() or len(name) > 256:
        raise UnknownMethod(f"the plugin has no method {name[:256]!a}: that is no name of one")
    return Untyped(name, returns)
