"""What all tests share.

``BELLJAR_LOOPS=asyncio`` leaves trio out, as scripts/test does where all runs a second time as another user;
``BELLJAR_LOOPS=all``, as in the nightly tier, has both everywhere. Not given, both, but see conformance/conftest.py.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

LOOPS = os.environ.get("BELLJAR_LOOPS", "")


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
