"""Services: what the host answers when a plugin asks, and nothing else.

    class Records(Protocol):
        def read(self, name: str) -> bytes: ...

    async with ProcessHost(process, services={Records: FolderOfRecords(path)}) as host:
        ...

An application offers interfaces with objects behind them, child by child. What a child asks is hostile: it names an
object by number and a method that the interface declares, the arguments must fit the interface, which must give each a
type. What the object raises is the host's own affair: the child learns only that it failed, but for `ServiceRefused`
and errors that the interface declares, whose text is meant for it. An object's methods may be plain or ``async``, may
stream, and may call the plugin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ipc.interface import check_closed, declared
from ..ipc.interface.describe import MAX_DESCRIPTION
from ..ipc.interface.fitting import pack
from ..ipc.peer.records import Answers, answers_of
from ..sandbox.fields import shown

MOST = 64
"""Services of one child: as many as `belljar.ipc.messages.Load` holds."""

LONGEST = 128
"""Characters of the name of one, for the same reason."""


class Services:
    """What one host offers to its child: interfaces, each with the object that answers.

    Raises:
        TypeError: an object lacks a method of its interface, or a parameter has no type, or no whole one; or there are
            more interfaces, or longer names, than a child can be told.
    """

    def __init__(self, offered: Mapping[type, object]) -> None:
        _check_mapping(offered)
        for interface in offered:
            check_closed(interface)
        self.names = tuple(interface.__name__ for interface in offered)
        _check_names(self.names)
        self.descriptions = tuple(pack(each.__name__, declared(each)) for each in offered)
        if (
            sum(map(len, self.descriptions)) > MAX_DESCRIPTION
        ):  # more than a message holds: calls are checked one by one
            self.descriptions = ()
        self.targets: dict[int, Answers] = {
            number: answers_of(interface, behind) for number, (interface, behind) in enumerate(offered.items(), 1)
        }


def _check_mapping(offered: object) -> None:
    """Raise `TypeError` for an object that is offered without its interface."""
    if not isinstance(offered, Mapping):
        expected = "a dict of interfaces and the objects that answer, such as {Records: FolderOfRecords()}"
        raise TypeError(f"services: expected {expected}, got {shown(offered)}")


def _check_names(names: Sequence[str]) -> None:
    """Raise `TypeError` unless a child can be told the *names* and tell them apart."""
    if len(names) > MOST:
        raise TypeError(f"{len(names)} services are offered, and a child can have at most {MOST}")
    if long := next((name for name in names if len(name) > LONGEST), ""):
        raise TypeError(f"the name of {long[:16]}... has {len(long)} characters, and may have at most {LONGEST}")
    if len(set(names)) < len(names):
        raise TypeError("two interfaces of one name cannot be told apart; rename one")
