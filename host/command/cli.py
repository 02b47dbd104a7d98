"""The command line: ``belljar doctor``, ``run``, ``inspect`` and ``plan``; ``belljar policy`` has a file of its own.

Every error of belljar is one line on stderr and exit code 2; Ctrl-C is exit code 130. What a child wrote or returned
is shown only after `printable`, so that it cannot steer the terminal. Imports are late: ``--help`` needs few of them.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from ...ipc.errors import BelljarError
from .policy import policy_app

if TYPE_CHECKING:
    from ..config.load import Process
    from ..process_host import ProcessHost

T = TypeVar("T")

app = typer.Typer(
    name="belljar",
    help="Run parts of a Python application in sealed child processes that the host has verified.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(policy_app, name="policy")

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file with [process.NAME] tables.")]
Backend = Annotated[
    str, typer.Option(metavar="NAME", help="Use this backend, or auto, instead of CONFIG's; what is required stays.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a machine to read.")]


def main() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        app(prog_name="belljar")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        try:
            typer.echo(f"belljar {metadata.version('belljar')}")
        except metadata.PackageNotFoundError:
            typer.echo("belljar (a source tree that is not installed)")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say it.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what belljar and the children log.")] = False,
) -> None:
    _show_log("INFO" if verbose else "WARNING")


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say which layers and backends work on this machine, and what to do about those that do not.

    The exit code is 1 if no backend that confines works here.
    """
    with _plain_errors():
        from . import doctor as checks

        report = checks.doctor_report()
        if as_json:
            _print_json(report.as_json())
        else:
            _console_print(checks.render(report))
        raise typer.Exit(report.exit_code)


@app.command()
def run(
    config: ConfigPath,
    process: Annotated[str, typer.Argument(metavar="PROCESS", help="The name of a process type in CONFIG.")],
    method: Annotated[str, typer.Argument(metavar="METHOD", help="A method of the plugin.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARGS",
            help="JSON where it is JSON, text where it is not; @FILE sends the bytes of a file, @- those of stdin.",
        ),
    ] = None,
    *,
    backend: Backend = "",
    as_json: AsJson = False,
    timeout: Annotated[
        str, typer.Option(help="How long the call may take, such as 10s; else the child is killed.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Save the result in this file.")] = None,
) -> None:
    """Launch a child, call one method, print the result. Put -- before an argument that begins with a dash."""
    with _plain_errors(process):
        from ..config.load import load_config
        from . import run as run_command

        chosen = _with_backend(load_config(config).process(process), backend)
        call = run_command.Call.parse(chosen, method, arguments or [], timeout)
        with run_command.Target.open(out) as target:
            result = _in_loop(call.make)
            typer.echo(target.save(result, as_json=as_json))


@app.command()
def inspect(
    config: ConfigPath,
    process: Annotated[str | None, typer.Argument(metavar="PROCESS", help="One of CONFIG's; all if not given.")] = None,
    *,
    backend: Backend = "",
    as_json: AsJson = False,
) -> None:
    """Launch each child, print its pids, its timeline and its protection as the kernel shows them, and end it.

    The protection comes layer by layer, and operation by operation with the verdict and the reason.
    """
    with _plain_errors():
        from ..config.load import load_config

        loaded = load_config(config)
        chosen = [loaded.process(process)] if process is not None else list(loaded.processes.values())
        chosen = [_with_backend(one, backend) for one in chosen]
        hosts = [host for one in chosen if (host := _try_launch(one)) is not None]
        if as_json:
            _print_json({"processes": [_as_json(host) for host in hosts]})
        for host in hosts if not as_json else ():
            _show(host)
        if len(hosts) < len(chosen):
            raise typer.Exit(2)


@app.command()
def plan(
    config: ConfigPath,
    process: Annotated[str | None, typer.Argument(metavar="PROCESS", help="One of CONFIG's; all if not given.")] = None,
    *,
    backend: Backend = "",
    as_json: AsJson = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Save a picture of the order of the one PROCESS.")
    ] = None,
    observe: Annotated[
        bool, typer.Option("--observe", help="Launch it, and compare what each step leaves with what it declares.")
    ] = False,
) -> None:
    """Print stages and early-init steps in their order, with why each stands there. Launches nothing by itself.

    The exit code is 2 if the plan is refused, and 1 if a step left what it does not declare.
    """
    with _plain_errors():
        from ..config.load import load_config
        from ..plan.show.report import table
        from . import plan as plan_command

        loaded = load_config(config)
        chosen = [loaded.process(process)] if process is not None else list(loaded.processes.values())
        shown = [plan_command.Shown.of(_with_backend(one, backend)) for one in chosen]
        if picture is not None:
            plan_command.save_picture(shown, picture)
        if observe:
            shown = [one if one.report.refused else one.observed(_in_loop) for one in shown]
        if as_json:
            _print_json({"processes": [one.as_json(loaded.path.parent) for one in shown]})
        for one in shown if not as_json else ():
            _console_print(table(one.report))
            if one.observation is not None:
                typer.echo(one.observation.text(loaded.path.parent))
        for one in shown:
            if one.report.refused:
                _complain(one.report.refused)
        if code := max(one.exit_code for one in shown):
            raise typer.Exit(code)


def _with_backend(process: Process, backend: str) -> Process:
    """Return *process* with the backend of the option, if one is given."""
    from ..config.place import Place
    from ..config.process_type import with_backend

    return with_backend(process, backend, Place("--backend")) if backend else process


def _try_launch(process: Process) -> ProcessHost | None:
    """Launch and end *process*; what fails is said at once and does not keep the others from being shown."""
    try:
        return _in_loop(partial(_launch_once, process))
    except BelljarError as error:
        _complain(f"{process.name}: {error}")
        return None


async def _launch_once(process: Process) -> ProcessHost:
    """Return the host of a child that was launched, verified and ended."""
    from ..process_host import ProcessHost

    host = ProcessHost(process)
    async with host:
        pass
    return host


def _as_json(host: ProcessHost) -> dict[str, object]:
    return {
        "process": host.process.name,
        "asked_backend": host.process.backend,
        "backend": _chosen_backend(host),
        "policy": str(host.process.policy),
        "launched_pid": host.launched_pid,
        "child_pid": host.child_pid,
        "claimed_pid": host.claimed_pid,
        "timeline": host.timeline,
        "protection": host.protection.as_json() if host.protection else None,
    }


def _chosen_backend(host: ProcessHost) -> str:
    return host.protection.backend if host.protection else host.process.backend


def _show(host: ProcessHost) -> None:
    from .render import launch_report

    assert host.protection is not None
    report = launch_report(
        f"{host.process.name} ({_chosen_backend(host)})",
        host.protection,
        host.timeline,
        launched_pid=host.launched_pid,
        child_pid=host.child_pid,
        claimed_pid=host.claimed_pid,
    )
    _console_print(report)


def _in_loop(main: Callable[[], Awaitable[T]]) -> T:
    import anyio

    return anyio.run(main)


@contextmanager
def _plain_errors(process: str = "") -> Generator[None]:
    """Turn what went wrong into one line on stderr. A closed stdout is left to typer, which ends quietly."""
    from ..errors import LaunchError

    try:
        yield
    except (BrokenPipeError, typer.Exit):
        raise
    except LaunchError as error:
        _fail(f"{process}: {error}")
    except BelljarError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _fail(text: str) -> NoReturn:
    _complain(text)
    raise typer.Exit(2)


def _complain(text: str) -> None:
    from ...ipc.errors import printable

    typer.echo(f"belljar: {printable(text)}", err=True)


def _console_print(what: Any) -> None:
    from rich.console import Console

    Console().print(what)


def _print_json(value: object) -> None:
    from .run import pretty_json

    typer.echo(pretty_json(value))


def _show_log(level: str) -> None:
    """Write belljar's log to stderr, one printable line each: it carries what children wrote."""
    import logging

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            from ...ipc.errors import printable

            return printable(f"{record.name}: {record.getMessage()}")

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter())
    logger = logging.getLogger("belljar")
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
