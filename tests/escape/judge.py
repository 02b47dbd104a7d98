"""Hold what came of the attacks against the child's own protection report. A disagreement is a bug in one of them."""

from __future__ import annotations

from collections.abc import Iterator

from belljar.sandbox.protection import Operation, Verdict
from belljar.sandbox.user import resolve_user
from tests.children.intruder import ATTACKS, Attack

from .policies import SHARED
from .runs import Run


def overstated(run: Run) -> Iterator[str]:
    """Yield a sentence for each attack that succeeded although the report says that it cannot."""
    for name, outcome in run.outcomes.items():
        if not outcome.kept and (why := _should_be_kept(run, ATTACKS[name])):
            yield f"{_child(run)}: {name!r} escaped, but {why}"


def _should_be_kept(run: Run, attack: Attack) -> str:
    """Return why *attack* cannot succeed, as the report has it; empty if it says no such thing."""
    report = run.protection
    if report is None or (attack.not_root and resolve_user(run.case.run_as).is_root):
        return ""
    if attack.operation:
        status = report.operation(Operation(attack.operation))
        if status.verdict is not Verdict.ENFORCED or run.case.policy in attack.granted:
            return ""
        return f"the report says {status.operation}: enforced ({status})"
    held = sorted(layer.value for layer in report.engaged() if layer.value in attack.layers)
    return f"{', '.join(held)} should stop it" if held else ""


def _child(run: Run) -> str:
    case = run.case
    return f"{case.backend}, {case.run_as or 'the same user'}, {case.policy}"


def understated(run: Run) -> Iterator[str]:
    """Yield a sentence for each operation that is not enforced, as the report has it, though no attack succeeds."""
    if run.protection is None or run.case.policy not in SHARED or len(run.outcomes) == 1:
        return
    for status in run.protection.operations:
        where = f"{_child(run)}: {status.operation}"
        if status.verdict is Verdict.PARTLY and not status.why:
            yield f"{where}: partly, and the report does not say why"
        if status.verdict is not Verdict.ENFORCED and not _is_shown(run, status.operation):
            yield f"{where}: the report says {status.verdict} ({status}), but no attack shows it"


def _is_shown(run: Run, operation: Operation) -> bool:
    attacks = [attack for attack in ATTACKS.values() if attack.operation == operation and attack.name in run.outcomes]
    may = [attack for attack in attacks if not attack.needs_root or resolve_user(run.case.run_as).is_root]
    return not may or any(not run.outcomes[attack.name].kept for attack in attacks)
