"""The plugin's methods as calls: arguments checked against annotations, results encoded, errors as text."""

from __future__ import annotations

import os
import typing
from typing import Any

import msgspec

from ..ipc.datagram import Datagram
from ..ipc.interface import ArgumentsUnfit, Method
from ..ipc.messages import MAX_INLINE, Call, CallFailed, Reply, Shutdown, shorten
from ..ipc.payload import make_sealed, read_sealed
from .errors_as_text import describe
from .link import Link
from .refused import RefusedImports
from .services import Services


class Dispatcher:
    """Answers calls one after the other until the host says shutdown or is gone."""

    def __init__(self, link: Link, methods: dict[str, Method], refused: RefusedImports, services: Services) -> None:
        self.link = link
        self.methods = methods
        self.refused = refused
        self.services = services
        self.max_payload = services.max_payload
        self.encoder = msgspec.msgpack.Encoder()

    def run(self) -> None:
        """Serve. Raises `HostGone` at end of file."""
        while True:
            message, received = self.link.receive()
            if isinstance(message, Call):
                self.services.answerer = self
                self.answer(message, received)
                self.services.answerer = None
            elif isinstance(message, Shutdown):
                return

    def answer(self, call: Call, received: Datagram) -> None:
        """Answer *call*; whatever the plugin does, it gets one answer."""
        try:
            method = self.methods.get(call.method)
            if method is None:
                self._fail(call, "unknown-method", "", f"it has {', '.join(self.methods) or 'no public methods'}")
                return
            result = self._call(method, call, received)
        except ArgumentsUnfit as error:
            self._fail(call, "argument", "", str(error))
        except BaseException as error:  # noqa: BLE001 - the edge of foreign code: whatever it raises is its answer
            self._fail_with(call, error)
        else:
            self._reply(call, result)
        finally:
            received.close()

    def _call(self, method: Method, call: Call, received: Datagram) -> object:
        if call.payload is not None:
            return method(call.payload)
        return method(read_sealed(received.take_fd(), self.max_payload))

    def _reply(self, call: Call, result: object) -> None:
        try:
            payload = self.encoder.encode(result)
        except (TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
            self._fail(call, "result", type(error).__name__, str(error))
            return
        if len(payload) > self.max_payload:
            self._fail(call, "result", "", f"it has {len(payload)} bytes, more than max_payload = {self.max_payload}")
        elif len(payload) <= MAX_INLINE:
            self._send(Reply(call.call_id, payload, self.refused.take()))
        else:
            self._send_large(call, payload)

    def _send_large(self, call: Call, payload: bytes) -> None:
        try:
            fd = make_sealed(payload)
        except OSError as error:
            self._fail(
                call, "result", type(error).__name__, f"could not make a payload of {len(payload)} bytes: {error}"
            )
            return
        try:
            self._send(Reply(call.call_id, None, self.refused.take()), [fd])
        except OSError as error:  # ETOOMANYREFS: this user has too many fds on their way
            self._fail(call, "result", type(error).__name__, f"could not send {len(payload)} bytes: {error}")
        finally:
            os.close(fd)

    def _send(self, message: Reply, fds: typing.Sequence[int] = ()) -> None:
        if len(message.payload or b"") + sum(map(len, message.refused)) > MAX_INLINE:
            message = msgspec.structs.replace(message, refused=())
        self.link.send(message, fds)

    def _fail(self, call: Call, kind: Any, error: str, text: str, trace: str = "") -> None:
        refused = self.refused.take()
        self.link.send(
            CallFailed(call.call_id, kind, shorten(error, 256), shorten(text, 4096), shorten(trace, 8192), refused)
        )

    def _fail_with(self, call: Call, error: BaseException) -> None:
        text, trace = describe(error, own_frames=3, without_files=self.refused.is_watching)
        self._fail(call, "exception", type(error).__name__, text, trace)
