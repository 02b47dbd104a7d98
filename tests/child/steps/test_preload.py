"""The step preload: a module that is not in the plugin's bundle is there after the seal, or is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from belljar.host.errors import LaunchError
from belljar.host.plan.step import Step

from ...helpers import launch, write_plugin

pytestmark = pytest.mark.anyio

SOURCE = """
    import colorsys

    class Plug:
        def hue(self) -> float:
            return colorsys.rgb_to_hsv(0.0, 1.0, 0.0)[0]
"""


async def test_without_the_step_a_module_is_not_found(backend: str, tmp_path: Path) -> None:
    """The plugin is loaded after the seal, which refuses the module's file."""
    host = launch(write_plugin(tmp_path, SOURCE), backend=backend)
    if backend == "none":
        async with host:
            assert await host.call("hue", returns=float) == pytest.approx(1 / 3)
        return
    with pytest.raises(
        LaunchError, match=r"ModuleNotFoundError: No module named 'colorsys'.*could not import colorsys"
    ):
        await host.__aenter__()


@pytest.mark.parametrize("way", ["key", "entry"])
async def test_with_the_step_it_is(way: str, backend: str, tmp_path: Path) -> None:
    """As the key of a process type, or as an entry of early_init."""
    entry = Step("preload", options={"modules": ("colorsys",)})
    fields = {"preload": ("colorsys",)} if way == "key" else {"early_init": (entry,)}
    async with launch(write_plugin(tmp_path, SOURCE), backend=backend, **fields) as host:
        assert await host.call("hue", returns=float) == pytest.approx(1 / 3)
