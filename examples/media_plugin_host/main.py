"""Thumbnails of untrusted pictures and videos, made in sealed children, on one contact sheet.

Run it without arguments for the demo's own material, or with files of yours: python main.py holiday.jpg film.mp4
The backend is that of belljar.toml; --backend tries another one, and --all-backends compares all of them.
"""

from __future__ import annotations

import argparse
import logging
import mimetypes
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio
from rich.console import Console, RenderableType

from attacks import WITH_DETAILS, Attack, attack, attacks_table, escapes_text
from belljar import BelljarError, Config, ProcessHost, load_config, probe
from belljar.host.command.render import launch_report
from belljar.sandbox.backends import names
from belljar.sandbox.user import resolve_user
from command import (
    ALL_WELL,
    HERE,
    MENDABLE,
    NOT_HERE,
    WRONG,
    Trouble,
    backend_name,
    make_folder,
    read,
    save,
    user_of_children,
)
from compare import Trial, sheets_differ, sheets_text, trials_table
from media import Material, MaterialMissing, clips, damaged, photographs
from thumbnails import MediaJob


async def run(config: Config, arguments: argparse.Namespace, console: Console) -> int:
    """Do it all and return the exit code. Raises Trouble, MaterialMissing, BelljarError."""
    out: Path = arguments.out
    make_folder(out)
    material = [_read(file) for file in arguments.files] if arguments.files else _own_material(out)
    run_as = user_of_children(console)
    if arguments.backends:
        return await _compare(config, material, arguments.backends, out=out, run_as=run_as, console=console)
    job = MediaJob(config, material, run_as=run_as)
    await job.run(console)
    sheet = _save_sheet(job, out, "contact-sheet.png")
    hostile = config.process("hostile").backend
    attacks = await _attacks(config, ["none", hostile])
    _print_hosts([*job.hosts, *(host for each in attacks for host in each.hosts)], console)
    _print_problems(job, console)
    _print_attacks(attacks, console)
    console.print(f"contact sheet: {sheet}", markup=False, highlight=False)
    return WRONG if _escaped(attacks) or (job.went_wrong and not arguments.files) else ALL_WELL


async def _compare(
    config: Config, material: list[Material], backends: list[str], *, out: Path, run_as: str, console: Console
) -> int:
    """Run the job and the attack on each of *backends*; see `NOT_HERE`."""
    probe(resolve_user(run_as))  # it takes its time once for all, and is no part of the first launch
    trials = [await _try(MediaJob(config, material, backend=name, run_as=run_as), console) for name in backends]
    working = [trial for trial in trials if not trial.trouble]
    for trial in working:
        _save_sheet(trial.job, out, f"contact-sheet-{trial.backend}.png")
    sheets = [_save_sheet(trial.job, out, "contact-sheet.png") for trial in working[:1]]
    attacks = await _attacks(config, ["none", *(trial.backend for trial in working)])
    if len(backends) == 1:
        _print_hosts([host for trial in trials for host in trial.job.hosts], console)
    for trial in working[:1]:
        _print_problems(trial.job, console)
    _print_apart(console, trials_table(trials), sheets_text(trials))
    _print_attacks(attacks, console)
    for sheet in sheets:
        console.print(f"contact sheet: {sheet} (and one of each backend beside it)", markup=False, highlight=False)
    wrong = any(piece.damaged for piece in material) and any(trial.job.went_wrong for trial in working)
    if wrong or _escaped(attacks) or sheets_differ(trials):
        return WRONG
    return NOT_HERE if len(working) < len(trials) else ALL_WELL


async def _try(job: MediaJob, console: Console) -> Trial:
    try:
        await job.run(console)
    except BelljarError as error:
        return Trial(job.backend, job, str(error))
    return Trial(job.backend, job)


async def _attacks(config: Config, backends: list[str]) -> list[Attack]:
    """Let the hostile plugin try everything under each of *backends*."""
    if len(backends) > WITH_DETAILS:  # the log of what was refused says the same as the table, line by line
        logging.getLogger("belljar.host").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="belljar-demo-") as folder:
        results: list[Attack] = []
        for backend in dict.fromkeys(backends):  # each once
            victim = Path(folder, backend)
            victim.write_text("a file of the host\n", encoding="utf-8")
            results.append(await attack(config.process("hostile"), backend, victim))
    return results


def _escaped(attacks: Sequence[Attack]) -> bool:
    return any(attack.escapes for attack in attacks)


def _print_hosts(hosts: Sequence[ProcessHost], console: Console) -> None:
    for host in hosts:
        if host.protection is None:
            raise RuntimeError("a child that was ready is known in full")
        pids = {"launched_pid": host.launched_pid, "child_pid": host.child_pid, "claimed_pid": host.claimed_pid}
        console.print(launch_report(host.process.name, host.protection, host.timeline, operations=False, **pids), "")


def _print_attacks(attacks: Sequence[Attack], console: Console) -> None:
    _print_apart(console, attacks_table(attacks, console.width), escapes_text(attacks))
    console.print()


def _print_apart(console: Console, *parts: RenderableType) -> None:
    for part in parts:
        console.print()
        console.print(part)


def _print_problems(job: MediaJob, console: Console) -> None:
    for name, problem in job.problems.items():
        console.print(f"no thumbnail of {name}: {problem}", style="yellow", markup=False, highlight=False)


def _own_material(out: Path) -> list[Material]:
    pictures, films = photographs(), clips()
    for film in films:
        path = out / film.name
        save(path, partial(path.write_bytes, film.data))
    return [*pictures, *films, *damaged(pictures[0], films[0])]


def _save_sheet(job: MediaJob, out: Path, name: str) -> Path:
    path = out / name
    save(path, lambda: job.sheet().save(path))
    return path


def _read(file: Path) -> Material:
    kind, _ = mimetypes.guess_type(file.name)
    return Material(str(file), read(file, "pictures and videos that exist"), video=(kind or "").startswith("video/"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="pictures and videos (default: the demo's own)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for contact-sheet.png (default: out)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--backend", metavar="NAME", type=backend_name, help=f"another backend: {', '.join(names())}")
    which.add_argument("--all-backends", action="store_true", help="compare all backends")
    arguments = parser.parse_args()
    arguments.backends = list(names()) if arguments.all_backends else [arguments.backend] if arguments.backend else []
    return arguments


def main() -> int:
    """The command line; the exit codes are those above."""
    arguments = _arguments()
    try:
        return anyio.run(run, load_config(HERE / "belljar.toml"), arguments, Console())
    except (Trouble, MaterialMissing, BelljarError) as error:
        print(f"error: {error}", file=sys.stderr)
        return MENDABLE


if __name__ == "__main__":
    sys.exit(main())
