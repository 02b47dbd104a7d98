"""Entries of ``early_init`` as a person writes them: what to paste, or to write in Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .find import Planned, preload_entry


def toml_of(value: Any) -> str:
    """Write a value of TOML on one line. JSON's strings are TOML's, but all that is not printable is escaped here."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {toml_of(each)}' for key, each in value.items())} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_of, value))}]"
    if isinstance(value, float):
        return repr(value)
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in text)


def declaring(step: Planned, leaves: Mapping[str, Any]) -> str:
    """Return how *step* is told to declare that it *leaves* this, in TOML's words and in Python's."""
    in_toml = f"leaves = {toml_of(leaves)}"
    in_python = f"declared={{'leaves': {leaves!r}}}"
    modules = step.entry.options.get("modules")
    if not (step.is_preload and isinstance(modules, tuple) and step.entry == preload_entry(modules[0])):
        return f"{in_toml} in its entry of early_init; in Python, Step(..., {in_python})"
    in_toml = f'{{ step = "preload", modules = {toml_of(modules)}, {in_toml} }}'
    in_python = f"Step('preload', options={{'modules': {modules!r}}}, {in_python})"
    return f"{in_toml} in early_init, in the place of preload; in Python, {in_python}"
