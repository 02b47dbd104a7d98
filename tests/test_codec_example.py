"""The codec plugin of the media example: a clip played through sealed children, and what its host believes of it."""

# PyAV's stubs leave the type of packets open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import av
import msgspec
import pytest
from PIL import Image

from belljar import LaunchError, Process, ProcessHost, RemoteError, load_config

from .helpers import on_all, process, require, write_plugin

MEDIA = Path(__file__).parents[1] / "examples" / "media_plugin_host"
ORIGIN = "https://example.org"
PICTURES = 30


def play(*arguments: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the example as a reader does."""
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **variables}
    command = [sys.executable, str(MEDIA / "play.py"), *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended


def film(file: Path, container: str = "mp4", pixels: str = "yuv420p", codec: Any = "libx264") -> Path:
    """Write a few pictures with a gradient that grows darker, in an order of packets that is not that of pictures."""
    with av.open(str(file), "w", format=container) as output:
        track = output.add_stream(codec, rate=25, width=176, height=144)
        track.pix_fmt = pixels
        for number in range(PICTURES):
            shade = Image.linear_gradient("L").resize((176, 144)).point([n * (60 - number) / 60 for n in range(256)])
            frame = av.VideoFrame.from_bytes(shade.convert("RGBA").tobytes(), 176, 144)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(track.encode(frame))
        output.mux(track.encode(None))
    return file


def process_type(name: str, **fields: Any) -> Process:
    run_as = "root" if os.geteuid() == 0 else ""
    return msgspec.structs.replace(load_config(MEDIA / "belljar.toml").process(name), run_as=run_as, **fields)


async def play_with(example: Any, first: ProcessHost, second: ProcessHost, clip: bytes) -> Any:
    """Play *clip* by the demuxer and the codec of two hosts."""
    player = example.player.Player(first.proxy(example.interfaces.Demuxer), second.proxy(example.interfaces.Codec))
    await player.open(clip)
    await player.play(lambda: None)
    return player


def is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


@pytest.fixture(scope="module")
def unsealed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The contact sheet of the demo's own clip, played without a sandbox."""
    if not (is_installed("scikit-image") and is_installed("pyo")):
        pytest.skip("the demo's material is in the extra 'demo'")
    folder = tmp_path_factory.mktemp("unsealed")
    play("--backend", "none", "--out", str(folder))
    return Image.open(folder / "clip.png").tobytes()


@on_all
def test_real_clip_is_played_and_encoded_anew(tmp_path: Path, unsealed: bytes, backend: str) -> None:
    """Each backend makes the contact sheet that is made without one, of pictures that outlive the encoder well."""
    require(backend)
    printed = play("--backend", backend, "--out", str(tmp_path)).stdout
    assert "66 pictures of 640 x 360" in printed
    assert float(re.findall(r"at least ([\d.]+) dB", printed)[0]) > 30
    with Image.open(tmp_path / "clip.png") as sheet:
        assert len(sheet.convert("RGB").getcolors(1 << 24) or ()) > 10_000
        assert sheet.tobytes() == unsealed


def test_codec_remembers_by_origin(tmp_path: Path) -> None:
    """The next run finds what the last one stored for this origin; another origin finds nothing."""
    clip, out = str(film(tmp_path / "clip.mp4")), str(tmp_path / "out")
    assert "for the first time" in play(clip, "--out", out).stdout
    assert f"remembers earlier plays: 1, with {2 * PICTURES} pictures" in play(clip, "--out", out).stdout
    assert "for the first time" in play(clip, "--out", out, "--origin", "https://elsewhere.example").stdout
    assert f"remembers earlier plays: 2, with {4 * PICTURES} pictures" in play(clip, "--out", out).stdout


def test_copied_record_is_not_believed(tmp_path: Path, example: Any) -> None:
    """A record that was copied from one origin to another is of no use there: the storage id is another one."""
    clip, out = str(film(tmp_path / "clip.mp4")), tmp_path / "out"
    play(clip, "--out", str(out))
    (record,) = (out / "profile" / "records").glob("*/history")
    with example.storage.Profile(out / "profile").records("codec", "https://thief.example") as records:
        records.write("history", record.read_bytes())
    ended = play(clip, "--out", str(out), "--origin", "https://thief.example")
    assert "not of this profile and origin" in ended.stdout


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("container", "pixels"),
    [("mp4", "yuv420p"), ("matroska", "yuv422p"), ("mpegts", "yuv420p"), ("h264", "yuv444p"), ("mov", "yuv420p10le")],
)
async def test_sealed_codec_knows_each_form_of_h264(
    tmp_path: Path, example: Any, caplog: pytest.LogCaptureFixture, *, container: str, pixels: str
) -> None:
    """The codec plays what containers and encoders make of H.264, in its order, and the seal refuses it nothing."""
    clip = film(tmp_path / "clip", container, pixels).read_bytes()
    profile = example.storage.Profile(tmp_path / "profile")

    with caplog.at_level(logging.WARNING, "belljar.host"), profile.records("codec", ORIGIN) as records:
        codec = ProcessHost(process_type("codec"), services={example.interfaces.RecordStore: records})
        async with ProcessHost(process_type("demuxer")) as first, codec as second:
            player = await play_with(example, first, second, clip)
    shades = [sum(tile.image.convert("L").tobytes()) for tile in player.tiles()[:6]]
    assert len(player.quality) == PICTURES
    assert min(player.quality) > 30
    assert shades == sorted(set(shades), reverse=True)
    assert not caplog.records


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["thumbnailer", "video", "demuxer", "codec"])
async def test_warm_ups_are_shared(tmp_path: Path, example: Any, name: str) -> None:
    """A zygote runs them once for all its children: they leave nothing that a fork would lose; a loop is not shared."""
    with example.storage.Profile(tmp_path).records(name, ORIGIN) as records:
        async with ProcessHost(process_type(name), services={example.interfaces.RecordStore: records}) as host:
            assert [*host.early_init] == ["asyncio"] * (name == "codec")


@pytest.mark.anyio
async def test_codec_needs_its_libraries_before_the_seal() -> None:
    """Without its preload the codec cannot be loaded after the seal, and the error names what is missing."""
    with pytest.raises(LaunchError, match="could not import av"):
        async with ProcessHost(process_type("codec", preload=("hmac",), early_init=())):
            pytest.fail("a sealed child has loaded a shared library")


@pytest.mark.anyio
async def test_demuxer_needs_its_samples_before_the_seal(tmp_path: Path, example: Any) -> None:
    """Preloading is not enough: PyAV imports a part of itself at its first container, which the seal refuses."""
    clip = film(tmp_path / "clip.mp4").read_bytes()
    async with ProcessHost(process_type("demuxer", early_init=())) as host:
        with pytest.raises(RemoteError, match=r"the seal refused import av\.subtitles"):
            await host.proxy(example.interfaces.Demuxer).open(clip)


@pytest.mark.parametrize(
    ("codec", "expected"),
    [("mpeg4", "the video is 'mpeg4', and this plugin plays h264"), ("", "not a video, or one cut short")],
)
def test_other_clips_give_one_sentence(tmp_path: Path, codec: str, expected: str) -> None:
    """What the codec cannot play, or is no clip at all, is one sentence and exit code 2."""
    clip = film(tmp_path / "clip.mp4", codec=codec) if codec else tmp_path / "junk.mp4"
    if not codec:
        clip.write_bytes(b"no clip")
    ended = play(str(clip), "--out", str(tmp_path / "out"), code=2)
    assert ended.stderr.startswith(f"error: {expected}")
    assert ended.stderr.count("\n") == 1


def test_damaged_clip_gives_one_sentence(tmp_path: Path) -> None:
    """A clip that is damaged half-way is one sentence, and the codec does not count it as played."""
    clip, out = film(tmp_path / "clip.mp4"), tmp_path / "out"
    whole = clip.read_bytes()
    middle = whole.index(b"moov") // 2  # its pictures stand before its index
    clip.write_bytes(whole[:middle] + bytes(500) + whole[middle + 500 :])
    assert play(str(clip), "--out", str(out), code=2).stderr.startswith("error: damaged video: ")
    assert not list((out / "profile" / "records").glob("*/history"))


def test_backend_that_does_not_work_has_its_exit_code(tmp_path: Path) -> None:
    """A backend that was asked for and does not work here is one sentence and exit code 3."""
    clip = str(film(tmp_path / "clip.mp4"))
    arguments = (clip, "--backend", "landlock", "--out", str(tmp_path / "out"))
    ended = play(*arguments, code=3, BELLJAR_FAKE_MISSING="landlock")
    assert "unset BELLJAR_FAKE_MISSING" in ended.stderr


LIES: dict[str, tuple[str, str]] = {
    "pictures": ("self.pictures *= 2", "more pictures than it was given packets: 8"),
    "short": (
        "self.copies, self.pictures = [], [replace(GOOD, i420=Buffer(memoryview(b'')))]",
        "sent 0 bytes as a picture of 16 x 16",
    ),
    "size": ("self.copies, self.pictures = [], [replace(GOOD, width=1 << 40)]", "a picture of 1099511627776 x 16"),
    "held back": ("self.packet *= 5; self.pictures *= 5", "holds 33 pictures back"),
    "lost": ("self.copies = []", "lost 8 pictures"),
    "invented": ("self.copies *= 2", "more pictures of its own packets"),
    "width": ("self.track = replace(self.track, width=-1)", "has -1 x 16 pixels"),
    "codec": ("self.track = replace(self.track, codec='h264\\x1b[2J' * 99)", r"is 'h264\\x1b\[2J"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", LIES)
async def test_lies_of_children_are_not_believed(tmp_path: Path, example: Any, name: str) -> None:
    """Numbers that do not fit to each other end the play in one sentence, though the child plays on."""
    lie, expected = LIES[name]
    source = f"""\
        from collections.abc import AsyncIterator
        from contextlib import suppress
        from belljar import Buffer, StreamBroken
        from interfaces import History, Packet, Picture, Track
        from msgspec.structs import replace

        GOOD = Picture(16, 16, 0, Buffer(memoryview(bytes(384))))

        class Plug:
            async def history(self) -> History: ...
            async def remember(self) -> None: ...
            async def open(self, data: Buffer) -> Track:
                self.packet = [Packet(b'', 0)] * 8
                self.pictures = [GOOD] * 8
                self.copies = [GOOD] * 8
                self.track = Track('h264', 16, 16, 0, b'setup')
                {lie}
                return self.track
            async def packets(self) -> AsyncIterator[Packet]:
                for packet in self.packet:
                    yield packet
            async def decode(self, setup: bytes, packets: AsyncIterator[Packet]) -> AsyncIterator[Picture]:
                await all_of(packets)
                for picture in self.pictures if setup else self.copies:
                    yield picture
            async def encode(
                self, width: int, height: int, quality: int, pictures: AsyncIterator[Picture]
            ) -> AsyncIterator[Packet]:
                await all_of(pictures)
                yield Packet(b'', 0)

        async def all_of(items):
            with suppress(StreamBroken):
                async for _ in items:
                    pass
    """
    files, steps = (str(MEDIA / "interfaces.py"),), ("asyncio",)
    sealed = process(write_plugin(tmp_path, source), files=files, preload=("PIL.Image",), early_init=steps)
    with pytest.raises(example.command.Trouble, match=expected) as caught:
        async with ProcessHost(sealed) as host:
            await play_with(example, host, host, b"clip")
    assert str(caught.value).isprintable()
