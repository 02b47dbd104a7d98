"""What the conformance tests share: each runs on every backend, and on both event loops.

A loop is the host's affair, and all that the host knows of a backend is whether its children are forked or executed and
whether a helper stands before them. So trio runs with one backend of each kind, and with all in the nightly tier.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from belljar.sandbox.backends import BACKENDS

from ..helpers import require
from .observe import Seen, see


@pytest.fixture(scope="module", params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    """Each of belljar's own backends, the strongest first."""
    name = str(request.param)
    require(name)
    return name


@pytest.fixture(scope="module")
def seen(backend: str, anyio_backend: str) -> Seen:
    """What was seen of one sealed child that showed all its habits; made once for each backend and loop."""
    return see(backend, anyio_backend)


ON_TRIO = ("namespaces", "bubblewrap", "none")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the pairs of backend and loop that say nothing new; see above."""
    if os.environ.get("BELLJAR_LOOPS") == "all":
        return
    surplus = [item for item in items if _is_surplus(item)]
    if surplus:
        config.hook.pytest_deselected(items=surplus)
        items[:] = [item for item in items if item not in set(surplus)]


def _is_surplus(item: pytest.Item) -> bool:
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    backend, loop = params.get("backend"), params.get("anyio_backend")
    return Path(__file__).parent in item.path.parents and loop == "trio" and backend not in (None, *ON_TRIO)
