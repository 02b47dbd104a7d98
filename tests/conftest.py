"""What all tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test on both event loops; a test asks for it with ``pytestmark = pytest.mark.anyio``."""
    return str(request.param)
