"""What is attacked: files, sockets, a process and names of the host, made afresh for each child."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import belljar
from belljar.sandbox.user import User
from tests.children.intruder import Target
from tests.children.intruder.calls import call, libc
from tests.children.intruder.programs import TINY_PROGRAM

CHILDREN = Path(__file__).parent.parent / "children"
_CHANGED = ("victim", "removable", "movable", "moded", "owned", "timed")


class Scene:
    """A context manager; all in it belongs to *user*, so that only the sandbox is in the way of that user's child."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.secret = f"belljar-{secrets.token_hex(secrets.randbelow(16) + 8)}"
        self.word = f"belljar-{secrets.token_hex(8)}"
        self.key = secrets.randbelow(1 << 30) + 1
        self.launcher = -1
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as on_failure:
            on_failure.callback(self._stack.close)
            self._make_files()
            self._make_sockets()
            self._start_victim()
            on_failure.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _make_files(self) -> None:
        self._stack.callback(self._remove_names)
        base = Path(tempfile.mkdtemp(prefix="belljar-attacked-")).resolve()
        self._stack.callback(shutil.rmtree, base)
        self.folder, self.shared = base / "host", base / "shared"
        for folder in (self.folder, self.shared):
            folder.mkdir()
        for name in _CHANGED:
            (self.folder / name).write_text("unchanged")
        (self.folder / "secret").write_text(self.secret)
        os.setxattr(self.folder / "secret", "user.belljar", self.secret.encode())
        (self.folder / "program").write_bytes(TINY_PROGRAM)
        (self.folder / "program").chmod(0o755)
        (self.shared / "given").write_text("given")
        (self.shared / "link").symlink_to(self.folder / "secret")
        for path in (base, *base.rglob("*")):
            os.chown(path, self.user.uid, self.user.gid, follow_symlinks=False)
        base.chmod(0o755)

    def _socket(self, family: int, kind: int, address: Any) -> socket.socket:
        sock = self._stack.enter_context(socket.socket(family, kind | socket.SOCK_NONBLOCK))
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen()
        if isinstance(address, str) and address.startswith("/"):
            os.chown(address, self.user.uid, self.user.gid)
        return sock

    def _make_sockets(self) -> None:
        local = ("127.0.0.1", 0)
        self.tcp = self._socket(socket.AF_INET, socket.SOCK_STREAM, local)
        self.udp = self._socket(socket.AF_INET, socket.SOCK_DGRAM, local)
        self.stream = self._socket(socket.AF_UNIX, socket.SOCK_STREAM, f"{self.folder}/stream")
        self.given = self._socket(socket.AF_UNIX, socket.SOCK_STREAM, f"{self.shared}/stream")
        self.datagram = self._socket(socket.AF_UNIX, socket.SOCK_DGRAM, f"{self.folder}/datagram")
        self.abstract = self._socket(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self.word}")
        self.abstract_datagram = self._socket(socket.AF_UNIX, socket.SOCK_DGRAM, f"\0{self.word}-datagram")

    def _start_victim(self) -> None:
        """Its fd 0 is the secret file, and its environment and memory hold the secret too."""
        reader, writer = os.pipe()
        self._questions = self._stack.enter_context(os.fdopen(writer, "w", buffering=1))
        ids: dict[str, Any] = {}
        if self.user.uid != os.geteuid():
            ids = {"user": self.user.uid, "group": self.user.gid, "extra_groups": self.user.groups}
        argv = [sys.executable, "-I", "-S", str(CHILDREN / "victim.py"), self.secret, str(reader)]
        with open(reader), open(self.folder / "secret") as fd_0:
            self.victim = subprocess.Popen(
                argv,
                stdin=fd_0,
                stdout=subprocess.PIPE,
                env={"SECRET": self.secret},
                pass_fds=[reader],
                start_new_session=True,
                **ids,
            )
        self._stack.callback(self._end_victim)
        assert self.victim.stdout is not None
        self.address = int(self.victim.stdout.readline())

    def _end_victim(self) -> None:
        with self.victim:
            self.victim.kill()

    def ask_victim(self) -> dict[str, Any]:
        """Return what was done to the victim so far."""
        self.victim.send_signal(signal.SIGCONT)  # a tracer may have left it standing
        self._questions.write("?\n")
        assert self.victim.stdout is not None
        answer: dict[str, Any] = json.loads(self.victim.stdout.readline())
        return answer

    @property
    def target(self) -> Target:
        """What the attacks are told."""
        return Target(
            folder=str(self.folder),
            shared=str(self.shared),
            host_pid=os.getpid(),
            victim_pid=self.victim.pid,
            address=self.address,
            length=len(self.secret),
            abstract=self.word,
            tcp=self.tcp.getsockname()[1],
            udp=self.udp.getsockname()[1],
            key=self.key,
            word=self.word,
            program=os.path.realpath("/bin/true"),
            loader=os.path.realpath("/lib64/ld-linux-x86-64.so.2"),
            interpreter=os.path.realpath(sys.executable),
            package=os.path.realpath(belljar.__file__),
        )

    def _remove_names(self) -> None:
        """Remove what an attack that succeeded left under names for all."""
        Path(f"/dev/shm/{self.word}").unlink(missing_ok=True)
        for get, control in (("shmget", "shmctl"), ("semget", "semctl"), ("msgget", "msgctl")):
            with suppress(FileNotFoundError):
                getattr(libc, control)(self.find(get), 0, 0)  # IPC_RMID, which is 0
        libc.syscall(241, self.word.encode())  # mq_unlink

    def find(self, get: str) -> int:
        """Return the id of the object that has this scene's key; `FileNotFoundError` if there is none."""
        return call(get, self.key, 0, 0)
