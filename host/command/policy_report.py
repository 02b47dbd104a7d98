"""What `belljar policy` prints, as plain values and as text: a policy, its calls, its filter, its difference."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from ...sandbox.policy import Policy
from ...sandbox.quantities import format_size
from ...sandbox.seccomp.answers import Answer, Choice, Rights, Rules
from ...sandbox.seccomp.compile import compile_policy, number_names
from ...sandbox.seccomp.disassemble import disassemble
from ...sandbox.seccomp.explain import answer_in_words, rule_in_words
from ...sandbox.seccomp.groups import INTENTIONS
from ...sandbox.seccomp.rules import rules_for

_WIDTH = 110


class Call(NamedTuple):
    """One system call: what a program wants with it, and what it gets."""

    intention: str
    call: str
    answer: str
    depends: bool


def policy_json(policy: Policy) -> dict[str, Any]:
    """Return *policy* as plain values, with its hash and in words."""
    return {"policy": msgspec.to_builtins(policy), "hash": policy.hash(), "text": str(policy)}


def policy_text(policy: Policy) -> str:
    """Return TOML that can be saved and read back, below one line in words."""
    return f"# {policy}\n{policy.to_toml()}".rstrip("\n")


def calls(policy: Policy, *, own_pid_only: bool) -> list[Call]:
    """Return every call that belljar knows, by intention, with its answer under *policy*."""
    rules = rules_for(Rights.of(policy, own_pid_only=own_pid_only))
    return [
        Call(intention, name, rule_in_words(name, rules[name]), isinstance(rules[name], Choice))
        for intention, names in INTENTIONS.items()
        for name in names
    ]


def calls_text(found: list[Call]) -> str:
    """Return the calls of each intention: those with one answer together, each with a condition on its own."""
    lines: list[str] = []
    for intention in dict.fromkeys(call.intention for call in found):
        lines += ["", intention] if lines else [intention]
        lines += _answers([call for call in found if call.intention == intention])
    lines += ["", f"any other call: {answer_in_words(Answer.ENOSYS)}"]
    return "\n".join(lines)


def _answers(found: list[Call]) -> Iterator[str]:
    constants = [call for call in found if not call.depends]
    for answer in dict.fromkeys(call.answer for call in constants):
        yield _wrapped(f"{answer}: {' '.join(call.call for call in constants if call.answer == answer)}")
    for call in found:
        if call.depends:
            yield _wrapped(f"{call.call}: {call.answer}")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="      ", break_long_words=False)


def listing(policy: Policy, *, own_pid_only: bool) -> list[str]:
    """Return the filter as it is installed where the host listens, an instruction a line."""
    program = compile_policy(policy, listener=True, own_pid_only=own_pid_only)
    return disassemble(program, number_names())


def difference(old: Policy, new: Policy, *, own_pid_only: bool) -> dict[str, Any]:
    """Return what changes from *old* to *new*: rights and limits, and the calls whose answers differ."""
    before, after = (rules_for(Rights.of(each, own_pid_only=own_pid_only)) for each in (old, new))
    rights_before, rights_after = (_flat(each) for each in (old, new))
    return {
        "rights": {
            key: [rights_before[key], value] for key, value in rights_after.items() if value != rights_before[key]
        },
        "syscalls": {name: _both(name, before, after) for name in after if before[name] != after[name]},
    }


def _flat(policy: Policy) -> dict[str, Any]:
    """Return rights and limits by the keys of TOML; lists sorted, as their order means nothing."""
    fields: dict[str, Any] = msgspec.to_builtins(policy)
    limits: dict[str, Any] = fields.pop("limits")
    rights = {key: sorted(value) if isinstance(value, (list, tuple)) else value for key, value in fields.items()}
    return rights | {f"limits.{key}": value for key, value in limits.items()}


def _both(name: str, before: Rules, after: Rules) -> list[str]:
    return [rule_in_words(name, before[name]), rule_in_words(name, after[name])]


def difference_text(changes: dict[str, Any], old: str, new: str) -> str:
    """Return the difference for people; calls that change alike stand together."""
    if not any(changes.values()):
        return f"{old} and {new} allow the same"
    lines = [f"from {old} to {new}"]
    for key, (was, becomes) in changes["rights"].items():
        lines += _change(key, was, becomes)
    alike: dict[tuple[str, str], list[str]] = {}
    for name, (was, becomes) in changes["syscalls"].items():
        alike.setdefault((was, becomes), []).append(name)
    for (was, becomes), names in alike.items():
        lines += ["", *textwrap.wrap(" ".join(names), _WIDTH), _wrapped(f"was {was}"), _wrapped(f"now {becomes}")]
    return "\n".join(lines)


def _change(key: str, was: Any, becomes: Any) -> Iterator[str]:
    if isinstance(was, list):
        yield from (f"  - {key}: {each}" for each in was if each not in becomes)
        yield from (f"  + {key}: {each}" for each in becomes if each not in was)
    else:
        yield f"  {_sign(was, becomes)} {key}: {_said(key, was)} -> {_said(key, becomes)}"


def _sign(was: Any, becomes: Any) -> str:
    """Return + for more and - for less; no limit is more than any."""
    most = float("inf")
    return "+" if (most if becomes is None else becomes) > (most if was is None else was) else "-"


def _said(key: str, value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format_size(value) if key in ("limits.memory", "limits.file_size") else str(value)
