"""What the hostile plugin may do under each backend: every attempt beside its result, and beside the report's word."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from belljar import Layer, Process, ProcessHost, Protection
from belljar.ipc.errors import printable
from belljar.sandbox.protection import Operation, Verdict
from interfaces import Attempt
from jobs import run_jobs

ATTEMPTS: Mapping[str, tuple[str, Operation | None]] = {
    "lie_about_pid": ("claim the host's pid in a message", None),
    "read_passwords": ("read /etc/passwd", Operation.READ_FILE),
    "open_tcp_socket": ("listen on a TCP socket", Operation.INET),
    "open_abstract_socket": ("listen on an abstract socket", Operation.UNIX_ABSTRACT),
    "fork": ("start a process", Operation.MAKE_PROCESS),
    "signal_host": ("signal the host", Operation.SIGNAL_OUTSIDE),
    "list_processes": ("see other processes", Operation.SEE_PROCESSES),
    "trace_process": ("control a process by ptrace", Operation.PTRACE),
    "mount": ("mount over /", Operation.MOUNT),
    "unshare_user_namespace": ("make a user namespace", Operation.NEW_USER_NAMESPACE),
    "write_host_file": ("write into a file of the host", Operation.WRITE_FILE),
}
"""Method of the hostile plugin -> title, and the operation of the protection report that it tries."""

WITH_DETAILS = 2  # backends side by side that leave room for what the plugin says
WIDE = 150  # columns of a terminal that has room for outcome and errno of six backends in one line


@dataclass
class Attack:
    """What came of each attempt under one backend, and what is enforced on each child that it took."""

    backend: str
    attempts: dict[str, Attempt] = field(default_factory=dict[str, Attempt])
    hosts: list[ProcessHost] = field(default_factory=list[ProcessHost])

    @property
    def escapes(self) -> list[str]:
        """The attempts that succeeded although the report says that they cannot."""
        protections = [host.protection for host in self.hosts if host.protection]
        return [
            method
            for method, attempt in self.attempts.items()
            if attempt.outcome == "succeeded" and any(_is_enforced(method, held) for held in protections)
        ]


def _is_enforced(method: str, protection: Protection) -> bool:
    """Whether the report says that *method* must fail."""
    operation = ATTEMPTS[method][1]
    if operation is None:  # another's pid in a message takes a capability, see unix(7)
        return Layer.CAPABILITIES in protection.engaged()
    return protection.operation(operation).verdict is Verdict.ENFORCED


async def attack(process: Process, backend: str, victim: Path) -> Attack:
    """Let the hostile *process* try everything under *backend*; *victim* is the file that it shall write to.

    What counts is what the host can see for itself, where it can: the file says whether it was written to.
    Root's hostile child stays root: it has all the power that its host has, and the sandbox alone holds it.
    """
    found = Attack(backend)

    async def attempt(host: ProcessHost, method: str) -> Attempt:
        given = {"lie_about_pid": os.getpid(), "signal_host": os.getpid(), "trace_process": os.getpid()}
        arguments = [str(victim)] if method == "write_host_file" else [given[method]] if method in given else []
        result: Attempt = await host.call(method, *arguments, returns=Attempt)
        return result

    def done(method: str, result: Attempt | Exception) -> None:
        found.attempts[method] = Attempt("refused", str(result)) if isinstance(result, Exception) else result

    before = victim.read_bytes()
    run_as = "root" if os.geteuid() == 0 else ""
    sealed = msgspec.structs.replace(process, backend=backend, run_as=run_as, name=f"{process.name} ({backend})")
    await run_jobs(sealed, ATTEMPTS, attempt, launched=found.hosts.append, done=done)
    if victim.read_bytes() != before:
        found.attempts["write_host_file"] = Attempt("succeeded", "changed a file of the host")
    return found


def attacks_table(attacks: Sequence[Attack], width: int) -> Table:
    """A row for each attempt, with a column for each of *attacks*, for a terminal of *width* columns.

    With two there is room for the plugin's own words, with more for the name of the errno.
    """
    few = len(attacks) <= WITH_DETAILS
    table = Table(title="a hostile plugin", title_justify="left")
    table.add_column("attempt")
    for attack in attacks:
        table.add_column(f"under {attack.backend}" if few else attack.backend)
    between = ": " if few else " " if width >= WIDE else "\n"
    for method, (title, _) in ATTEMPTS.items():
        table.add_row(title, *(_outcome(attack, method, between, few) for attack in attacks))
    return table


def _outcome(attack: Attack, method: str, between: str, in_full: bool) -> Text:
    attempt = attack.attempts[method]
    more = attempt.detail if in_full else attempt.error
    return Text.assemble((attempt.outcome, _style(attack, method)), between * bool(more), printable(more))


def _style(attack: Attack, method: str) -> str:
    if attack.attempts[method].outcome == "refused":
        return "green"
    return "bold red" if method in attack.escapes else "yellow"


def escapes_text(attacks: Sequence[Attack]) -> Text:
    """One line: whether each attempt that succeeded is one that the protection report does not call enforced."""
    escapes = [f"{attack.backend}: {ATTEMPTS[method][0]}" for attack in attacks for method in attack.escapes]
    if escapes:
        return Text(f"ESCAPED, although the report calls it enforced: {'; '.join(escapes)}", style="bold red")
    confining = [attack for attack in attacks if attack.backend != "none"]
    through = [
        f"{attack.backend}: {ATTEMPTS[method][0]}"
        for attack in confining
        for method, attempt in attack.attempts.items()
        if attempt.outcome == "succeeded"
    ]
    if through:
        return Text(f"got through, as the report says that it may: {'; '.join(through)}", style="yellow")
    return Text("every attempt was refused wherever a sandbox was" if confining else "there was no sandbox")
