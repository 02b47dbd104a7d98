"""A thread that reads what a child says while no thread calls it: notifications, logging, what its own threads ask."""

from __future__ import annotations

import logging
import os
import select
import threading

from ..ipc.peer.shared import SharedPeer

log = logging.getLogger("belljar.host")

IDLE = 0.05
"""Seconds without a call after which the pump reads. Two threads that read cost each call twice its time."""

JOIN = 1.0
"""Seconds that a service has to return after the end."""


class Pump:
    """Owns its thread, called *name*, which ends with *peer*, and an fd that wakes it.

    Attributes:
        is_busy: Whether a call has begun or ended lately; whoever finds that it is not calls `touch` when one does.
    """

    def __init__(self, peer: SharedPeer, name: str) -> None:
        self.is_busy = False
        self._peer = peer
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._bell: int | None = None
        self._rings = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin. `RuntimeError` if there can be no thread."""
        self._thread.start()

    def touch(self) -> None:
        """A thread calls, or has just called: it reads for itself, and perhaps not all that came."""
        self.is_busy = True
        self.rouse()

    def rouse(self) -> None:
        """There may be something to do. From any thread."""
        if not self._rings:
            with self._lock:
                if self._bell is not None and not self._rings:
                    self._rings = True
                    os.eventfd_write(self._bell, 1)

    def stop(self) -> None:
        """The peer has ended."""
        self._over.set()
        self.rouse()

    def join(self) -> None:
        """Wait for the end of the thread, if it began and is another one; a moment only: it may be in a service."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(JOIN)

    def _run(self) -> None:
        with self._lock:
            self._bell = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            while not self._over.is_set():
                if self.is_busy:
                    self.is_busy = False
                    self._over.wait(IDLE)
                else:
                    self._pump()
                    self._await_news()
            self._pump()  # the streams of services end, too
        finally:
            with self._lock:
                bell, self._bell = self._bell, None
                os.close(bell)

    def _pump(self) -> None:
        try:
            self._peer.pump()
        except BaseException:  # the edge of foreign code: a service raised SystemExit, which is not for this thread
            log.exception("a service ended itself and not this thread")

    def _await_news(self) -> None:
        assert self._bell is not None
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        for fd, events in self._peer.awaited().items():
            poll.register(fd, events)
        poll.poll()
        with self._lock:
            if self._rings:
                self._rings = False
                os.eventfd_read(self._bell)
