"""One target under atheris, in a process of its own: ``python -m tests.fuzz.one TARGET [what libFuzzer takes]``."""

from __future__ import annotations

import sys
from importlib import import_module
from random import Random
from typing import Any

atheris: Any = import_module("atheris")  # an extra, and without types

INSTRUMENTED = ["belljar.ipc", "belljar.child", "belljar.host.calls", "belljar.host.log_records", "tests.fuzz.targets"]


def main(name: str, arguments: list[str]) -> None:
    """Fuzz until libFuzzer has enough, which ends this process."""
    with atheris.instrument_imports(include=INSTRUMENTED):
        from .mutate import mutated
        from .target import Judge, load

        target = load(name)
    examples = target.examples()

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        return mutated(data, Random(seed), examples, lambda part: atheris.Mutate(part, max_size))[:max_size]

    atheris.Setup([sys.argv[0], *arguments], Judge(target), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
