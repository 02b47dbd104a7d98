"""numpy arrays and Pillow's images through a sealed child: no pickle, and no copy where they are read."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from belljar import Policy, ProcessHost, ResultError
from belljar.ipc.errors import ArgumentError
from belljar.ipc.peer.attachments import MAX_SMALL
from belljar.ipc.peer.store import CHUNK

from ..helpers import launch, nothing_left, require

pytestmark = pytest.mark.anyio

MIB = 1 << 20

PRELOAD = ("numpy", "numpy.typing", "PIL.Image")

on_each = pytest.mark.parametrize(
    ("backend", "policy"), [("namespaces", "compute"), ("landlock", "media"), ("none", "media")]
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """How an array is encoded and where it lies has nothing to do with the loop."""
    return "asyncio"


class Arrays(Protocol):
    """What the child does with them."""

    async def echo(self, array: NDArray[Any]) -> NDArray[Any]: ...

    async def where(self, array: NDArray[Any]) -> tuple[int, int, bool]: ...

    async def where_sliced(self, array: NDArray[Any]) -> bool: ...

    async def keeps_image(self, image: Image.Image) -> None: ...

    async def keeps(self, array: NDArray[Any]) -> None: ...

    async def scale(self, array: NDArray[np.float32], by: float) -> NDArray[np.float32]: ...

    async def negative(self, image: Image.Image) -> Image.Image: ...

    def frames(self, count: int, side: int) -> AsyncGenerator[NDArray[np.uint8]]: ...


def host_of(backend: str = "namespaces", policy: str = "compute", **fields: Any) -> ProcessHost:
    """Return a host whose child has imported numpy and Pillow before its seal."""
    policies = {"policy": Policy.preset(policy), "preload": PRELOAD}
    return launch("arrays.py:Plug", backend=backend, **{**policies, **fields})


def lies_in_arena(host: ProcessHost, where: tuple[int, int, bool]) -> bool:
    """Whether so many bytes at an address of the child's are all in the arena that the host writes."""
    start, length, _ = where
    maps = Path(f"/proc/{host.child_pid}/maps").read_text()
    found = re.findall(r"^(\w+)-(\w+) r--s .*/memfd:belljar-arena", maps, re.M)
    return any(int(first, 16) <= start and start + length <= int(end, 16) for first, end in found)


@on_each
async def test_arrays_of_all_sizes(backend: str, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays come back equal around each threshold, with their type and shape, and nothing is pickled on the way."""
    require(backend)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("nothing is pickled here")

    monkeypatch.setattr("pickle.loads", fail)
    monkeypatch.setattr("pickle.dumps", fail)
    limit = 2 * MIB
    with nothing_left(backend, PRELOAD):
        async with host_of(backend, policy, shared_memory=limit, max_payload=3 * MIB) as host:
            child = host.proxy(Arrays)
            for size in (0, 1, MAX_SMALL, MAX_SMALL + 1, 70_000, CHUNK, CHUNK + 1, limit, limit + 1, 3 * MIB):
                array = (np.arange(size) % 251).astype(np.uint8)
                back = await child.echo(array)
                assert np.array_equal(array, back)
                assert back.dtype == np.uint8
            for kind in ("f8", ">i4", "c16", "U7", "M8[ms]", "?"):
                turned = np.arange(60_000).astype(kind).reshape(20, 30, 100).transpose(2, 0, 1)
                back = await child.echo(turned)
                assert np.array_equal(turned, back)
                assert back.dtype == turned.dtype
            with pytest.raises(ArgumentError, match="over max_payload"):
                await child.echo(np.zeros(3 * MIB + 1, np.uint8))
            with pytest.raises(ArgumentError, match="arrays of object"):
                await child.echo(np.array([object()]))
            assert np.array_equal(await child.scale(np.ones(5, np.float32), 2.5), np.full(5, 2.5, np.float32))


@on_each
async def test_arrays_are_read_where_they_lie(backend: str, policy: str) -> None:
    """The child's array is the host's arena itself, read-only, and so is what it makes of it without a copy."""
    require(backend)
    async with host_of(backend, policy) as host:
        child = host.proxy(Arrays)
        await child.echo(np.zeros(70_000, np.uint8))  # from here on there is an arena
        for size in (70_000, 5 * MIB):
            where = await child.where(np.ones(size, np.uint8))
            assert lies_in_arena(host, where)
            assert where[1:] == (size, False)
        assert await child.where_sliced(np.ones(70_000, np.int64))
        assert not lies_in_arena(host, await child.where(np.ones(100, np.uint8)))
        with pytest.raises(ResultError, match="a view of an argument was kept after the call"):
            await child.keeps(np.ones(70_000, np.uint8))
        with pytest.raises(ResultError, match="a view of an argument was kept after the call"):
            await child.keeps_image(Image.new("L", (300, 300)))
        await child.keeps_image(Image.new("RGB", (300, 300)))  # which Pillow copies


@on_each
async def test_images(backend: str, policy: str) -> None:
    """Images come back with their mode, size and pixels, small, large, and too large for the arena."""
    require(backend)
    with nothing_left(backend, PRELOAD):
        async with host_of(backend, policy, shared_memory=MIB) as host:
            child = host.proxy(Arrays)
            for mode, side in (("L", 5), ("L", 300), ("RGB", 300), ("RGBA", 1000), ("L", 900)):
                image = Image.effect_noise((side, side), 90).convert(mode)
                negative = await child.negative(image)
                assert (negative.mode, negative.size) == (mode, (side, side))
                assert negative.tobytes() == Image.eval(image, lambda value: 255 - value).tobytes()


async def test_a_stream_of_arrays() -> None:
    """Arrays stream, each in memory of its own for as long as it is looked at."""
    async with host_of() as host:
        frames = [frame async for frame in host.proxy(Arrays).frames(20, 400)]
        assert [int(frame[-1, -1]) for frame in frames] == list(range(20))
        assert all(frame.shape == (400, 400) for frame in frames)
