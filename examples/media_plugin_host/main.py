"""Thumbnails of untrusted pictures and videos, made in sealed children, on one contact sheet.

Run it without arguments for the demo's own material, or with files of yours: python main.py holiday.jpg film.mp4
"""

from __future__ import annotations

import argparse
import mimetypes
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
from PIL import Image
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from attacks import BACKENDS, attack, attacks_table
from belljar import BelljarError, Config, PluginError, ProcessHost, load_config
from belljar.host.place import printable
from belljar.host.render import launch_report
from contact_sheet import TILE, Tile, draw_sheet, picture
from interfaces import Attempt, Frame, Thumbnailer, Video
from jobs import run_jobs
from media import Material, MaterialMissing, clips, damaged, photographs

HERE = Path(__file__).parent
FRAMES = 4  # thumbnails of each video

T = TypeVar("T")


class Trouble(Exception):
    """Something that the user can mend; the message is one sentence."""


class Demo:
    """One run: its material, what became of each piece, and what was seen of each child."""

    def __init__(self, config: Config, console: Console) -> None:
        self.config = config
        self.console = console
        self.tiles: dict[str, list[Tile]] = {}
        self.problems: dict[str, str] = {}
        self.reports: list[RenderableType] = []

    async def make_thumbnails(self, material: list[Material]) -> None:
        """Send pictures to one child and videos to another, both at once."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        failures: list[BelljarError] = []
        with Progress(*columns, console=self.console) as progress:
            async with anyio.create_task_group() as tasks:
                for name in ("thumbnailer", "video"):
                    share = [piece for piece in material if piece.video == (name == "video")]
                    bar = progress.add_task(name, total=len(share))
                    tasks.start_soon(self._run, name, share, partial(progress.advance, bar), failures)
        for failure in failures:
            raise failure

    async def _run(
        self, name: str, share: list[Material], advance: Callable[[], None], failures: list[BelljarError]
    ) -> None:
        def done(piece: Material, result: list[Tile] | Exception) -> None:
            if isinstance(result, Exception):
                self.problems[piece.name] = _reason(result)
                result = [Tile(piece.label, self.problems[piece.name])]
            self.tiles[piece.name] = result
            advance()

        work = video_tiles if name == "video" else picture_tiles
        try:
            await run_jobs(self.config.process(name), share, work, launched=self.launched, done=done)
        except BelljarError as error:
            failures.append(error)

    async def attack(self) -> dict[str, dict[str, Attempt]]:
        """Let the hostile plugin try everything, without a sandbox and with one."""
        results: dict[str, dict[str, Attempt]] = {}
        with tempfile.TemporaryDirectory(prefix="belljar-demo-") as folder:
            for backend in BACKENDS:
                victim = Path(folder, backend)
                victim.write_text("a file of the host\n", encoding="utf-8")
                results[backend] = await attack(self.config.process("hostile"), backend, victim, self.launched)
        return results

    def launched(self, host: ProcessHost) -> None:
        """Note what the host knows of a child, while it lives."""
        self.reports.append(
            launch_report(
                host.process.name,
                _known(host.protection),
                host.timeline,
                launched_pid=_known(host.launched_pid),
                child_pid=_known(host.child_pid),
                claimed_pid=_known(host.claimed_pid),
            )
        )


async def picture_tiles(host: ProcessHost, piece: Material) -> list[Tile]:
    """The tile of one picture."""
    small = await host.proxy(Thumbnailer).thumbnail(piece.data, TILE)
    facts = f"{small.format}, {small.source_width} x {small.source_height}"
    return [Tile(piece.label, printable(facts), picture(small.width, small.height, small.rgb))]


async def video_tiles(host: ProcessHost, piece: Material) -> list[Tile]:
    """The tiles of one video: a few frames of it."""
    plugin = host.proxy(Video)
    clip = await plugin.describe(piece.data)
    facts = printable(f"{clip.codec}{clip.audio and ' + '}{clip.audio}, {clip.width} x {clip.height}")
    return [
        Tile(piece.label, f"{facts}, {frame.seconds:.1f} s", _upright(frame))
        for frame in await plugin.frames(piece.data, FRAMES, TILE)
    ]


def _upright(frame: Frame) -> Image.Image:
    return picture(frame.width, frame.height, frame.rgb).rotate(frame.rotation, expand=True)


def _reason(error: Exception) -> str:
    """What to tell people: the plugin's own words where it refused its input, else everything."""
    text = str(error)
    if isinstance(error, PluginError) and error.remote_type == "ValueError":
        text = text.partition("ValueError: ")[2]
    return printable(text or type(error).__name__)


def _known(value: T | None) -> T:
    if value is None:
        raise RuntimeError("a child that is ready is known in full")
    return value


async def run(files: list[Path], out: Path, console: Console) -> bool:
    """Do it all; return whether everything went as it should. Raises Trouble, MaterialMissing, BelljarError."""
    demo = Demo(load_config(HERE / "belljar.toml"), console)
    _make_folder(out)
    material = [_read(file) for file in files] if files else _own_material(out)
    await demo.make_thumbnails(material)
    sheet = out / "contact-sheet.png"
    _save(sheet, lambda: draw_sheet([tile for piece in material for tile in demo.tiles[piece.name]]).save(sheet))
    results = await demo.attack()
    _report(demo, results, console)
    console.print(f"contact sheet: {sheet}", markup=False, highlight=False)
    escaped = any(attempt.outcome == "succeeded" for attempt in results["namespaces"].values())
    wrong = not files and {piece.name for piece in material if piece.damaged} != set(demo.problems)
    return not (escaped or wrong)


def _report(demo: Demo, results: dict[str, dict[str, Attempt]], console: Console) -> None:
    for report in demo.reports:
        console.print(report, "")
    for name, problem in demo.problems.items():
        console.print(f"no thumbnail of {name}: {problem}", style="yellow", markup=False, highlight=False)
    console.print("", attacks_table(results), "")


def _own_material(out: Path) -> list[Material]:
    pictures, films = photographs(), clips()
    for film in films:
        path = out / film.name
        _save(path, partial(path.write_bytes, film.data))
    return [*pictures, *films, *damaged(pictures[0], films[0])]


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Trouble(
            f"could not write to the output folder {out}: {error.strerror} (choose another with --out)"
        ) from None


def _save(path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise Trouble(f"could not write {path}: {error.strerror} (choose another folder with --out)") from None


def _read(file: Path) -> Material:
    kind, _ = mimetypes.guess_type(file.name)
    try:
        return Material(str(file), file.read_bytes(), video=(kind or "").startswith("video/"))
    except OSError as error:
        raise Trouble(f"could not read {file}: {error.strerror} (name pictures and videos that exist)") from None


def main() -> int:
    """The command line: 0 if all went as it should, 1 if something did not, 2 for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="pictures and videos (default: the demo's own)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for contact-sheet.png (default: out)")
    arguments = parser.parse_args()
    console = Console()
    try:
        return 0 if anyio.run(run, arguments.files, arguments.out, console) else 1
    except (Trouble, MaterialMissing, BelljarError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
