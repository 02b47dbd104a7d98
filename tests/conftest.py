"""What all tests share: the event loops.

``BELLJAR_LOOPS=asyncio`` leaves trio out, as scripts/test does where all runs a second time as another user;
``BELLJAR_LOOPS=all``, as in the nightly tier, has both everywhere. Not given, both, but see conformance/conftest.py.
"""

from __future__ import annotations

import os

import pytest

LOOPS = os.environ.get("BELLJAR_LOOPS", "")


@pytest.fixture(scope="module", params=["asyncio"] if LOOPS == "asyncio" else ["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test on both event loops; a test asks for it with ``pytestmark = pytest.mark.anyio``."""
    return str(request.param)
