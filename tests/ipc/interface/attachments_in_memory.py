"""The attachments of one message, without a message: what one side attached, the other finds."""

from __future__ import annotations

import os
from typing import Any

from belljar.ipc.interface.errors import ValueUnfit
from belljar.ipc.interface.fd import Fd
from belljar.ipc.memory.buffer import Buffer, SealedBuffer, SharedBuffer


class InMemory:
    """Both an `Attaching` and an `Attached`."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.released = 0

    def _keep(self, value: Any) -> int:
        self.kept.append(value)
        return len(self.kept) - 1

    def _find(self, number: int) -> Any:
        if not 0 <= number < len(self.kept):
            raise ValueUnfit(f"nothing has the number {number}")
        return self.kept[number]

    def _release(self) -> None:
        self.released += 1


class Attaching(InMemory):
    """Takes attachments."""

    def buffer(self, data: memoryview) -> int:
        return self._keep(data)

    def shared(self, buffer: SharedBuffer) -> int:
        return self._keep(buffer.view)

    def sealed(self, buffer: SealedBuffer) -> int:
        return self._keep(os.dup(buffer.fileno()))

    def fd(self, fd: Fd[Any]) -> int:
        return self._keep(fd)

    def export(self, interface: type, behind: object) -> int:
        return self._keep((interface, behind))


class Attached(InMemory):
    """Gives what an `Attaching` has taken."""

    def __init__(self, attaching: Attaching) -> None:
        super().__init__()
        self.kept = attaching.kept

    def buffer(self, number: int) -> Buffer:
        return Buffer(self._find(number), self._release)

    def shared(self, number: int) -> SharedBuffer:
        raise NotImplementedError

    def sealed(self, number: int) -> SealedBuffer:
        return SealedBuffer(self._find(number), 1 << 30)

    def fd(self, number: int, kind: str) -> Fd[Any]:
        return Fd.received(os.dup(self._find(number).fileno()), kind)

    def proxy(self, interface: type, number: int) -> object:
        offered, behind = self._find(number)
        assert offered is interface
        return behind
