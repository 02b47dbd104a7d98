"""examples/video_stream, run as a reader runs it, with the clip of the media example."""

# PyAV's stubs leave the type of packets open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from belljar.ipc.peer.records import WINDOW_OF_LARGE

EXAMPLES = Path(__file__).parents[1] / "examples"
PICTURES = 66

Clips = dict[str, Path]


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start the example in a group of its own, as a shell does."""
    command = [sys.executable, str(EXAMPLES / "video_stream" / "stream_video.py"), *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, stdout=pipe, stderr=pipe)


def seen(*arguments: object) -> dict[str, Any]:
    """Return what the example says of a run."""
    with start(*arguments, "--json") as running:
        printed, errors = running.communicate(timeout=50)
    assert running.returncode == 0, errors
    found: dict[str, Any] = json.loads(printed)
    return found


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """The clips of the media example by their kinds, as files."""
    for package in ("scikit-image", "pyo"):
        try:
            distribution(package)
        except PackageNotFoundError:
            pytest.skip("the demo's material is in the extra 'demo'")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES / "media_plugin_host")
        made = importlib.import_module("media").clips()
    files = {
        kind: tmp_path_factory.mktemp("clips") / clip.name for kind, clip in zip(("mp4", "webm"), made, strict=True)
    }
    for file, clip in zip(files.values(), made, strict=True):
        file.write_bytes(clip.data)
    return files


@pytest.mark.parametrize(("kind", "options"), [("mp4", ("--times", 2)), ("webm", ("--upload",))])
def test_every_frame_arrives(tmp_path: Path, clips: Clips, kind: str, options: tuple[object, ...]) -> None:
    """All frames come, of a film that was sent whole or bit by bit, and the last is what PyAV makes of it here."""
    found = seen(clips[kind], *options, "--last", tmp_path / "last.png")
    assert found["frames"] == found["decoded_by_child"] == PICTURES * (2 if kind == "mp4" else 1)
    assert (found["ended"], found["generator"]) == ("at its end", "closed")
    with av.open(str(clips[kind])) as film:
        *_, last = film.decode(video=0)
    assert Image.open(tmp_path / "last.png").tobytes() == last.to_ndarray(format="rgb24").tobytes()


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_a_slow_host_slows_the_child(clips: Clips, kind: str) -> None:
    """The child is ahead by the window of the stream and no more, and ends its generator when the host stops."""
    found = seen(clips[kind], "--slow", 20, "--stop-after", 30, *["--upload"] * (kind == "webm"))
    assert 0 < found["most_in_flight"] <= WINDOW_OF_LARGE
    assert found["frames"] == 30
    assert found["decoded_by_child"] <= 30 + WINDOW_OF_LARGE
    assert found["most_mb_in_child"] < 200
    assert (found["ended"], found["generator"]) == ("by --stop-after", "closed")


def test_interrupt_ends_the_generator(clips: Clips) -> None:
    """Ctrl-C, which the whole group hears, ends the generator in the child; the child lives to say so."""
    with start(clips["mp4"], "--times", 1000) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("namespaces: ready")
        os.killpg(running.pid, signal.SIGINT)
        printed, errors = running.communicate(timeout=30)
    assert running.returncode == 130, errors
    assert "ended by Ctrl-C" in printed
    assert "its generator is closed" in printed


def test_what_is_no_video_gives_one_sentence() -> None:
    """The words of the plugin are all that a user sees, and the exit code is 2."""
    with start(Path(__file__)) as running:
        _, errors = running.communicate(timeout=30)
    assert (running.returncode, errors.count("\n")) == (2, 1)
    assert errors.startswith("error: not a video, or a damaged one: ")
