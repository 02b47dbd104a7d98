"""What an attack is, and the list of all. The themes beside this file add theirs by the decorator `attack`.

An attack is a function that returns when it got what it wanted and raises when it was kept from it: an `OSError` with
the errno, or `Kept` with a word where the kernel says it in another way. What it returns is its evidence: a text that
only success can know, where there is one, which the host then compares (tests/escape/witness.py).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

NOT_IN_KERNEL: Final = ("ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT")
"""What a kernel says that was built without something."""


class Kept(Exception):
    """The attack was kept from what it wanted, as the text says in a word or two."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is attacked. All of it belongs to the host, is made for one child, and holds something to find.

    Attributes:
        folder: Holds ``secret``, ``victim`` (to be changed), and the sockets ``stream`` and ``datagram``.
        shared: Holds ``given``; the policies that grant files grant this folder.
        host_pid, victim_pid: Processes of the child's user; the victim leads its own session, and has the secret in
            its memory at ``address`` (``length`` bytes), in its environment and behind its fd 0.
        abstract: The name of a listening abstract socket, without the leading null byte.
        tcp, udp: Ports on 127.0.0.1 where the host listens.
        key: A number for keys of System V IPC; ``word`` is the same for names.
        program, loader, interpreter, package: /bin/true, the dynamic loader, Python, and a file of belljar.
    """

    folder: str
    shared: str
    host_pid: int
    victim_pid: int
    address: int
    length: int
    abstract: str
    tcp: int
    udp: int
    key: int
    word: str
    program: str
    loader: str
    interpreter: str
    package: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attack: why it was kept from its aim (empty: it was not), and its evidence."""

    kept: str
    evidence: str = ""


Act = Callable[[Target], object]


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack.

    Attributes:
        operation: The value of the `Operation` that it tries; it runs under every policy, and the report's verdict on
            the operation says what must come of it. Empty for an attack on something else:
        layers: Then any of these layers must stop it, under ``policy``.
        policy: The policy under which docs/attacks.md shows it (tests/escape/policies.py).
        needs_root: Even without a sandbox only root may do it.
        not_root: The kernel exempts root from what should stop it.
        apart: It may end or spoil its child, so it gets one of its own.
        granted: The policies that grant just this: there its success is no escape.
        proof: Where it is shown to work: ``none`` is the backend, ``careless`` a program started the usual way
            (tests/children/careless.py), and anything else says why the kernel itself never lets it.
    """

    name: str
    act: Act
    operation: str
    layers: tuple[str, ...]
    policy: str
    needs_root: bool
    not_root: bool
    apart: bool
    granted: tuple[str, ...]
    proof: str


ATTACKS: Final[dict[str, Attack]] = {}


def attack(
    name: str,
    operation: str = "",
    *,
    layers: tuple[str, ...] = ("seccomp",),
    policy: str = "media",
    needs_root: bool = False,
    not_root: bool = False,
    apart: bool = False,
    granted: tuple[str, ...] = (),
    proof: str = "none",
) -> Callable[[Act], Act]:
    """Enter the decorated function into the list."""

    def enter(act: Act) -> Act:
        assert name not in ATTACKS
        ATTACKS[name] = Attack(name, act, operation, layers, policy, needs_root, not_root, apart, granted, proof)
        return act

    return enter


def attempt(act: Act, target: Target) -> Outcome:
    """Let *act* try, and say what came of it."""
    try:
        evidence = act(target)
    except OSError as error:
        return Outcome(errno.errorcode.get(error.errno or 0, type(error).__name__))
    except Kept as error:
        return Outcome(str(error))
    except ValueError:  # what resource.setrlimit makes of EPERM
        return Outcome("EPERM")
    except MemoryError:
        return Outcome("ENOMEM")
    return Outcome("", "" if evidence is None else str(evidence))


def in_fork(act: Callable[[], object]) -> None:
    """Do *act* in a forked process if there can be one, so that its success spoils nothing; else here."""
    try:
        pid = os.fork()
    except OSError:
        act()
        return
    if pid == 0:
        code = 255
        try:
            act()
            code = 0
        except OSError as error:
            code = error.errno or 255
        except ValueError:
            code = errno.EPERM
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        raise Kept(f"signal {-code}")
    if code:
        raise OSError(code, os.strerror(code))
