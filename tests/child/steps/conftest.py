"""What the tests of the shipped steps share: each runs on every backend.

On one event loop: a step runs in the child, which has none, and the loops meet steps in tests/conformance.
"""

from __future__ import annotations

import pytest

from belljar.sandbox.backends import BACKENDS

from ...helpers import require


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run each async test on asyncio only."""
    return "asyncio"


@pytest.fixture(scope="module", params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    """Each of belljar's own backends, the strongest first."""
    name = str(request.param)
    require(name)
    return name
