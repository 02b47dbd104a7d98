"""`load_config`: process types and policies from a TOML file. `load_policy`: one policy, wherever it is written.

Every problem is a `ConfigError` of one sentence: file, key path, what was expected, the nearest valid name. The first
problem in the order of the file is the one reported, so that the same file always gives the same sentence.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import msgspec

from ...sandbox.errors import PolicyError
from ...sandbox.policy import Limits, Policy
from ...sandbox.quantities import format_size, parse_duration, parse_size
from ..plan.step import Step
from .granted_paths import check_across
from .place import Place, nearest, types_in_words
from .process_type import LOADS, Process, check, choice

__all__ = ["Config", "Process", "load_config", "load_policy"]

MAX_FILE = 1 << 20
"""Bytes that a configuration file may have."""

PRESETS: Mapping[str, Callable[[], Policy]] = {
    "compute": Policy.compute,
    "media": Policy.media,
    "graphics": Policy.graphics,
}

NAMED: Mapping[str, Callable[[], Policy]] = {**PRESETS, "empty": Policy, "default": Policy}
"""What `load_policy` knows by name: the presets, and the policy of a child that only computes."""

# The keys of tables; "name" is the table's own key, "limits" belongs to the policy and is set here for brevity.
_PROCESS_KEYS = (*(key for key in Process.__struct_fields__ if key != "name"), "limits")
_POLICY_KEYS = (*Policy.__struct_fields__, "base")
_LISTS = frozenset({"preload", "files", "prefer", "require"})
_PATHS = frozenset({"read_only", "read_write", "devices"})

Table: TypeAlias = dict[str, Any]
T = TypeVar("T")


class Config(msgspec.Struct, frozen=True):
    """A configuration file as read: its path, its process types and its policies by name, all paths absolute."""

    path: Path
    processes: dict[str, Process]
    policies: dict[str, Policy] = {}

    def process(self, name: str) -> Process:
        """Return the process type *name*; `ConfigError` with the nearest name if there is none."""
        try:
            return self.processes[name]
        except KeyError:
            raise Place(str(self.path)).unknown("process", name, self.processes) from None

    def policy(self, name: str) -> Policy:
        """Return the policy *name* of the file; `ConfigError` with the nearest name if there is none."""
        try:
            return self.policies[name]
        except KeyError:
            raise Place(str(self.path)).unknown("policy", name, self.policies) from None

    def any_policy(self, name: str = "") -> Policy:
        """Return the policy of the process type *name*, or the policy *name*; without a name, the only one.

        Raises:
            ConfigError: There is none of that name, or several to choose from.
        """
        choices = {**self.policies, **{key: process.policy for key, process in self.processes.items()}}
        if not name and len(self.processes) == 1:
            return next(iter(self.processes.values())).policy
        if not name:
            raise Place(str(self.path)).error(f"which policy of it? There are {', '.join(sorted(choices))}")
        if name not in choices:
            raise Place(str(self.path)).unknown("process or policy", name, choices)
        return choices[name]


def load_config(path: str | Path) -> Config:
    """Read the TOML file *path*; relative paths in it start at its own folder. Runs nothing and launches nothing.

    Raises:
        ConfigError: The file cannot be read, or something in it cannot be used.
    """
    path = Path(path)
    place = Place(str(path))
    document = _parse(_read(path, place), place)
    base = path.absolute().parent
    _check_keys(place, document, ("process", "policy"))
    policies = _named(place.at("policy"), document, lambda place, table: _policy(place, table, base))
    choices = {**{name: preset() for name, preset in PRESETS.items()}, **policies}
    processes = _named(place.at("process"), document, lambda place, table: _process(place, table, base, choices))
    if not processes:
        raise place.error("expected at least one process type, as a table [process.NAME]")
    check_across(tuple(processes.values()), place)
    return Config(path.absolute(), processes, policies)


def load_policy(source: str, *, process: str = "", policy: str = "") -> Policy:
    """Return the policy that *source* names: compute, media, empty, default, a file, or ``FILE:NAME``.

    A file is a policy as `Policy.to_toml` writes it, or a configuration; of that, NAME, *process* or *policy* choose.

    Raises:
        ConfigError: There is no such preset or file, or no such policy in it, or it cannot be used.
    """
    if source in NAMED:
        if process or policy:
            raise Place(source).error("this is a preset, in which there is no process and no policy to choose")
        return NAMED[source]()
    file, _, name = source.rpartition(":") if ":" in source and not Path(source).exists() else (source, "", "")
    place = Place(file)
    if not Path(file).exists() and "/" not in file and "." not in file:
        raise Place("").unknown("preset or file", source, NAMED)
    document = _parse(_read(Path(file), place), place)
    if {"process", "policy"} & document.keys():
        config = load_config(file)
        if process:
            return config.process(process).policy
        return config.policy(policy) if policy else config.any_policy(name)
    if name or process or policy:
        raise place.error("this is one policy, in which there is no other to choose")
    with _policy_errors(place):
        return Policy.from_table(document)


def _read(path: Path, place: Place) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise place.error(f"expected a configuration file of at most {MAX_FILE} bytes")
        return data.decode()
    except OSError as error:
        raise place.error(f"could not read the configuration: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise place.error(f"line {line}: expected UTF-8 text") from None
    except ValueError as error:
        raise place.error(f"could not read the configuration: {error}") from None


def _parse(text: str, place: Place) -> Table:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        cause, line = _line_of(str(error), text)
        raise place.error(f"line {line}: not valid TOML: {cause}") from None
    except RecursionError:
        raise place.error("not valid TOML: values are nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise place.error(f"not valid TOML: {str(error).partition(';')[0]}") from None


def _line_of(message: str, text: str) -> tuple[str, int]:
    """Split tomllib's ``cause (at line 3, column 7)``; 3.14 has attributes for this, earlier ones only the text."""
    match = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", message, re.DOTALL)
    if match:
        return _lower(match[1]), int(match[2])
    return _lower(message.removesuffix(" (at end of document)")), text.rstrip("\n").count("\n") + 1


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _named(place: Place, document: Table, read: Callable[[Place, Table], T]) -> dict[str, T]:
    """Read each table of ``[process.NAME]`` or ``[policy.NAME]``."""
    tables = _table(place, document.get(place.keys[-1], {}))
    return {name: read(place.at(name), _table(place.at(name), table)) for name, table in tables.items()}


def _process(place: Place, table: Table, base: Path, policies: Mapping[str, Policy]) -> Process:
    _check_keys(place, table, _PROCESS_KEYS)
    if "plugin" not in table:
        raise place.error("plugin is missing; expected a plugin such as plugin = 'thumbnailer.py:Thumbnailer'")
    values = {key: _process_value(place.at(key), key, value) for key, value in table.items() if key != "limits"}
    policy = _chosen_policy(place.at("policy"), values.get("policy", "compute"), policies)
    values["policy"] = msgspec.structs.replace(policy, limits=_limits(place.at("limits"), table, policy.limits))
    _check_sums(place, values)
    return check(Process(name=place.keys[-1], **values), base, place)


def _process_value(place: Place, key: str, value: object) -> Any:
    if key == "call_timeout" and value == "none":
        return None
    if key in ("launch_timeout", "step_timeout", "call_timeout", "cancel_grace"):
        return _quantity(place, value, parse_duration)
    if key in ("max_payload", "shared_memory"):
        return _quantity(place, value, parse_size)
    if key == "early_init":
        entries = _convert(place, value, list[str | Table])
        return tuple(_step(place.at(f"[{index}]"), entry) for index, entry in enumerate(entries))
    if key == "force_plan":
        return _convert(place, value, bool)
    if key in ("policy", "load"):
        text = _convert(place, value, str)
        if key == "load":
            choice(place, "way to load", text, LOADS)
        return text
    if key == "env":
        return {name: _convert(place.at(name), text, str) for name, text in _table(place, value).items()}
    return _convert(place, value, tuple[str, ...] if key in _LISTS else str)


def _step(place: Place, entry: str | Table) -> str | Step:
    if isinstance(entry, str):
        return entry
    if "step" not in entry:
        raise place.error("step is missing; expected a table such as { step = 'fonts', files = ['text.ttf'] }")
    for key in ("step", "name"):
        _convert(place.at(key), entry.get(key, ""), str)
    return Step.from_table(entry)


def _check_sums(place: Place, values: Table) -> None:
    """Refuse numbers that are each possible, but not together."""
    process = Process(**values)
    if "step_timeout" in values and process.step_timeout > process.launch_timeout:
        raise place.at("step_timeout").error(
            f"{process.step_timeout:g} s is longer than launch_timeout, which is {process.launch_timeout:g} s"
        )
    # A payload is mapped (RLIMIT_AS), and a result is written as a memfd (RLIMIT_FSIZE).
    for key in ("memory", "file_size"):
        limit: int | None = getattr(process.policy.limits, key)
        if "max_payload" in values and limit is not None and process.max_payload > limit:
            most = format_size(limit)
            raise place.at("max_payload").error(f"{process.max_payload} bytes do not fit in limits.{key} = {most}")


def _chosen_policy(place: Place, name: str, policies: Mapping[str, Policy]) -> Policy:
    choice(place, "policy", name, tuple(policies))
    return policies[name]


def _policy(place: Place, table: Table, base: Path) -> Policy:
    """Read ``[policy.NAME]``: the preset ``base`` ("compute" if not given) with what the table overrides."""
    if place.keys[-1] in PRESETS:
        raise place.error("this is the name of a preset: give the policy another name")
    _check_keys(place, table, _POLICY_KEYS)
    preset = _convert(place.at("base"), table.get("base", "compute"), str)
    choice(place.at("base"), "preset", preset, tuple(PRESETS))
    policy = PRESETS[preset]()
    given = {key: value for key, value in table.items() if key != "base"}
    for key in _PATHS & given.keys():
        given[key] = [_absolute(base, entry) for entry in _convert(place.at(key), given[key], tuple[str, ...])]
    given["limits"] = _known(policy.limits) | _table(place.at("limits"), table.get("limits", {}))
    with _policy_errors(place):
        return Policy.from_table(msgspec.structs.asdict(policy) | given, place=place.path())


def _absolute(base: Path, entry: str) -> str:
    """Return a relative *entry* below *base*; what is wrong with an absolute or empty one is for the policy to say."""
    return os.path.normpath(base / entry) if entry and not entry.startswith("/") else entry


def _limits(place: Place, table: Table, limits: Limits) -> Limits:
    """Return *limits* with those that ``table["limits"]`` names replaced."""
    given = _table(place, table.get("limits", {}))
    with _policy_errors(place):
        return Limits.from_table(_known(limits) | given, place=place.path())


def _known(limits: Limits) -> Table:
    return {key: value for key, value in msgspec.structs.asdict(limits).items() if value is not None}


@contextmanager
def _policy_errors(place: Place) -> Generator[None]:
    """Put the file in front of an error of the policy, which names the key path itself."""
    try:
        yield
    except PolicyError as error:
        raise Place(place.source).error(str(error)) from None


def _quantity(place: Place, value: object, parse: Callable[[Any], T]) -> T:
    """Return *value* as `parse` reads it; tables and lists are refused before it sees them."""
    number = _convert(place, value, str | int | float)
    try:
        return parse(number)
    except ValueError as error:
        raise place.error(str(error)) from None


def _table(place: Place, value: object) -> Table:
    return cast("Table", _convert(place, value, dict))


def _check_keys(place: Place, table: Table, valid: tuple[str, ...]) -> None:
    for key in table:
        if key not in valid:
            raise place.at(key).error(f"there is no such key{nearest(key, valid)}")


def _convert(place: Place, value: object, wanted: Any) -> Any:
    """Return *value* as *wanted*, strictly; a mismatch inside of it is reported at its own key path."""
    try:
        return msgspec.convert(value, wanted, strict=True)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        for part in re.findall(r"\w+|\[\d+\]", path):
            place = place.at(part)
        raise place.error(types_in_words(text)) from None
