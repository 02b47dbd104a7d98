"""Early-init steps of the tests, each with what it declares."""

from __future__ import annotations

import mmap
import os
import signal
import threading
from functools import partial
from pathlib import Path

from belljar import around_seal, early_init, handed, require_after_seal

_loaded_by: list[str] = []
_kept: list[mmap.mmap] = []


@early_init(needs=[])
def answer() -> int:
    """Hand something on."""
    _loaded_by.append("answer")
    return 42


@early_init(needs=[], after=["early.py:answer"])
def question() -> list[str]:
    """Use what another step handed on, and the module that both share."""
    assert handed("early.py:answer") == 42
    _loaded_by.append("question")
    return _loaded_by


@early_init(optional=True)
def unlucky() -> None:
    """Fail; the launch goes on, and what was to rest over the seal is nobody's any more."""
    around_seal(quiesce=lambda: 1 / 0)
    raise FileNotFoundError("no such driver")


def options(text: str, number: float, flag: bool, names: tuple[str, ...], file: Path, files: tuple[Path, ...]) -> str:
    """Say what the options became."""
    return repr((text, number, flag, names, file.name, [path.name for path in files], file.read_text()))


class Watchdog:
    """A thread that waits for its end."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.stopped.wait)
        self.thread.start()
        self.log: list[str] = []

    def stop(self) -> None:
        """End the thread, and wait until the kernel no longer lists it."""
        self.stopped.set()
        self.thread.join()
        self.log.append("stopped")

    def start(self) -> None:
        """Start another thread."""
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.stopped.wait, daemon=True)
        self.thread.start()
        self.log.append("started")


@early_init(needs=["threads"], leaves={"threads": ["*"]}, needs_after_seal=["threads"])
def watchdog() -> Watchdog:
    """A thread that rests while the seal is made."""
    dog = Watchdog()
    around_seal(quiesce=dog.stop, resume=dog.start)
    return dog


@early_init(needs=[])
def order() -> list[str]:
    """Register two pairs of calls, and note their order."""
    noted: list[str] = []
    for name in ("first", "second"):
        around_seal(quiesce=partial(noted.append, f"quiesce {name}"), resume=partial(noted.append, f"resume {name}"))
    return noted


@early_init(needs=[], deadline="200ms")
def stubborn() -> None:
    """Never come to rest."""
    around_seal(quiesce=signal.pause)


def restless() -> None:
    """Fail to come to rest."""
    around_seal(quiesce=lambda: 1 / 0)


def unable_to_go_on() -> None:
    """Fail to go on."""
    around_seal(quiesce=lambda: None, resume=lambda: 1 / 0)


@early_init(needs=[], after=["seal"])
def late() -> str:
    """Run in the sealed child."""
    try:
        os.close(os.open("/etc/hostname", os.O_RDONLY))
    except OSError as error:
        return error.strerror or ""
    return "opened"


@early_init(needs=["files"], after=["seal"])
def reversed_order() -> str:
    """Declare what cannot be had."""
    return Path("/etc/hostname").read_text()


@early_init(needs=[], after=["seal"])
def too_late() -> None:
    """Ask for what has happened already."""
    around_seal(quiesce=signal.pause)


def outside_of_a_step() -> None:
    """Ask for what only a policy can give."""
    require_after_seal("executable-memory", "this step makes code")


@early_init(shared=True, needs=[])
def token() -> str:
    """Draw what two runs do not have in common."""
    return os.urandom(8).hex()


@early_init(shared=True, needs=[])
def token_with_an_fd() -> str:
    """The same, and leave an fd, so that no zygote can share it."""
    os.memfd_create("left")
    return os.urandom(8).hex()


@early_init(shared=True, needs=[])
def token_with_memory() -> str:
    """The same, and leave memory that all who are forked from here would write."""
    _kept.append(mmap.mmap(-1, 4096))
    return os.urandom(8).hex()


def leaver() -> None:
    """Leave a bit of everything, undeclared."""
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    os.memfd_create("undeclared")
    os.environ["UNDECLARED"] = "1"
    signal.signal(signal.SIGUSR1, lambda number, frame: None)


@early_init(
    leaves={"threads": ["*"], "fds": ["memfd"], "environment": ["UNDECLARED"], "signals": ["SIGUSR1"]},
)
def honest_leaver() -> None:
    """Leave the same, declared."""
    leaver()


def keeps_directory() -> int:
    """Keep a directory open."""
    return os.open("/etc", os.O_RDONLY)
