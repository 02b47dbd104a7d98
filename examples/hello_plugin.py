"""The plugin of hello.py: it runs in a sealed child and nowhere else."""

from __future__ import annotations


class Greeter:
    def greet(self, name: str) -> str:
        """A greeting."""
        return f"hello, {name}"

    def read(self, path: str) -> str:
        """The text of a file; after the seal there is none."""
        with open(path, encoding="utf-8") as file:
            return file.read()
