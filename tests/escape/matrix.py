"""Write docs/attacks.md: ``scripts/attacks``. Runs every attack under every backend, as root's children can be: both.

What a cell can say: "escaped"; "refused (WHY)", with the errno or the signal; "no effect" where the kernel said yes and
nothing happened outside; "no child" where the backend refused the policy, or the launch ended at the seal.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from belljar.sandbox.backends import host_half
from belljar.sandbox.probe import explain, probe
from belljar.sandbox.protection import Operation, Verdict
from belljar.sandbox.user import User
from tests.children.intruder import ATTACKS, NOT_IN_KERNEL, Attack, Outcome

from .judge import overstated, understated
from .policies import MEANING, SHARED
from .runs import NO_CHILD, NO_SUCH_CHILD, Run, backends, runs_of

PAGE = Path(__file__).parents[2] / "docs/attacks.md"
REPORT = "*the report says*"
LAYERS = "Layers and limits"
USERS = ("nobody", "root")

Runs = Mapping[str, Mapping[str, Sequence[Run]]]
"""User -> backend -> what came of it."""

_INTRODUCTION = """\
# Attacks

A hostile plugin tries each of these in a sealed child, under each backend. Written by `scripts/attacks` on Linux
{kernel} ({machine}); the attacks are in `tests/children/intruder`, what the host looks at in `tests/escape/witness.py`.

- Each attack is shown to work where nothing is in its way: under `none`, in a program that was started the usual way,
  or past a filter with the old mistake. The tests fail where one does not.
- Where the host can see for itself (a file, a signal, a connection, a secret that was found), its eyes decide.
- *The report says* is what the protection report of the very child says of the operation. `tests/escape` holds the two
  against each other: what is enforced is never escaped, what is partly enforced, granted or open is shown by an attack.
- The child runs as `nobody`, and once more as root (`run_as = "root"`); one word where both came to the same. What
  takes root without a sandbox too is marked #.
- What a child can do to the conversation itself (lie about its pid, answer from another process, send what does not
  fit, shrink what it sent) has nothing to do with the backend: see [attacks-on-peers.md](attacks-on-peers.md),
  `tests/host/test_identity.py`, `tests/host/test_calls.py` and `tests/ipc`.

| cell | means |
| --- | --- |
| escaped | the attack got what it wanted |
| refused (X) | errno or signal, or in a word what it did not find |
| no effect | the kernel said yes, and nothing happened outside |
| no child | the backend does not take this policy, or the launch ended at the seal |
"""


def collect() -> Runs:
    """Run everything."""
    return {user: {backend: runs_of(backend, user) for backend in backends()} for user in USERS}


def page(runs: Runs) -> str:
    """Return the text of docs/attacks.md."""
    kernel = ".".join(os.uname().release.split(".")[:2])
    return "\n".join(
        [
            _INTRODUCTION.format(kernel=kernel, machine=os.uname().machine),
            *(line for operation in Operation for line in _section(runs, operation)),
            *_layers(runs),
            *_other_policies(runs),
            *_unproven(runs),
        ]
    )


def _section(runs: Runs, operation: Operation) -> Iterator[str]:
    attacks = [attack for attack in ATTACKS.values() if attack.operation == operation]
    yield from (f"## {operation.value.capitalize()}", "", _row("attack", *backends()), _rule(1 + len(backends())))
    yield _row(REPORT, *(_verdict(runs, backend, "media", operation) for backend in backends()))
    yield from (_row(_title(attack), *_cells(runs, attack)) for attack in attacks)
    yield ""


def _layers(runs: Runs) -> Iterator[str]:
    yield from (f"## {LAYERS}", "", "What is no operation of the report; any of the layers named must stop it.", "")
    yield from (_row("attack", "layers", "policy", *backends()), _rule(3 + len(backends())))
    for attack in ATTACKS.values():
        if not attack.operation:
            yield _row(_title(attack), ", ".join(attack.layers), attack.policy, *_cells(runs, attack))
    yield from (
        "",
        "The kernel exempts root from RLIMIT_NPROC, so root's fork bomb is stopped by no limit of its own.",
        "",
    )


def _other_policies(runs: Runs) -> Iterator[str]:
    yield from ("## Policies", "", _row("policy", "grants"), _rule(2))
    yield from (_row(name, meaning) for name, meaning in MEANING.items())
    yield from (
        "",
        "The attacks on operations are made under more policies than media. Where the report's verdict is then",
    )
    yield from ("another one, it stands here, with the number of the operation's attacks that got through.", "")
    for policy in SHARED[1:]:
        yield from (f"### Under {policy}", "", _row("operation", *backends()), _rule(1 + len(backends())))
        for operation in Operation:
            cells = [_counted(runs, backend, policy, operation) for backend in backends()]
            if cells != [_counted(runs, backend, "media", operation) for backend in backends()]:
                yield _row(operation.value, *cells)
        yield ""


def _unproven(runs: Runs) -> Iterator[str]:
    yield from ("## What was not seen to work here", "")
    for attack in ATTACKS.values():
        if attack.proof not in ("none", "careless"):
            yield f"- {attack.name}: {attack.proof}."
        elif attack.proof == "none" and _outcome(runs["root"]["none"], attack).kept:
            kept = _outcome(runs["root"]["none"], attack).kept
            why = (
                "this kernel was built without it" if kept in NOT_IN_KERNEL else "root itself may not, in this machine"
            )
            yield f"- {attack.name}: {why} ({kept})."
    yield ""


def _title(attack: Attack) -> str:
    return f"{attack.name} #" if attack.needs_root else attack.name


def _cells(runs: Runs, attack: Attack) -> list[str]:
    return [_merged([_word(_outcome(runs[user][backend], attack)) for user in USERS]) for backend in backends()]


def _outcome(found: Sequence[Run], attack: Attack) -> Outcome:
    return next(
        run.outcomes[attack.name] for run in found if run.case.policy == attack.policy and attack.name in run.outcomes
    )


def _word(outcome: Outcome) -> str:
    if not outcome.kept:
        return "escaped"
    if outcome.kept in (NO_SUCH_CHILD, NO_CHILD):
        return "no child"
    return "no effect" if outcome.kept == "nothing happened outside" else f"refused ({outcome.kept})"


def _merged(words: Sequence[str]) -> str:
    return words[0] if len(set(words)) == 1 else f"{words[0]}; root: {words[1]}"


def _of_policy(found: Sequence[Run], policy: str) -> Run:
    return next(run for run in found if run.case.policy == policy)


def _verdict(runs: Runs, backend: str, policy: str, operation: Operation) -> str:
    return _merged([_said(_of_policy(runs[user][backend], policy), operation) for user in USERS])


def _said(run: Run, operation: Operation) -> str:
    if run.protection is None:
        return "no child"
    status = run.protection.operation(operation)
    why = f": {status.why}" if status.verdict is Verdict.PARTLY else ""
    return f"{status.verdict.value}{why}"


def _counted(runs: Runs, backend: str, policy: str, operation: Operation) -> str:
    said = _verdict(runs, backend, policy, operation).partition(":")[0]
    numbers = [str(_successes(_of_policy(runs[user][backend], policy), operation)) for user in USERS]
    return said if set(numbers) == {"0"} else f"{said} ({_merged(numbers)})"


def _successes(run: Run, operation: Operation) -> int:
    return sum(not outcome.kept for name, outcome in run.outcomes.items() if ATTACKS[name].operation == operation)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return _row(*["---"] * columns)


def main() -> int:
    """Write the page; 1 if a report and an attack disagree, 2 if this machine cannot run all of it."""
    logging.disable(logging.WARNING)  # of the thousand refusals
    if os.geteuid() != 0:
        print("attacks: only root can have children of both kinds, of root and of nobody", file=sys.stderr)
        return 2
    if missing := explain(probe(User.current()).missing({name for b in backends() for name in host_half(b).requires})):
        print(f"attacks: not all backends work here: {missing}", file=sys.stderr)
        return 2
    runs = collect()
    all_runs = [run for found in runs.values() for each in found.values() for run in each]
    wrong = [sentence for run in all_runs for sentence in (*overstated(run), *understated(run))]
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    PAGE.write_text(page(runs))
    print(f"attacks: {len(ATTACKS)} attacks, {len(all_runs)} children; wrote {PAGE}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
