"""examples/graphics_plugin, run as a reader runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from belljar.sandbox.backends import names
from belljar.sandbox.probe import probe, requirements
from belljar.sandbox.user import resolve_user

from .helpers import MUST_WORK, require_graphics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _graphics() -> None:
    require_graphics()


def run(*arguments: str, code: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "400", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "examples.graphics_plugin", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_a_sealed_child_draws_a_scene(tmp_path: Path) -> None:
    """The sheet and the film show a scene that turns, no cleared colour, and the text says who drew it and how fast."""
    printed = run("--frames", "6", "--out", str(tmp_path), code=0).stdout
    assert "renderer: llvmpipe" in printed
    after = 1 + 2 * min(16, len(os.sched_getaffinity(0)))
    assert f"threads: 1 before graphics-egl, {after} after" in printed
    assert f"sealed and verified: {after} threads, by namespaces" in printed
    assert re.search(r"a frame takes \d+ ms sealed and \d+ ms not sealed", printed)
    with Image.open(tmp_path / "frames.png") as sheet:
        assert sheet.size == (4 * 492 + 12, 2 * 282 + 12)
        tiles = [sheet.crop((left, 12, left + 480, 282)) for left in (12, 504)]
        assert len(tiles[0].getcolors(1 << 20) or ()) > 5000
        assert ImageChops.difference(*tiles).getbbox() is not None
    with Image.open(tmp_path / "turn.gif") as film:
        assert (film.size, getattr(film, "n_frames", 1)) == ((480, 270), 6)


def test_the_reversed_order_is_refused() -> None:
    """Graphics after the seal is refused by the plan, with both sides and the remedy, before a process exists."""
    done = run("--seal-first", code=2)
    assert done.stderr.startswith(
        "error: process painter: early_init: graphics-egl needs files, but stands after the seal"
    )
    assert "let it come before the seal" in done.stderr


def test_the_reversed_order_tried() -> None:
    """Forced, it fails after the seal, and the error names the step, the library and what the kernel refused."""
    printed = run("--seal-first", "--force", code=1).stdout
    assert "stage 9 (load): graphics-egl: could not make a context of OpenGL 3.3: libEGL.so.1 not loaded" in printed
    assert "the seal refused openat /etc/ld.so.cache" in printed


def test_every_backend_draws_the_same() -> None:
    """Frames are the same, byte for byte, on each backend that works here."""
    machine = probe(resolve_user(""))
    broken = [backend for backend in names() if machine.missing(requirements(backend))]
    assert not {*broken} & {*MUST_WORK.split(",")}
    printed = run("--all-backends", code=3 if broken else 0).stdout
    for backend in {*names()} - {*broken}:
        assert re.search(rf"{backend} .* the same", printed), printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backend", "namespace"), "no such backend: 'namespace'; did you mean 'namespaces'?"),
        (("--frames", "0"), "expected 1 to 360 frames, got '0'"),
        (("--force",), "--force belongs to --seal-first"),
    ],
)
def test_what_a_user_can_get_wrong(arguments: tuple[str, ...], words: str) -> None:
    """A wrong argument is one sentence and exit code 2."""
    assert words in run(*arguments, code=2).stderr
