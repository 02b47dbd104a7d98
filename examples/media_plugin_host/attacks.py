"""What the hostile plugin may do, with a sandbox and without: each attempt beside its result under two backends."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from belljar import Process, ProcessHost
from belljar.host.place import printable
from interfaces import Attempt
from jobs import run_jobs

ATTEMPTS: Mapping[str, str] = {
    "lie_about_pid": "claim the host's pid in a message",
    "read_passwords": "read /etc/passwd",
    "open_tcp_socket": "listen on a TCP socket",
    "open_abstract_socket": "listen on an abstract socket",
    "fork": "start a process",
    "signal_host": "signal the host",
    "list_processes": "see other processes",
    "trace_process": "control a process by ptrace",
    "mount": "mount over /",
    "unshare_user_namespace": "make a user namespace",
    "write_host_file": "write into a file of the host",
}
BACKENDS = ("none", "namespaces")


async def attack(
    process: Process, backend: str, victim: Path, launched: Callable[[ProcessHost], None]
) -> dict[str, Attempt]:
    """Let the hostile *process* try everything under *backend*; *victim* is the file that it shall write to.

    What counts is what the host can see for itself, where it can: the file says whether it was written to.
    """
    results: dict[str, Attempt] = {}

    async def attempt(host: ProcessHost, method: str) -> Attempt:
        given = {"lie_about_pid": os.getpid(), "signal_host": os.getpid(), "trace_process": os.getpid()}
        arguments = [str(victim)] if method == "write_host_file" else [given[method]] if method in given else []
        result: Attempt = await host.call(method, *arguments, returns=Attempt)
        return result

    def done(method: str, result: Attempt | Exception) -> None:
        results[method] = Attempt("refused", str(result)) if isinstance(result, Exception) else result

    before = victim.read_bytes()
    run_as = "root" if os.geteuid() == 0 else ""  # all the power that the host has
    sealed = msgspec.structs.replace(process, backend=backend, run_as=run_as, name=f"{process.name} ({backend})")
    await run_jobs(sealed, ATTEMPTS, attempt, launched=launched, done=done)
    if victim.read_bytes() != before:
        results["write_host_file"] = Attempt("succeeded", "changed a file of the host")
    return results


def attacks_table(results: Mapping[str, Mapping[str, Attempt]]) -> Table:
    """A row for each attempt, with a column for each backend of *results*."""
    table = Table(
        "attempt", *(f"under {backend}" for backend in results), title="a hostile plugin", title_justify="left"
    )
    for method, title in ATTEMPTS.items():
        table.add_row(title, *(_outcome(outcomes[method]) for outcomes in results.values()))
    return table


def _outcome(attempt: Attempt) -> Text:
    style = "red" if attempt.outcome == "succeeded" else "green"
    return Text.assemble((attempt.outcome, style), f": {printable(attempt.detail)}")
