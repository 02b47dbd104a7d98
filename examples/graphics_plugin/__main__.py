"""A scene drawn by an untrusted plugin in a sealed child, whose OpenGL context was made before the seal.

Without arguments: one turn of the scene, drawn by a sealed child and, for comparison, by one that is not sealed.
"""

from __future__ import annotations

import argparse
import operator
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from belljar import BelljarError, Config, Process, load_config
from belljar.host.config.place import nearest, quoted
from belljar.ipc.errors import printable
from belljar.sandbox.backends import names
from belljar.sandbox.user import closed_to, resolve_user

from .pictures import draw_sheet, picture, save_film, small
from .render import Drawn, draw, painters, sealed_first, speed, with_backend

HERE = Path(__file__).parent
FRAMES_OF_EACH = 3
AT_A_TIME = 4  # frames of one stream, so that sealed and unsealed child take turns
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())

ALL_WELL, WRONG, MENDABLE, NOT_HERE = range(4)
"""Exit codes; the README says what each means."""


class Trouble(Exception):
    """Something that the user can mend; the message is one sentence."""


async def run(config: Config, arguments: argparse.Namespace, console: Console) -> int:
    """Do what was asked and return the exit code. Raises Trouble, BelljarError."""
    process = config.process("painter")
    if arguments.backend:
        process = with_backend(process, arguments.backend)
    process = msgspec.structs.replace(process, run_as=_user_of_children(console))
    if arguments.seal_first:
        return await _seal_first(process, arguments.force, console)
    if arguments.all_backends:
        return await _compare(process, console)
    return await _turn(process, arguments.frames, arguments.out, console)


async def _turn(process: Process, count: int, out: Path, console: Console) -> int:
    """One turn of the scene, sealed and not, in turns, so that both have the same machine."""
    frames: list[Image.Image] = []
    differ = 0
    async with painters([process, with_backend(process, "none")]) as (sealed, free):
        _print_facts(sealed, console)
        with Progress(*COLUMNS, console=console) as progress:
            bar = progress.add_task(f"frames ({process.backend}, and none)", total=count)
            for first in range(0, count, AT_A_TIME):
                turns = [number / count for number in range(first, min(first + AT_A_TIME, count))]
                for drawn in (sealed, free) if first // AT_A_TIME % 2 else (free, sealed):
                    await draw(drawn, turns)
                differ += sum(map(operator.ne, sealed.frames, free.frames))
                frames += [small(picture(frame)) for frame in sealed.frames]
                progress.advance(bar, len(turns))
    _save(frames, out, console)
    console.print(
        f"a frame takes {sealed.milliseconds:.0f} ms sealed and {free.milliseconds:.0f} ms not sealed: "
        f"{speed(sealed, free):.2f} of the speed"
    )
    if differ:
        console.print(f"{differ} of {count} frames differ from those that the unsealed child drew", style="bold red")
    return WRONG if differ else ALL_WELL


async def _compare(process: Process, console: Console) -> int:
    """A few frames on each backend, and whether they are the same."""
    table = Table(title="the same frames on each backend", title_justify="left")
    for heading in ("backend", "launch ms", "graphics-egl ms", "ms a frame", "threads sealed", "frames"):
        table.add_column(heading, justify="left" if heading in ("backend", "frames") else "right")
    first: list[bytes] = []
    code = ALL_WELL
    for backend in names():
        try:
            drawn, frames = await _few(with_backend(process, backend))
        except BelljarError as error:
            table.add_row(backend, "-", "-", "-", "-", Text(printable(str(error)), style="red"))
            code = code or NOT_HERE
            continue
        first = first or frames
        if frames != first:
            code = WRONG
        table.add_row(backend, *_numbers(drawn), "the same" if frames == first else Text("differ", style="red"))
    console.print(table)
    return code


async def _few(process: Process) -> tuple[Drawn, list[bytes]]:
    async with painters([process]) as (drawn,):
        await draw(drawn, [number / FRAMES_OF_EACH for number in range(FRAMES_OF_EACH)])
    return drawn, drawn.frames


def _numbers(drawn: Drawn) -> list[str]:
    timeline, held = drawn.host.timeline, drawn.host.protection
    sealed = str(held.threads) if held is not None and drawn.host.process.backend != "none" else "none"
    times = (timeline["total"], timeline["graphics-egl"], drawn.milliseconds)
    return [*(f"{each:.0f}" for each in times), sealed]


async def _seal_first(process: Process, force: bool, console: Console) -> int:
    """The reversed order: refused by the plan (PlanError), or with *force* tried, and explained."""
    try:
        async with painters([sealed_first(process, force=force)]) as (drawn,):
            console.print(f"it was drawn by {printable(drawn.renderer)}, sealed by {process.backend}")
    except BelljarError as error:
        if not force:
            raise
        console.print(f"graphics after the seal: {printable(str(error))}", style="red", markup=False, highlight=False)
        return WRONG
    return ALL_WELL


def _print_facts(drawn: Drawn, console: Console) -> None:
    held, timeline = drawn.host.protection, drawn.host.timeline
    threads = ", ".join(f"{count} {printable(name)}" for name, count in sorted(drawn.threads.items()))
    lines = [
        f"renderer: {printable(drawn.renderer)}",
        f"threads: 1 before graphics-egl, {1 + sum(drawn.threads.values())} after ({threads})",
        f"sealed and verified: {held.threads if held else 0} threads, by {drawn.host.process.backend}",
        f"launch: {timeline['total']:.0f} ms, of which graphics-egl {timeline['graphics-egl']:.0f}",
    ]
    console.print("\n".join(lines), markup=False, highlight=False)


def _save(frames: Sequence[Image.Image], out: Path, console: Console) -> None:
    sheet, film = out / "frames.png", out / "turn.gif"
    try:
        out.mkdir(parents=True, exist_ok=True)
        draw_sheet(frames).save(sheet)
        save_film(frames, film)
    except OSError as error:
        raise Trouble(f"could not write to {out}: {error.strerror} (choose another folder with --out)") from None
    for path in (sheet, film):
        console.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", markup=False, highlight=False)


def _user_of_children(console: Console) -> str:
    """What run_as is to be: nothing, unless the files lie where the children of root, who are nobody, cannot go."""
    closed = closed_to(resolve_user(""), str(HERE / "belljar.toml"))
    if closed:
        console.print(f"note: {closed}. Here the children keep uid 0.", style="yellow", markup=False)
    return "root" if closed else ""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.graphics_plugin", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder for frames.png and turn.gif (default: out)"
    )
    parser.add_argument("--frames", type=_count, default=24, help="frames of one turn (default: 24)")
    parser.add_argument("--backend", metavar="NAME", type=_backend, help=f"one of {', '.join(names())}")
    parser.add_argument("--all-backends", action="store_true", help="a few frames on each, side by side")
    parser.add_argument("--seal-first", action="store_true", help="declare graphics after the seal")
    parser.add_argument("--force", action="store_true", help="with --seal-first: launch it although it cannot work")
    arguments = parser.parse_args()
    if arguments.force and not arguments.seal_first:
        parser.error("--force belongs to --seal-first")
    return arguments


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 360:
        raise argparse.ArgumentTypeError(f"expected 1 to 360 frames, got {quoted(text)}")
    return int(text)


def _backend(name: str) -> str:
    if name not in names():
        raise argparse.ArgumentTypeError(f"no such backend: {quoted(name)}{nearest(name, names())}")
    return name


def main() -> int:
    """The command line; the exit codes are those above."""
    arguments = _arguments()
    try:
        return anyio.run(run, load_config(HERE / "belljar.toml"), arguments, Console())
    except (Trouble, BelljarError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return MENDABLE


if __name__ == "__main__":
    sys.exit(main())
