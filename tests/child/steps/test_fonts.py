"""The step fonts: text drawn after the seal is the text drawn without one, at any size."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from PIL import ImageFont

from belljar.host.errors import LaunchError
from belljar.host.plan.step import Step
from belljar.host.process_host import ProcessHost
from belljar.ipc.errors import RemoteError

from ...children.steps.typeset import drawn
from ...helpers import launch

pytestmark = pytest.mark.anyio

DRAWING = ("PIL.Image", "PIL.ImageDraw", "PIL.ImageFile", "PIL.ImageFont")


@pytest.fixture(scope="module")
def font(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The font that Pillow carries inside, as the file that a user would have."""
    face = ImageFont.load_default(16)
    assert isinstance(face, ImageFont.FreeTypeFont)
    path = tmp_path_factory.mktemp("fonts") / "Aileron.otf"
    path.write_bytes(face.font_bytes)
    return path


def typeset(backend: str, *files: Path) -> ProcessHost:
    """Return a host of a child that takes the step with *files*."""
    step = Step("fonts", options={"files": [str(file) for file in files]})  # type: ignore[dict-item]
    return launch("steps/typeset.py:Typeset", backend=backend, preload=DRAWING, early_init=(step,))


async def test_without_the_step_a_font_cannot_be_opened(backend: str, font: Path) -> None:
    """FreeType opens a font by its name, which the seal refuses."""
    async with launch("steps/typeset.py:Typeset", backend=backend, preload=DRAWING) as host:
        if backend == "none":
            assert await host.call("by_itself", str(font), returns=bytes)
            return
        with pytest.raises(RemoteError, match="OSError: cannot open resource"):
            await host.call("by_itself", str(font), returns=bytes)


async def test_text_is_drawn_as_it_is_without_a_seal(backend: str, font: Path) -> None:
    """Pixel by pixel, at sizes that nobody named before the seal."""
    async with typeset(backend, font) as host:
        assert host.early_init.get("fonts") is None or host.early_init["fonts"].undeclared is None
        for size in (9, 24, 41.5):
            expected = drawn(ImageFont.truetype(str(font), size))
            assert await host.call("text", "Aileron", size, returns=bytes) == expected
            assert await host.call("text", "Aileron Regular", size, returns=bytes) == expected
        assert len(set(expected)) > 50  # there is a text in it


async def test_the_font_that_pillow_brings_needs_no_step(backend: str) -> None:
    """It stands in Pillow's code."""
    async with launch("steps/typeset.py:Typeset", backend=backend, preload=DRAWING) as host:
        pixels = await host.call("default", returns=bytes)
    face = ImageFont.load_default(24)
    assert isinstance(face, ImageFont.FreeTypeFont)
    assert pixels == drawn(face)


async def test_a_font_that_was_not_read(font: Path) -> None:
    """The error names the nearest that was."""
    async with typeset("namespaces", font) as host:
        assert await host.call("names", returns=list[str]) == ["Aileron", "Aileron Regular"]
        with pytest.raises(RemoteError, match=r"no font 'Aileronn' was read before the seal .did you mean 'Aileron'"):
            await host.call("text", "Aileronn", 12, returns=bytes)


async def test_a_file_that_is_no_font(font: Path, tmp_path: Path) -> None:
    """The launch ends with the file's name; so it does with two fonts of one name."""
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(base64.b64encode(font.read_bytes()))
    with pytest.raises(LaunchError, match=r"fonts: .*broken\.ttf is not a font: "):
        await typeset("namespaces", broken).__aenter__()
    twin = tmp_path / "twin.otf"
    twin.write_bytes(font.read_bytes())
    with pytest.raises(LaunchError, match=r"two fonts are called 'Aileron Regular', the second in .*twin\.otf"):
        await typeset("namespaces", font, twin).__aenter__()
