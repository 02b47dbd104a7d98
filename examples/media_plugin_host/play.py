"""Plays an H.264 clip in sealed children, as Gecko plays it by a GMP, and puts pictures of it on a contact sheet.

Run it without arguments for the demo's own clip, or with one of yours: python play.py film.mp4
Run it again, and the codec remembers: the host keeps a record for it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from belljar import BelljarError, Config, LaunchError, Process, ProcessHost, load_config
from command import (
    ALL_WELL,
    HERE,
    MENDABLE,
    NOT_HERE,
    WRONG,
    Trouble,
    backend_name,
    make_folder,
    read,
    reason,
    save,
    user_of_children,
)
from contact_sheet import draw_sheet
from interfaces import Codec, Demuxer, History, RecordStore, Unusable
from media import Material, MaterialMissing, h264_clip
from player import Player
from storage import Profile

GOOD = 30.0  # dB; below it people see what the encoder did


async def run(config: Config, arguments: argparse.Namespace, console: Console) -> int:
    """Play the clip and return the exit code. Raises Trouble, MaterialMissing, BelljarError."""
    out: Path = arguments.out
    make_folder(out)
    clip = Material(str(arguments.clip), read(arguments.clip, "a clip that exists")) if arguments.clip else h264_clip()
    run_as = user_of_children(console)
    demuxer, codec = (_process(config, name, arguments.backend, run_as) for name in ("demuxer", "codec"))
    with Profile(out / "profile").records(codec.name, arguments.origin) as records:
        async with ProcessHost(demuxer) as first, ProcessHost(codec, services={RecordStore: records}) as second:
            plugin = second.proxy(Codec)
            history = await plugin.history()
            player = await _play(clip, Player(first.proxy(Demuxer), plugin), console)
            await plugin.remember()
    sheet = out / "clip.png"
    save(sheet, lambda: draw_sheet(player.tiles()).save(sheet))
    for line in (*map(_held, (first, second)), *_facts(player), _remembered(history), f"contact sheet: {sheet}"):
        console.print(line, markup=False, highlight=False)
    return WRONG if min(player.quality, default=0) < GOOD and not arguments.clip else ALL_WELL


def _process(config: Config, name: str, backend: str | None, run_as: str) -> Process:
    chosen = config.process(name)
    return msgspec.structs.replace(chosen, backend=backend or chosen.backend, run_as=run_as or chosen.run_as)


async def _play(clip: Material, player: Player, console: Console) -> Player:
    track = await player.open(clip.data)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(clip.label, total=track.packets if track.packets > 0 else None)
        await player.play(lambda: progress.advance(bar))
    return player


def _held(host: ProcessHost) -> str:
    layers = sorted(host.protection.engaged() if host.protection else ())
    return f"{host.process.name}: {host.process.backend}, ready after {host.timeline['total']:.0f} ms; " + (
        f"engaged: {', '.join(layers)}" if layers else "nothing is enforced"
    )


def _facts(player: Player) -> Iterator[str]:
    pictures, track = len(player.quality), player.track
    speed = f"{pictures / player.seconds:.0f} a second, each decoded, encoded and decoded again"
    yield f"{pictures} pictures of {track.width} x {track.height}; {speed}"
    if pictures:
        quality = f"PSNR {statistics.fmean(player.quality):.1f} dB, at least {min(player.quality):.1f} dB"
        yield f"encoded anew: {player.taken} bytes became {player.given}; {quality}"


def _remembered(history: History) -> str:
    if history.foreign:
        return "the codec found a record that is not of this profile and origin, and did not believe it"
    if history.plays:
        return f"the codec remembers earlier plays: {history.plays}, with {history.pictures} pictures decoded"
    return "the codec remembers nothing: it plays here for the first time"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", type=Path, help="an H.264 clip (default: the demo's own)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for clip.png and profile (default: out)")
    parser.add_argument("--origin", default="https://example.org", help="the site that the codec plays for")
    parser.add_argument("--backend", metavar="NAME", type=backend_name, help="another backend")
    return parser.parse_args()


def main() -> int:
    """The command line; the exit codes are those of main.py."""
    arguments = _arguments()
    try:
        return anyio.run(run, load_config(HERE / "belljar.toml"), arguments, Console())
    except (Trouble, MaterialMissing, Unusable, BelljarError) as error:
        print(f"error: {reason(error)}", file=sys.stderr)
        return NOT_HERE if arguments.backend and isinstance(error, LaunchError) else MENDABLE


if __name__ == "__main__":
    sys.exit(main())
