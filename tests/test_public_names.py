"""The names of `belljar` itself."""

from __future__ import annotations

import subprocess
import sys

import belljar


def test_every_public_name_is_there() -> None:
    """Each name in ``__all__`` can be had, and `dir` lists it."""
    for name in belljar.__all__:
        assert getattr(belljar, name) is not None
        assert name in dir(belljar)


def test_importing_belljar_loads_nothing_else() -> None:
    """A child imports `belljar` too, so it loads none of the four packages."""
    code = "import sys, belljar; print([name for name in sys.modules if name.startswith('belljar.')])"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
