"""The part of atheris that tests/fuzz calls. See https://github.com/google/atheris."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

def instrument_imports(include: Sequence[str] = ...) -> AbstractContextManager[None]: ...
def Mutate(data: bytes, max_size: int) -> bytes: ...
def Setup(
    argv: Sequence[str],
    test_one_input: Callable[[bytes], None],
    *,
    custom_mutator: Callable[[bytes, int, int], bytes] = ...,
) -> Sequence[str]: ...
def Fuzz() -> None: ...
