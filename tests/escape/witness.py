"""What the host sees of an attack. Where it can see for itself, its eyes decide and not the word of the child."""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.children.intruder import processes
from tests.children.intruder.calls import call

from .scene import Scene

Witness = Callable[[Scene, str], bool]
"""Whether the attack, which gave this evidence, had the effect that it was after."""


def _evidence_is_secret(scene: Scene, evidence: str) -> bool:
    return scene.secret in evidence


def _evidence(wanted: Callable[[Scene], object]) -> Witness:
    return lambda scene, evidence: evidence == str(wanted(scene))


def _exists(name: str) -> Witness:
    return lambda scene, _: os.path.lexists(scene.folder / name)


def _changed(name: str, look: Callable[[os.stat_result], bool]) -> Witness:
    return lambda scene, _: look(os.stat(scene.folder / name))


def _accepts(which: str) -> Witness:
    def accepts(scene: Scene, _: str) -> bool:
        listener: socket.socket = getattr(scene, which)
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    return accepts


def _receives(which: str) -> Witness:
    def receives(scene: Scene, _: str) -> bool:
        sock: socket.socket = getattr(scene, which)
        try:
            return sock.recv(64) == scene.word.encode()
        except BlockingIOError:
            return False

    return receives


def _victim(look: Callable[[dict[str, Any]], bool]) -> Witness:
    return lambda scene, _: look(scene.ask_victim())


def _felt(number: int) -> Witness:
    return _victim(lambda seen: number in seen["signals"])


def _finds(get: str) -> Witness:
    def finds(scene: Scene, _: str) -> bool:
        with suppress(FileNotFoundError):
            return scene.find(get) >= 0
        return False

    return finds


def _finds_queue(scene: Scene, _: str) -> bool:
    with suppress(FileNotFoundError, PermissionError):
        os.close(call("mq_open", scene.word.encode(), os.O_RDONLY, 0, 0))
        return True
    return False


def _knows_abstract(scene: Scene, _: str) -> bool:
    return f"@{scene.word}-bound" in Path("/proc/net/unix").read_text()


def _launcher_ends(scene: Scene, _: str) -> bool:
    poll = select.poll()
    poll.register(scene.launcher, select.POLLIN)
    return bool(poll.poll(200))


_SECRETS = (
    "read a file of the host",
    "read a file by openat2",
    "read a file through /proc/self/root",
    "read a file through .. of the working directory",
    "read a file through .. of a folder that the policy may name",
    "read a file through a link in a folder that the policy may name",
    "read a file through O_PATH and /proc/self/fd",
    "read a file by its handle, open_by_handle_at",
    "read the environment of another process",
    "open what another process has open",
    "read a file through another process's root",
    "read a file with no file name but an fd that it kept",
    "leave a chroot by fchdir",
    "read a file below a folder that the policy lets it keep",
    "go into a folder that the policy lets it keep",
    "read another's memory by process_vm_readv",
    "read another's memory through /proc",
    "take an fd of another process, pidfd_getfd",
    "read an extended attribute",
)
_CODE = (
    "run code in memory that is writable and executable",
    "run code in memory that becomes executable",
    "make memory executable, high bits",
    "make memory executable by pkey_mprotect",
    "run code of a memfd that is mapped twice",
    "make all readable memory executable, personality",
    "attach shared memory as executable",
    "write into code through /proc/self/mem",
)
_SIZES = (
    "stat a file of the host",
    "stat a file by newfstatat with AT_EMPTY_PATH",
    "stat a file by statx",
)

WITNESSES: Final[dict[str, Witness]] = {
    **dict.fromkeys(_SECRETS, _evidence_is_secret),
    **dict.fromkeys(_CODE, _evidence(lambda scene: 42)),
    **dict.fromkeys(_SIZES, _evidence(lambda scene: len(scene.secret))),
    "stat the interpreter, which may be in view": _evidence(lambda scene: os.stat(scene.target.interpreter).st_size),
    "read where a link leads": _evidence(lambda scene: scene.folder / "secret"),
    "write a new file": _exists("written"),
    "write a new file by creat": _exists("created"),
    "truncate a file": _changed("victim", lambda found: found.st_size == 0),
    "make a directory": _exists("made"),
    "remove a file": lambda scene, _: not (scene.folder / "removable").exists(),
    "rename a file": _exists("moved"),
    "write a new file below a folder that the policy lets it keep": _exists("below"),
    "rename a file below a folder that the policy lets it keep": _exists("moved below"),
    "make a hard link": _exists("linked"),
    "make a symbolic link": _exists("symbolic"),
    "make a named pipe": _exists("fifo"),
    "make a device node": _exists("node"),
    "change a file's mode": _changed("victim", lambda found: bool(found.st_mode & stat.S_ISUID)),
    "change a file's plain mode": _changed("moded", lambda found: stat.S_IMODE(found.st_mode) == 0o711),
    "change a file's times": _changed("timed", lambda found: found.st_mtime == 1),
    "change a file's owner": _changed("owned", lambda found: found.st_uid == 12345),
    "write an extended attribute": lambda scene, _: "user.belljar" in os.listxattr(scene.folder / "victim"),
    "put a file into /dev/shm": lambda scene, _: os.path.exists(f"/dev/shm/{scene.word}"),
    "list a folder of the host": lambda scene, evidence: "secret" in evidence.split(","),
    "connect to the host by TCP": _accepts("tcp"),
    "connect to the host by TCP over IPv6": _accepts("tcp"),
    "send to the host by UDP": _receives("udp"),
    "connect to a socket with a path": _accepts("stream"),
    "connect to a socket in a folder that the policy may name": _accepts("given"),
    "send to a socket with a path": _receives("datagram"),
    "send to a socket with a path over half a pair": _receives("datagram"),
    "connect to an abstract socket": _accepts("abstract"),
    "send to an abstract socket over half a pair": _receives("abstract_datagram"),
    "have an abstract name that the host can find": _knows_abstract,
    "signal a process": _felt(processes.BY_KILL),
    "signal a thread, tgkill": _felt(processes.BY_TGKILL),
    "signal a thread, tkill": _felt(processes.BY_TKILL),
    "queue a signal with a forged origin": _felt(processes.BY_QUEUE),
    "queue a signal to a thread": _felt(processes.BY_THREAD_QUEUE),
    "signal by pidfd": _felt(processes.BY_PIDFD),
    "signal a process group": _felt(processes.BY_GROUP),
    "signal everybody": lambda scene, evidence: evidence == "sent" and _felt(processes.EVERYBODY)(scene, evidence),
    "have a signal sent by a descriptor, F_SETOWN": _felt(processes.BY_SIGIO),
    "signal its own process group, which the launcher may share": _launcher_ends,
    "see a process by getpgid": _evidence(lambda scene: scene.victim.pid),
    "see a process by getsid": _evidence(lambda scene: scene.victim.pid),
    "change the affinity of a process": _victim(lambda seen: seen["affinity"] == [0]),
    "change the priority of a process": _victim(lambda seen: seen["nice"] == 1),
    "change the limits of a process": _victim(lambda seen: seen["open_files"] == 77),
    "write another's memory by process_vm_writev": _victim(lambda seen: seen["memory"] == "written!"),
    "leave shared memory for others": _finds("shmget"),
    "leave a semaphore for others": _finds("semget"),
    "leave a message queue for others": _finds("msgget"),
    "leave a POSIX message queue for others": _finds_queue,
}


def had_effect(scene: Scene, name: str, evidence: str) -> bool | None:
    """Return whether the host saw the effect of *name*; None where it has no way to look."""
    witness = WITNESSES.get(name)
    return None if witness is None else witness(scene, evidence)
