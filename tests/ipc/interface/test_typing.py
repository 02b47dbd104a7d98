"""What type checkers see of calls: the signatures of the interface, and every wrong use of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from belljar import Process, ProcessHost, notify, raises, service
from belljar.ipc.interface.buffers import BufferLike
from belljar.ipc.interface.fd import Fd
from belljar.ipc.memory.buffer import Buffer


class Progress(Protocol):
    def done(self, part: float) -> None: ...


class Decoder(Protocol):
    async def size(self, data: bytes, scale: int = 1) -> tuple[int, int]: ...
    def frames(self, data: BufferLike) -> AsyncIterator[NDArray[np.uint8]]: ...
    async def store(self, name: str, chunks: AsyncIterator[bytes]) -> int: ...
    @raises(ValueError)
    async def decode(self, data: BufferLike, progress: Progress) -> Buffer: ...
    async def read(self, file: Fd[Literal["file-read"]]) -> str: ...
    @notify
    async def hint(self, text: str) -> None: ...


class Abstract(ABC):
    @abstractmethod
    async def size(self, data: bytes) -> int: ...


class Records(Protocol):
    def read(self, name: str) -> bytes: ...


class Bar:
    def done(self, part: float) -> None: ...


class NoBar:
    def done(self, part: str) -> None: ...


async def chunks() -> AsyncIterator[bytes]:
    yield b""


async def numbers() -> AsyncIterator[int]:
    yield 1


async def host_side(host: ProcessHost) -> None:
    decoder = host.proxy(Decoder, timeout=5)
    reveal_type(decoder)  # is Decoder
    reveal_type(await decoder.size(b"", scale=2))  # is tuple[int, int]
    await decoder.size("text")  # wrong
    await decoder.size()  # wrong
    await decoder.size(b"", scale="2")  # wrong
    await decoder.size(b"", 1, 2)  # wrong
    await decoder.missing()  # wrong
    (await decoder.size(b"")).upper()  # wrong
    async for frame in decoder.frames(b""):
        reveal_type(frame.shape)  # is tuple[Any, ...]
        frame.upper()  # wrong
    async for frame in decoder.size(b""):  # wrong
        pass
    for frame in decoder.frames(b""):  # wrong
        pass
    await decoder.frames(b"")  # wrong
    reveal_type(await decoder.store("name", chunks()))  # is int
    await decoder.store("name", numbers())  # wrong
    await decoder.store("name", [b""])  # wrong
    reveal_type(await decoder.decode(memoryview(b""), Bar()))  # is Buffer
    await decoder.decode(b"", NoBar())  # wrong
    with Fd(0, "file-read") as file:
        reveal_type(await decoder.read(file))  # is str
    await decoder.read(Fd(0, "socket"))  # wrong
    await decoder.read(0)  # wrong
    await decoder.hint("text")
    await decoder.hint(1)  # wrong
    reveal_type(await host.proxy(Abstract).size(b""))  # is int
    await host.proxy(Abstract).size(1)  # wrong


def child_side() -> None:
    reveal_type(service(Records).read("name"))  # is bytes
    service(Records).read(1)  # wrong


def offers(process: Process) -> ProcessHost:
    return ProcessHost(process, services={Records: Bar()})


raises(int)  # wrong
plain: Callable[[str], None] = notify(print)
"""

LINES = PROGRAM.splitlines()
WRONG = {number for number, line in enumerate(LINES, 1) if line.endswith("# wrong")}
REVEALED = {number: line.rpartition("# is ")[2] for number, line in enumerate(LINES, 1) if "reveal_type" in line}
ROOT = Path(__file__).parents[3]


CACHE = str(ROOT / ".mypy_cache") if os.access(ROOT, os.W_OK) else os.devnull


def mypy(program: Path) -> list[tuple[int, str]]:
    command = [
        "mypy",
        "--strict",
        "--enable-error-code=type-abstract",
        "--show-error-codes",
        "--no-pretty",
        program.name,
    ]
    done = subprocess.run(
        [sys.executable, "-m", *command, f"--cache-dir={CACHE}", "--config-file="],
        cwd=program.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.findall(rf"{program.name}:(\d+): (?:error|note): (.*)", done.stdout)
    assert found, done.stdout + done.stderr
    return [(int(line), text) for line, text in found]


def pyright(program: Path) -> list[tuple[int, str]]:
    (program.parent / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", f"--pythonpath={sys.executable}", program.name],
        cwd=program.parent, capture_output=True, text=True, check=False, env={"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )  # fmt: skip
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [(each["range"]["start"]["line"] + 1, each["message"]) for each in found]


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_proxy_has_the_signatures_of_its_interface(
    checker: Callable[[Path], list[tuple[int, str]]], tmp_path: Path
) -> None:
    """Both type checkers see the types of arguments, results and items, take Protocols, and find each wrong use."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    found = checker(program)
    revealed = {line: text for line, text in found if line in REVEALED}
    assert {line for line, _ in found} - set(REVEALED) == WRONG, found
    for line, kind in REVEALED.items():
        assert kind in revealed[line].replace("builtins.", "").replace("program.", ""), revealed[line]
