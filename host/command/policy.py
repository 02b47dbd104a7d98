"""``belljar policy show`` and ``belljar policy check``: what a policy means as rights, as calls, as a filter, and here.

Nothing is launched. Every error is one line on stderr and exit code 2, as in the rest of the command line.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer

from ...ipc.errors import BelljarError

policy_app = typer.Typer(
    help="Show what a policy allows, and which backends could enforce it here.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Source = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE",
        help="compute, media, empty or default; a policy in TOML; a configuration, also as FILE:NAME.",
    ),
]
OfProcess = Annotated[str, typer.Option("--process", metavar="NAME", help="The policy of this process type of FILE.")]
OfPolicy = Annotated[str, typer.Option("--policy", metavar="NAME", help="The policy [policy.NAME] of FILE.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a machine to read.")]


@policy_app.command()
def show(
    source: Source,
    *,
    process: OfProcess = "",
    policy: OfPolicy = "",
    syscalls: Annotated[bool, typer.Option("--syscalls", help="Each call, by intention, and its answer.")] = False,
    bpf: Annotated[bool, typer.Option("--bpf", help="The compiled filter, an instruction a line.")] = False,
    diff: Annotated[str, typer.Option(metavar="NAME|FILE", help="What differs from this policy.")] = "",
    own_pid_only: Annotated[
        bool, typer.Option("--own-pid-only", help="The filter of a backend without a pid namespace.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print a policy as TOML, or its calls, its filter, or its difference from another."""
    with _plain_errors():
        from ..config.load import load_policy
        from . import policy_report as report

        if syscalls + bpf + bool(diff) > 1:
            _fail("choose one of --syscalls, --bpf and --diff")
        chosen = load_policy(source, process=process, policy=policy)
        if syscalls:
            calls = report.calls(chosen, own_pid_only=own_pid_only)
            _show({"syscalls": [call._asdict() for call in calls]}, report.calls_text(calls), as_json)
        elif bpf:
            lines = report.listing(chosen, own_pid_only=own_pid_only)
            text = "\n".join([*lines, f"{len(lines)} instructions"])
            _show({"instructions": len(lines), "listing": lines}, text, as_json)
        elif diff:
            changes = report.difference(load_policy(diff), chosen, own_pid_only=own_pid_only)
            _show({"from": diff, "to": source, **changes}, report.difference_text(changes, diff, source), as_json)
        else:
            _show({"source": source, **report.policy_json(chosen)}, report.policy_text(chosen), as_json)


@policy_app.command()
def check(source: Source, *, process: OfProcess = "", policy: OfPolicy = "", as_json: AsJson = False) -> None:
    """Say which backends could enforce a policy on this machine, and why the others could not.

    The exit code is 1 if none could.
    """
    with _plain_errors():
        from ...sandbox.could_enforce import could_enforce
        from ..config.load import load_policy

        verdicts = could_enforce(load_policy(source, process=process, policy=policy))
        width = max(len(verdict.backend) for verdict in verdicts)
        lines = [f"{name:<{width}}  {'yes' if works else 'no '}  {why}".rstrip() for name, works, why in verdicts]
        _show({"source": source, "backends": [each._asdict() for each in verdicts]}, "\n".join(lines), as_json)
        if not any(verdict.works for verdict in verdicts):
            raise typer.Exit(1)


def _show(values: dict[str, object], text: str, as_json: bool) -> None:
    from ...ipc.errors import printable
    from .run import pretty_json

    typer.echo(pretty_json(values) if as_json else printable(text, keep="\n"))


@contextmanager
def _plain_errors() -> Generator[None]:
    """Turn what a user got wrong into one line on stderr."""
    try:
        yield
    except BelljarError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _fail(text: str) -> NoReturn:
    from ...ipc.errors import printable

    typer.echo(f"belljar: {printable(text)}", err=True)
    raise typer.Exit(2)
