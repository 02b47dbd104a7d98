"""One media job: thumbnails of pictures and videos, made in sealed children of two types, both at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import anyio
import msgspec
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from belljar import BelljarError, Config, Process, ProcessHost
from belljar.ipc.errors import printable
from command import reason
from contact_sheet import TILE, Tile, believed, draw_sheet
from interfaces import Thumbnailer, Video
from jobs import run_jobs
from media import Material

FRAMES = 4  # thumbnails of each video


class MediaJob:
    """Its material, what became of each piece, and the hosts of its children.

    *backend* takes the place of the configuration's, if one is given, and so does *run_as*.
    """

    def __init__(self, config: Config, material: Sequence[Material], *, backend: str = "", run_as: str = "") -> None:
        self.config = config
        self.material = material
        self.backend = backend
        self.run_as = run_as
        self.tiles: dict[str, list[Tile]] = {}
        self.problems: dict[str, str] = {}
        self.hosts: list[ProcessHost] = []

    def process(self, name: str) -> Process:
        """The process type *name* as this job launches it."""
        chosen = self.config.process(name)
        return msgspec.structs.replace(
            chosen, backend=self.backend or chosen.backend, run_as=self.run_as or chosen.run_as
        )

    async def run(self, console: Console) -> None:
        """Send pictures to one child and videos to another. Raises BelljarError where a child could not be launched."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        failures: list[BelljarError] = []
        with Progress(*columns, console=console) as progress:
            async with anyio.create_task_group() as tasks:
                for name in ("thumbnailer", "video"):
                    share = [piece for piece in self.material if piece.video == (name == "video")]
                    bar = progress.add_task(f"{name} ({self.process(name).backend})", total=len(share))
                    tasks.start_soon(self._run, name, share, partial(progress.advance, bar), failures)
        for failure in failures:
            raise failure

    async def _run(
        self, name: str, share: list[Material], advance: Callable[[], None], failures: list[BelljarError]
    ) -> None:
        def done(piece: Material, result: list[Tile] | Exception) -> None:
            if isinstance(result, Exception):
                self.problems[piece.name] = reason(result)
                result = [Tile(piece.label, self.problems[piece.name])]
            self.tiles[piece.name] = result
            advance()

        work = video_tiles if name == "video" else picture_tiles
        try:
            await run_jobs(self.process(name), share, work, launched=self.hosts.append, done=done)
        except BelljarError as error:
            failures.append(error)

    def sheet(self) -> Image.Image:
        """All thumbnails, in the order of the material."""
        return draw_sheet([tile for piece in self.material for tile in self.tiles[piece.name]])

    @property
    def went_wrong(self) -> bool:
        """Whether a good piece gave no thumbnail, or a damaged one gave one. What people bring may be either."""
        return {piece.name for piece in self.material if piece.damaged} != set(self.problems)


async def picture_tiles(host: ProcessHost, piece: Material) -> list[Tile]:
    """The tile of one picture."""
    small = await host.proxy(Thumbnailer).thumbnail(piece.data, TILE)
    facts = f"{small.format}, {small.source_width} x {small.source_height}"
    return [Tile(piece.label, printable(facts), believed(small.image))]


async def video_tiles(host: ProcessHost, piece: Material) -> list[Tile]:
    """The tiles of one video: a few frames of it."""
    plugin = host.proxy(Video)
    clip = await plugin.describe(piece.data)
    facts = printable(f"{clip.codec}{clip.audio and ' + '}{clip.audio}, {clip.width} x {clip.height}")
    tiles: list[Tile] = []
    async for frame in plugin.frames(piece.data, FRAMES, TILE):
        upright = believed(frame.image).rotate(frame.rotation, expand=True)
        tiles.append(Tile(piece.label, f"{facts}, {frame.seconds:.1f} s", upright))
        if len(tiles) == FRAMES:
            break
    return tiles
