"""A plugin, and a step of early init, that log all they do."""

from __future__ import annotations

import logging
import os
import threading

from belljar import early_init

log = logging.getLogger("codec.parser")
log.warning("imported as %s", "the plugin")


@early_init()
def warms() -> None:
    logging.getLogger("warm").warning("early")


class Logs:
    """Logs, from where it is told to."""

    def say(self, level: int, text: str) -> None:
        log.log(level, "%s", text)

    def fail(self) -> None:
        try:
            int("x")
        except ValueError:
            log.exception("could not")

    def from_a_thread(self) -> None:
        thread = threading.Thread(target=log.warning, args=("from a thread",))
        thread.start()
        thread.join()

    def fork(self) -> int:
        """Log in a process of its own."""
        pid = os.fork()
        if pid == 0:
            log.warning("from a fork")
            os._exit(0)
        return os.waitpid(pid, 0)[1]

    def flood(self, count: int) -> None:
        for number in range(count):
            log.warning("number %d", number)


class Fails:
    """Cannot be made."""

    def __init__(self) -> None:
        log.warning("about to fail")
        raise ValueError("no")
