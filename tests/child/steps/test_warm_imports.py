"""The step warm-imports: each library, sealed with nothing but an import, and sealed after its warm-up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image
from pip._vendor import certifi as certs

from belljar.child.steps.warm_imports import LIBRARIES
from belljar.host.errors import LaunchError
from belljar.host.plan.step import Step
from belljar.host.process_host import ProcessHost
from belljar.ipc.errors import RemoteError

from ...helpers import launch

pytestmark = pytest.mark.anyio

IMPORTS = {"pillow": ("PIL.Image",), "pyav": ("av",), "numpy": ("numpy",), "idna": ("idna",), "zoneinfo": ("zoneinfo",)}
"""What each plugin would preload that does not know better."""

FORKED = ("namespaces", "landlock", "seccomp")
"""The backends whose children are forked from a zygote, and not executed."""

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")


def wants(backend: str, *libraries: str, warm: bool = True, **fields: Any) -> ProcessHost:
    """Return a host of a child that has *libraries*, warmed up or only imported."""
    declared = {"leaves": {"threads": ["python*"]}} if "numpy" in libraries else {}
    steps: Sequence[Step] = (Step("warm-imports", options={"libraries": libraries}, declared=declared),) if warm else ()
    preload = tuple(module for library in libraries for module in IMPORTS.get(library, ()))
    return launch("steps/wants.py:Wants", backend=backend, preload=preload, early_init=tuple(steps), **fields)


WARM = {
    "idna": "xn--bcher-kva.example",
    "locale": "こČnop",
    "numpy": "[4.0, 7.0, 1.0]",
    "zoneinfo": "4",
}
COLD = {
    "idna": "ModuleNotFoundError: No module named 'idna.uts46data'",
    "locale": "LookupError: unknown encoding: shift_jis",
    "numpy": "ModuleNotFoundError: No module named 'numpy.fft'",
    "zoneinfo": "0",
}


@pytest.mark.parametrize("library", sorted(WARM))
async def test_a_library_without_and_with_its_warm_up(library: str, backend: str) -> None:
    """Imported only, it fails once sealed, openly or not; warmed up, it works."""
    async with wants(backend, library, warm=False) as host:
        answer = await host.call("attempt", library, returns=str)
        assert answer == WARM[library] if backend == "none" else answer.startswith(COLD[library]), answer
    async with wants(backend, library) as host:
        assert await host.call("attempt", library, returns=str) == WARM[library]
        assert all(report.undeclared is None for name, report in host.early_init.items() if name == "warm-imports")


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    """A picture of each of `FORMATS`."""
    found: dict[str, bytes] = {}
    for name in FORMATS:
        file = BytesIO()
        Image.radial_gradient("L").convert("RGB").save(file, name)
        found[name] = file.getvalue()
    return found


async def test_pillow_without_and_with_its_warm_up(backend: str, pictures: dict[str, bytes]) -> None:
    """Sealed too early, it cannot identify a good picture; warmed up, it reads and writes each format."""
    async with wants(backend, "pillow", warm=False) as host:
        found = await host.call("pillow", pictures, returns=dict[str, str])
        assert set(found.values()) == ({"well"} if backend == "none" else {"UnidentifiedImageError"})
    async with wants(backend, "pillow") as host:
        assert await host.call("pillow", pictures, returns=dict[str, str]) == dict.fromkeys(FORMATS, "well")


@pytest.fixture(scope="module")
def clip() -> bytes:
    """Five pictures with a second of sound, in MPEG-TS."""
    file = BytesIO()
    with av.open(file, "w", format="mpegts") as output:
        output.metadata["service_name"] = "belljar"
        pictures = output.add_stream("libx264", rate=5, width=64, height=64, options={"threads": "1"})
        sound = output.add_stream("aac", rate=48_000)
        for number in range(5):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 5)
            output.mux(pictures.encode(frame))
        silence = av.AudioFrame("s16", "stereo", 48_000)
        silence.sample_rate = 48_000
        output.mux(sound.encode(silence))
        output.mux(sound.encode(None))
        output.mux(pictures.encode(None))
    return file.getvalue()


async def test_pyav_without_and_with_its_warm_up(backend: str, clip: bytes) -> None:
    """The class of a stream is imported with the first container that has one."""
    async with wants(backend, "pyav", warm=False) as host:
        if backend == "none":
            assert await host.call("pyav", clip, returns=tuple[int, int, str]) == (5, 48, "InvalidDataError")
        else:
            with pytest.raises(RemoteError, match=r"the seal refused import av"):
                await host.call("pyav", clip)
    async with wants(backend, "pyav") as host:
        assert await host.call("pyav", clip, returns=tuple[int, int, str]) == (5, 48, "InvalidDataError")


async def test_ssl_without_and_with_its_warm_up(backend: str) -> None:
    """A context made after the seal trusts nobody, silently; the one handed on trusts whom the machine trusts."""
    authorities = Path(certs.where())
    env = {"SSL_CERT_FILE": str(authorities)}
    count = authorities.read_text().count("BEGIN CERTIFICATE")
    async with wants(backend, "ssl", env=env) as host:
        assert await host.call("ssl_handed", returns=int) == count
        assert await host.call("ssl", returns=int) == (count if backend == "none" else 0)


async def test_a_zygote_does_it_once_for_all_its_children(backend: str) -> None:
    """Where there is a zygote, what starts no thread is not done again in a child; numpy is, on two processors."""
    async with wants(backend, "locale") as host:
        assert ("warm-imports" in host.early_init) is (backend not in FORKED)
    if os.cpu_count() == 1:
        return
    async with wants(backend, "numpy") as host:
        assert set(host.early_init["warm-imports"].left.threads) <= {"python"}
        assert await host.call("attempt", "numpy", returns=str) == WARM["numpy"]


async def test_every_library_at_once() -> None:
    """They do not stand in each other's way, and nothing is left that is not declared."""
    async with wants("namespaces", *LIBRARIES) as host:
        assert host.early_init["warm-imports"].undeclared is None
        assert await host.call("ssl_handed", returns=int) >= 0


async def test_a_library_that_it_does_not_know() -> None:
    """The error names the nearest."""
    with pytest.raises(LaunchError, match=r"no warm-up for 'pilow' \(did you mean 'pillow'\?\)"):
        await wants("namespaces", "pilow").__aenter__()
