"""What the conformance tests share: each runs on every backend and on both event loops."""

from __future__ import annotations

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
