"""Streams a video, frame by frame, from a sealed child that decodes it. A slow host slows the child.

Run it without arguments for the clip of the media example, or with one of yours: python stream_video.py film.mp4
Ctrl-C ends the generator in the child, and the child is asked whether it did.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio
import anyio.abc
import msgspec
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from belljar import BelljarError, ProcessHost, load_config
from belljar.sandbox.user import closed_to, resolve_user
from decoding import Decoder, Frame, NotAVideo

HERE = Path(__file__).parent
CHUNK = 64 << 10  # bytes of one item of an upload
ALL_WELL, MENDABLE, INTERRUPTED = 0, 2, 130


@dataclass
class Seen:
    """What the host saw of a stream, and what the child says of it."""

    frames: int = 0
    megabytes: float = 0.0
    seconds: float = 1e-9
    most_in_flight: int = 0
    most_mb_in_child: float = 0.0
    decoded_by_child: int = 0
    generator: str = ""
    ended: str = "at its end"

    @property
    def speed(self) -> dict[str, float]:
        """Frames and megabytes of pixels a second."""
        return {"frames/s": self.frames / self.seconds, "MB/s": self.megabytes / self.seconds}


class Player:
    """Takes frames from *host* at the pace of *arguments*, and shows on *bar* how it goes."""

    def __init__(self, host: ProcessHost, arguments: argparse.Namespace, bar: Progress) -> None:
        self.host = host
        self.plugin = host.proxy(Decoder)
        self.arguments = arguments
        self.bar = bar
        self.task = bar.add_task("", total=None)
        self.seen = Seen()
        self.last: Frame | None = None

    async def play(self, film: bytes) -> None:
        """Play *film* until its end, or until it is stopped. Raises NotAVideo, BelljarError, in a group."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._wait_for_interrupt, tasks.cancel_scope)
            tasks.start_soon(self._watch)
            self.bar.console.print(f"{self.host.process.backend}: ready after {self.host.timeline['total']:.0f} ms")
            upload, times = self.arguments.upload, self.arguments.times
            await self._take(self.plugin.decode(chunks(film)) if upload else self.plugin.frames(film, times))
            tasks.cancel_scope.cancel()
        await self._ask()

    async def _take(self, frames: AsyncGenerator[Frame]) -> None:
        seen, began = self.seen, time.perf_counter()
        async with aclosing(frames):  # however this block is left, the generator in the child ends with it
            async for self.last in frames:
                seen.frames += 1
                seen.megabytes += self.last.pixels.nbytes / 1e6
                seen.seconds = time.perf_counter() - began
                self.bar.update(self.task, completed=seen.frames, total=self.last.total or None)
                if seen.frames == self.arguments.stop_after:
                    seen.ended = "by --stop-after"
                    break
                await anyio.sleep(self.arguments.slow / 1000)

    async def _wait_for_interrupt(
        self, scope: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        with anyio.open_signal_receiver(signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                self.seen.ended = "by Ctrl-C"
                scope.cancel()

    async def _watch(self) -> None:
        while True:
            await self._ask()
            await anyio.sleep(0.05)

    async def _ask(self) -> None:
        """Ask the child how far it is, which it answers between two frames, and the kernel how much memory it has."""
        seen, state = self.seen, await self.plugin.state()
        seen.decoded_by_child = state.decoded
        seen.generator = "open" if state.is_open else "closed"
        in_flight, memory = state.decoded - seen.frames, resident(self.host.child_pid or 0)
        seen.most_in_flight = max(seen.most_in_flight, in_flight)
        seen.most_mb_in_child = max(seen.most_mb_in_child, memory)
        speed = ", ".join(f"{number:.0f} {unit}" for unit, number in seen.speed.items())
        self.bar.update(self.task, description=f"{speed}, {in_flight} in flight, {memory:.0f} MB in the child")


async def chunks(film: bytes) -> AsyncIterator[bytes]:
    """*film* as it might come from a network; it is asked for no faster than the child reads it."""
    for start in range(0, len(film), CHUNK):
        yield film[start : start + CHUNK]


def resident(pid: int) -> float:
    """The megabytes that process *pid* has in memory, shared ones included; see VmRSS in proc(5)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6


async def run(arguments: argparse.Namespace, console: Console) -> int:
    """Play and report; return the exit code."""
    film = arguments.film.read_bytes() if arguments.film else own_film(arguments.upload)
    process = load_config(HERE / "belljar.toml").process("decoder")
    run_as = "root" if closed_to(resolve_user(""), str(HERE)) else ""  # where the children of root may not go
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    async with ProcessHost(msgspec.structs.replace(process, run_as=run_as)) as host:
        with Progress(*columns, console=console, disable=arguments.json) as bar:
            player = Player(host, arguments, bar)
            await player.play(film)
    seen = player.seen
    if arguments.last and player.last:
        Image.fromarray(player.last.pixels).save(arguments.last)
    if arguments.json:
        print(json.dumps({**asdict(seen), **seen.speed}))
    console.print(f"at most {seen.most_in_flight} frames in flight, and {seen.most_mb_in_child:.0f} MB in the child")
    console.print(
        f"ended {seen.ended}, after {seen.frames} frames; the child decoded {seen.decoded_by_child}, "
        f"and its generator is {seen.generator}"
    )
    return INTERRUPTED if seen.ended == "by Ctrl-C" else ALL_WELL


def own_film(upload: bool) -> bytes:
    """The clip of the media example: MP4, which is read here and there, or WebM, from its beginning to its end."""
    sys.path.append(str(HERE.parent / "media_plugin_host"))
    from media import clips

    mp4, webm = clips()
    return webm.data if upload else mp4.data


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", nargs="?", type=Path, help="a video (default: the clip of the media example)")
    parser.add_argument("--times", type=int, default=10, help="play it so often (default: 10)")
    parser.add_argument("--slow", type=float, default=0.0, metavar="MS", help="spend so many milliseconds on a frame")
    parser.add_argument("--stop-after", type=int, metavar="N", help="close the stream after N frames")
    parser.add_argument("--upload", action="store_true", help="stream the film to the child while frames come back")
    parser.add_argument("--last", type=Path, metavar="PNG", help="save the last frame")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    arguments = parser.parse_args()
    code = MENDABLE
    try:
        code = anyio.run(run, arguments, Console(quiet=arguments.json))
    except* (NotAVideo, BelljarError, OSError) as errors:
        print(f"error: {errors.exceptions[0]}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
