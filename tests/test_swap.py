"""Another backend is one edit of belljar.toml: the media example runs on each, unchanged and with the same result."""

# PyAV's stubs leave the type of packets open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
from PIL import Image

from belljar import Layer, Policy, probe
from belljar.sandbox.backends import BACKENDS, host_half
from belljar.sandbox.probe import explain, requirements
from belljar.sandbox.user import resolve_user

MEDIA = Path(__file__).parents[1] / "examples/media_plugin_host"
LINE = re.compile(r'^backend = "[a-z-]+"', re.MULTILINE)


@pytest.fixture(scope="module")
def copy() -> Iterator[Path]:
    """A copy of the example, with a picture and a film, where root's children, who are nobody, find it too."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="belljar-swap-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(MEDIA, folder / "example", ignore=shutil.ignore_patterns("__pycache__", "out"))
        Image.radial_gradient("L").convert("RGB").save(folder / "picture.jpg")
        write_film(folder / "film.webm")
        yield folder


def write_film(file: Path) -> None:
    """Write a second in which the picture turns from white to black."""
    with av.open(str(file), "w", format="webm") as output:
        track = output.add_stream("libvpx", rate=10, width=64, height=64)
        track.pix_fmt = "yuv420p"
        for number in range(10):
            shade = Image.new("RGBA", (64, 64), (255 - 25 * number,) * 3)
            frame = av.VideoFrame.from_bytes(shade.tobytes(), 64, 64)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            output.mux(track.encode(frame))
        output.mux(track.encode(None))


@pytest.fixture(scope="module")
def sheets() -> dict[str, bytes]:
    """The contact sheet of each backend so far."""
    return {}


@pytest.mark.parametrize("backend", BACKENDS)
def test_backend_is_swapped_by_its_line_alone(copy: Path, sheets: dict[str, bytes], backend: str) -> None:
    """With only the lines ``backend = ...`` changed, the example launches on that backend and draws the same sheet."""
    missing = explain(probe(resolve_user("")).missing(requirements(backend)))
    if missing and backend not in os.environ.get("BELLJAR_MUST_WORK", "").split(","):
        pytest.skip(f"{backend} does not work here: {missing}")
    text, count = LINE.subn(f'backend = "{backend}"', (MEDIA / "belljar.toml").read_text(encoding="utf-8"))
    assert count == 5
    (copy / "example/belljar.toml").write_text(text, encoding="utf-8")

    out = copy / f"out-{backend}"
    command = [sys.executable, str(copy / "example/main.py"), "picture.jpg", "film.webm", "--out", str(out)]
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    ended = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "run_as" not in ended.stdout
    pictures = ended.stdout.partition("protection, layer by layer")[2]
    promised = dict(re.findall(r"^│ ([a-z-]+) +│ no +│ (yes|no) ", pictures, re.MULTILINE)[: len(Layer)])
    expected = host_half(backend).promises(Policy.media())
    assert {layer for layer, answer in promised.items() if answer == "yes"} == {layer.value for layer in expected}
    assert "no thumbnail" not in ended.stdout
    sheets[backend] = Image.open(out / "contact-sheet.png").tobytes()
    assert sheets[backend] == next(iter(sheets.values()))
