"""Steps that can fail, each by its own name, so that an errno never travels without what it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import SandboxError


class StepFailed(SandboxError):
    """One step failed with an errno: "could not <step>: <strerror>"."""

    def __init__(self, step: str, errno: int, strerror: str) -> None:
        super().__init__(f"could not {step}: {strerror}")
        self.step = step
        self.errno = errno


@contextmanager
def step(name: str) -> Iterator[None]:
    """Turn an `OSError` of the block into a `StepFailed` that names the step."""
    try:
        yield
    except OSError as error:
        raise StepFailed(name, error.errno or 0, error.strerror or str(error)) from error
