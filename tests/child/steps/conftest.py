"""What the tests of the shipped steps share: each runs on every backend and on both event loops."""

from __future__ import annotations

import pytest

from belljar.sandbox.backends import BACKENDS

from ...helpers import require


@pytest.fixture(scope="module", params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    """Each of belljar's own backends, the strongest first."""
    name = str(request.param)
    require(name)
    return name
