"""`Step`: one entry of ``early_init``, as a person writes it in a configuration or in Python."""

from __future__ import annotations

from typing import Any

import msgspec

from ...ipc.messages import Option
from ...sandbox.declaration import Declaration
from ...sandbox.fields import misfit
from ..config.place import Place


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One early-init step of a process type.

    Attributes:
        step: What to run: the name of a step that ships with belljar or that a package declares (entry point group
            ``belljar.early_init``), or ``file.py:function``.
        name: What it is called here; not given, what it is called there.
        options: Arguments for its parameters by name. In TOML they stand in the entry itself.
        declared: What replaces parts of its own declaration (`belljar.sandbox.declaration.Declaration`), by key, such
            as ``{"optional": True, "deadline": "20s"}``. In TOML these stand in the entry itself too.
    """

    step: str
    name: str = ""
    options: dict[str, Option] = {}
    declared: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if (
            wrong := misfit(self, inside=False)
        ) is not None:  # options have a check of their own, once the step is known
            source = f"step {self.step}" if type(self.step) is str else "step"
            raise Place(source).at(*wrong.keys).error(wrong.text)

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Step:
        """Make a step of a TOML table: keys of a declaration are declared, all others are options."""
        keys = Declaration.__struct_fields__
        return cls(
            step=table["step"],
            name=table.get("name", ""),
            options={key: value for key, value in table.items() if key not in ("step", "name", *keys)},
            declared={key: table[key] for key in keys if key in table},
        )

    def __hash__(self) -> int:
        return hash((self.step, self.name))
