"""What all tests share.

``BELLJAR_LOOPS=asyncio`` leaves trio out, as scripts/test does where all runs a second time as another user;
``BELLJAR_LOOPS=all``, as in the nightly tier, has both everywhere. Not given, both, but for `ASYNCIO_ONLY` and what
conformance/conftest.py leaves out.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

LOOPS = os.environ.get("BELLJAR_LOOPS", "")

ASYNCIO_ONLY = ("escape", "child", "sandbox", "host")
"""Folders whose tests are about what a child may do, or what becomes of it, which no event loop of the host changes."""

ON_BOTH = {
    f"host/test_{name}.py"
    for name in ("calls", "flow", "large_payloads", "launch", "lifecycle", "proxy", "services", "streams")
}
"""What in those folders is about calls, and so about the loop."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave trio out where it says nothing new, but in the nightly tier."""
    if LOOPS == "all":
        return
    alike = {item for item in items if _is_on_trio(item) and _says_the_same(item.path)}
    config.hook.pytest_deselected(items=list(alike))
    items[:] = [item for item in items if item not in alike]


def _says_the_same(path: Path) -> bool:
    path = path.relative_to(Path(__file__).parent)
    return path.parts[0] in ASYNCIO_ONLY and str(path) not in ON_BOTH


def _is_on_trio(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("anyio_backend") == "trio"


@pytest.fixture(scope="module", params=["asyncio"] if LOOPS == "asyncio" else ["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test on both event loops; a test asks for it with ``pytestmark = pytest.mark.anyio``."""
    return str(request.param)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Some modules of the media example, which import their neighbours as scripts do."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples" / "media_plugin_host")
    modules = ("command", "interfaces", "player", "storage")
    return SimpleNamespace(**{name: importlib.import_module(name) for name in modules})
