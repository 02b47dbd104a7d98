"""The codec plugin of the media example: a clip played through sealed children, and the record store that it has."""

# PyAV's stubs leave the type of packets open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import importlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import av
import msgspec
import pytest
from PIL import Image

from belljar import LaunchError, Process, ProcessHost, ResultError, load_config

from .helpers import on_all, on_both, process, require, write_plugin

MEDIA = Path(__file__).parents[1] / "examples" / "media_plugin_host"
ORIGIN = "https://example.org"
PICTURES = 30


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example's modules, which import their neighbours as scripts do."""
    monkeypatch.syspath_prepend(MEDIA)
    return SimpleNamespace(
        **{name: importlib.import_module(name) for name in ("command", "interfaces", "player", "storage")}
    )


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
    assert f"remembers 1 earlier plays, {2 * PICTURES} pictures" in play(clip, "--out", out).stdout
    assert "for the first time" in play(clip, "--out", out, "--origin", "https://elsewhere.example").stdout
    assert f"remembers 2 earlier plays, {4 * PICTURES} pictures" in play(clip, "--out", out).stdout


def test_copied_record_is_not_believed(tmp_path: Path, example: Any) -> None:
    """A record that was copied from one origin to another is of no use there: the storage id is another one."""
    clip, out = str(film(tmp_path / "clip.mp4")), tmp_path / "out"
    play(clip, "--out", str(out))
    (record,) = (out / "profile" / "records").glob("*/history")
    with example.storage.Profile(out / "profile").records("codec", "https://thief.example") as records:
        records.serve([example.interfaces.Write("history", record.read_bytes())])
    ended = play(clip, "--out", str(out), "--origin", "https://thief.example")
    assert "not of this profile and origin" in ended.stdout


@pytest.mark.parametrize(
    ("container", "pixels"),
    [("mp4", "yuv420p"), ("matroska", "yuv422p"), ("mpegts", "yuv420p"), ("h264", "yuv444p"), ("mov", "yuv420p10le")],
)
def test_sealed_codec_knows_each_form_of_h264(
    tmp_path: Path, example: Any, caplog: pytest.LogCaptureFixture, container: str, pixels: str
) -> None:
    """The codec plays what containers and encoders make of H.264, in its order, and the seal refuses it nothing."""
    clip = film(tmp_path / "clip", container, pixels).read_bytes()

    async def played() -> Any:
        async with ProcessHost(process_type("demuxer")) as first, ProcessHost(process_type("codec")) as second:
            player = example.player.Player(
                first.proxy(example.interfaces.Demuxer), second.proxy(example.interfaces.Codec)
            )
            await player.open(clip)
            await player.play(lambda packets: None)
            return player

    with caplog.at_level(logging.WARNING, "belljar.host"):
        player = anyio.run(played)
    shades = [sum(tile.image.convert("L").tobytes()) for tile in player.tiles()[:6]]
    assert len(player.quality) == PICTURES
    assert min(player.quality) > 30
    assert shades == sorted(set(shades), reverse=True)
    assert not caplog.records


def test_codec_needs_its_libraries_before_the_seal() -> None:
    """Without its preload the codec cannot be loaded after the seal, and the error names what is missing."""

    async def launched() -> None:
        async with ProcessHost(process_type("codec", preload=(), early_init=())):
            pytest.fail("a sealed child has loaded a shared library")

    with pytest.raises(LaunchError, match="could not import hmac"):
        anyio.run(launched)


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


HOSTILE_WISHES: dict[str, tuple[str, str]] = {
    "parent": ("[{'type': 'Write', 'name': '../x', 'data': b'x'}]", "named a record '../x'"),
    "absolute": ("[{'type': 'Write', 'name': '/tmp/x', 'data': b'x'}]", "named a record '/tmp/x'"),
    "parent read": ("[{'type': 'Read', 'name': '../../salt'}]", "named a record '../../salt'"),
    "itself": ("[{'type': 'Write', 'name': '.', 'data': b''}]", "named a record '.'"),
    "unfinished": ("[{'type': 'Write', 'name': '.unfinished', 'data': b'x'}]", "named a record '.unfinished'"),
    "empty": ("[{'type': 'Write', 'name': '', 'data': b'x'}]", "named a record ''"),
    "long": ("[{'type': 'Write', 'name': 'x' * 65, 'data': b'x'}]", "named a record 'xxx"),
    "endless": ("[{'type': 'Write', 'name': 'x' * 100000, 'data': b'x'}]", r"x\.\.\.': 1 to 64"),
    "null": ("[{'type': 'Write', 'name': 'x\\0', 'data': b'x'}]", r"named a record 'x\\x00'"),
    "line": ("[{'type': 'Write', 'name': 'x\\n', 'data': b'x'}]", r"named a record 'x\\n'"),
    "foreign digit": ("[{'type': 'Write', 'name': '\\u0663', 'data': b'x'}]", "named a record "),
    "large": ("[{'type': 'Write', 'name': 'x', 'data': bytes(65537)}]", "has 65537 bytes: 65536 is the most"),
    "second is bad": (
        "[{'type': 'Write', 'name': 'x', 'data': b'x'}, {'type': 'Write', 'name': '', 'data': b'x'}]",
        "named a record ''",
    ),
    "many": ("[{'type': 'Write', 'name': f'x{n}', 'data': b'x'} for n in range(17)]", "length <= 16"),
    "no list": ("{'type': 'Read', 'name': 'x'}", "Expected `array`"),
    "no kind": ("[{'name': 'x'}]", "missing required field `type`"),
    "other kind": ("[{'type': 'Delete', 'name': 'x'}]", "Invalid value 'Delete'"),
    "no name": ("[{'type': 'Read', 'name': 7}]", "Expected `str`, got `int`"),
    "no data": ("[{'type': 'Write', 'name': 'x', 'data': None}]", "Expected `bytes`, got `None`"),
}


def below(folder: Path) -> dict[str, bytes]:
    """Every file below *folder*."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def plugin(folder: Path, wishes: str) -> str:
    """A plugin whose every answer is *wishes*, whatever they are."""
    source = f"""\
        from typing import Any
        class Plug:
            def begin(self, storage_id: bytes) -> Any:
                return {wishes}
            def serve(self, answers: list[bytes]) -> Any:
                return {wishes}
    """
    return write_plugin(folder, source)


async def wish(example: Any, profile: Any, sealed: Process) -> None:
    """Let a plugin begin, and grant what it wishes."""
    with profile.records("plug", ORIGIN) as records:
        async with ProcessHost(sealed) as host:
            stored = host.proxy(example.interfaces.Stored)
            await example.storage.settle(stored, stored.begin(profile.storage_id("plug", ORIGIN)), records)


@on_both
@pytest.mark.parametrize("name", HOSTILE_WISHES)
def test_hostile_wish_is_refused(tmp_path: Path, example: Any, backend: str, name: str) -> None:
    """A wish that no plugin may have is refused in one sentence, and nothing is written anywhere."""
    require(backend)
    wishes, expected = HOSTILE_WISHES[name]
    profile = example.storage.Profile(tmp_path / "out" / "profile")
    sealed = process(plugin(tmp_path, wishes), backend=backend)
    before = below(tmp_path)
    with pytest.raises((example.storage.Refused, ResultError), match=expected) as caught:
        anyio.run(wish, example, profile, sealed)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert below(tmp_path) == before


@on_both
def test_endless_wishes_are_refused(tmp_path: Path, example: Any, backend: str) -> None:
    """A plugin that never has enough is refused after a few rounds."""
    require(backend)
    sealed = process(plugin(tmp_path, "[{'type': 'Read', 'name': 'x'}]"), backend=backend)
    with pytest.raises(example.storage.Refused, match="after 8 rounds"):
        anyio.run(wish, example, example.storage.Profile(tmp_path / "profile"), sealed)


def test_silent_plugin_is_killed(tmp_path: Path, example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that does not answer costs a bounded time."""
    monkeypatch.setattr(example.command, "LONGEST", 0.1)
    sealed = process(plugin(tmp_path, "__import__('time').sleep(3600)"))
    with pytest.raises(example.command.Trouble, match=r"did not answer within 0\.1 s"):
        anyio.run(wish, example, example.storage.Profile(tmp_path / "profile"), sealed)


LIES: dict[str, tuple[str, str]] = {
    "packets": ("self.packet = self.packet[:1] * 99", "sent 99 packets when asked for 8"),
    "pictures": ("self.picture = [self.good] * 9", "more pictures than it was given packets: 8"),
    "short": ("self.picture = [{**self.good, 'i420': b''}]", "sent 0 bytes as a picture of 16 x 16"),
    "size": ("self.picture = [{**self.good, 'width': 1 << 40}]", "a picture of 1099511627776 x 16"),
    "held back": ("self.copy = []", "holds 40 pictures back"),
    "invented": ("self.copy = [self.good] * 9", "more pictures of its own packets"),
    "width": ("self.track['width'] = -1", "has -1 x 16 pixels"),
    "codec": ("self.track['codec'] = 'h264\\x1b[2J' * 99", r"is 'h264\\x1b\[2J"),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_of_children_are_not_believed(tmp_path: Path, example: Any, name: str) -> None:
    """Numbers that do not fit to each other end the play in one sentence."""
    lie, expected = LIES[name]
    source = f"""\
        from typing import Any
        class Plug:
            def open(self, data: bytes) -> Any:
                self.good = dict(width=16, height=16, time=0, i420=bytes(384))
                self.picture = self.copy = [self.good] * 8
                self.packet = [dict(data=b'', time=0)] * 8
                self.track = dict(codec='h264', width=16, height=16, packets=0, setup=b'')
                self.sessions = 0
                {lie}
                return self.track
            def packets(self, count: int) -> Any:
                return self.packet
            def open_decoder(self, setup: bytes) -> int:
                self.sessions += 1
                return self.sessions
            def open_encoder(self, width: int, height: int, quality: int) -> int:
                return 0
            def decode(self, session: int, packets: list, last: bool) -> Any:
                return self.picture if session == 1 else self.copy
            def encode(self, session: int, pictures: list, last: bool) -> Any:
                return self.packet[:8]
    """
    sealed = process(write_plugin(tmp_path, source))

    async def played() -> None:
        async with ProcessHost(sealed) as host:
            player = example.player.Player(host.proxy(example.interfaces.Demuxer), host.proxy(example.interfaces.Codec))
            await player.open(b"clip")
            await player.play(lambda packets: None)

    with pytest.raises(example.command.Trouble, match=expected) as caught:
        anyio.run(played)
    assert str(caught.value).isprintable()


def test_records_are_read_changed_and_deleted(tmp_path: Path, example: Any) -> None:
    """Wishes are granted in their order; a record without data is gone; only their owner can read the files."""
    read, write = example.interfaces.Read, example.interfaces.Write
    with example.storage.Profile(tmp_path / "profile").records("plug", ORIGIN) as records:
        answers = records.serve([read("a"), write("a", b"one"), read("a"), write("a", b"two"), write("b", b"other")])
        assert answers == [b"", b"", b"one", b"", b""]
        (folder,) = (tmp_path / "profile" / "records").iterdir()
        assert below(folder) == {"a": b"two", "b": b"other"}
        assert records.serve([write("a", b""), write("a", b""), read("a"), read("b")]) == [b"", b"", b"", b"other"]
        assert below(folder) == {"b": b"other"}
    assert {path.stat().st_mode & 0o077 for path in (folder, folder / "b", folder.parent.parent)} == {0}


def test_number_of_records_is_limited(tmp_path: Path, example: Any) -> None:
    """A plugin may have so many records, over all its results, and may still change and delete what it has."""
    write = example.interfaces.Write
    with example.storage.Profile(tmp_path).records("plug", ORIGIN) as records:
        records.serve([write(f"x{number}", b"x") for number in range(16)])
        with pytest.raises(example.storage.Refused, match="wants 17 records: 16 is the most"):
            records.serve([write("x0", b"changed"), write("more", b"x")])
        assert records.serve([example.interfaces.Read("x0")]) == [b"x"]
        records.serve([write("x0", b"")])
        records.serve([write("more", b"x")])


def test_interrupted_write_leaves_the_old_record(tmp_path: Path, example: Any) -> None:
    """What a write left unfinished is no record, and does not stand in the way of the next."""
    read, write = example.interfaces.Read, example.interfaces.Write
    with example.storage.Profile(tmp_path).records("plug", ORIGIN) as records:
        records.serve([write("a", b"old")])
        (folder,) = (tmp_path / "records").iterdir()
        (folder / ".unfinished").write_bytes(b"half of something much longer")
        assert records.serve([read("a"), write("a", b"new"), read("a")]) == [b"old", b"", b"new"]
        assert below(folder) == {"a": b"new"}


def test_records_belong_to_one_run(tmp_path: Path, example: Any) -> None:
    """Two runs cannot use the same records at once; those of another origin they can."""
    profile = example.storage.Profile(tmp_path)
    with profile.records("plug", ORIGIN):
        with (
            pytest.raises(example.command.Trouble, match="are in use"),
            example.storage.Profile(tmp_path).records("plug", ORIGIN),
        ):
            pytest.fail("two runs have the same records")
        with profile.records("plug", "https://elsewhere.example"):
            pass
    with profile.records("plug", ORIGIN):
        pass


def test_storage_ids_differ_and_stay(tmp_path: Path, example: Any) -> None:
    """A storage id is the same each time, and another one for each plugin, origin and profile."""
    profile, again = example.storage.Profile(tmp_path / "one"), example.storage.Profile(tmp_path / "one")
    other = example.storage.Profile(tmp_path / "two")
    assert profile.storage_id("plug", ORIGIN) == again.storage_id("plug", ORIGIN)
    owners = [("plug", ORIGIN), ("plug", f"{ORIGIN}/"), ("plu", f"g{ORIGIN}"), (ORIGIN, "plug")]
    ids = {kept.storage_id(*owner) for kept in (profile, other) for owner in owners}
    assert len(ids) == 2 * len(owners)
    assert {len(storage_id) for storage_id in ids} == {32}


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda salt: salt.chmod(0o644), "others may read .*salt"),
        (lambda salt: salt.write_bytes(b"short"), "holds 5 bytes and not 32"),
        (lambda salt: (salt.unlink(), salt.symlink_to("/dev/null")), "could not use .*: Too many levels"),
        (lambda salt: (salt.unlink(), salt.mkdir()), "could not use .*: Is a directory"),
    ],
)
def test_profile_with_a_bad_secret_is_not_used(
    tmp_path: Path, example: Any, harm: Callable[[Path], object], expected: str
) -> None:
    """A secret that others may have read or that is none gives one sentence."""
    example.storage.Profile(tmp_path)
    harm(tmp_path / "salt")
    with pytest.raises(example.command.Trouble, match=expected):
        example.storage.Profile(tmp_path)
