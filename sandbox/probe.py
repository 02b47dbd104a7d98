"""What this machine can do, each feature really tried in a throwaway process, never guessed from a version.

The host may have threads, and what a probe does cannot be undone; so a fresh process is exec'ed, which forks one
process a feature (`sandbox.probes`). The answers are kept for this process only: a sysctl or a container's profile
may be another one at the next start.
"""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from .errors import BackendUnavailable, SandboxError
from .hints import diagnose
from .user import User

FEATURES: Final = (
    "userns",
    "pidns",
    "netns",
    "ipcns",
    "mountns",
    "utsns",
    "cgroupns",
    "empty-root",
    "capabilities",
    "no-new-privs",
    "seccomp",
    "seccomp-tsync",
    "seccomp-listener",
    "landlock",
    "pidfd",
    "passpidfd",
    "memfd-seal",
    "proc",
    "rlimits",
    "bwrap",
    "chrome-sandbox",
)
"""All features, in the order of the tables."""

LOST_WITHOUT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "seccomp-listener": "without it, a call that the seal refuses is not reported by name",
        "passpidfd": "without it, the sender of a hello is found by pidfd_open and a second look",
    }
)
"""The features that no backend requires -> what is lost where they are missing."""

_DEPENDS_ON_USERNS = frozenset(
    ("pidns", "netns", "ipcns", "mountns", "utsns", "cgroupns", "empty-root", "capabilities")
)
PARTS = {
    "bwrap": ("userns", "pidns", "netns", "ipcns", "mountns", "utsns", "cgroupns"),
    "chrome-sandbox": ("pidns", "netns"),
}
"""What a program makes: a machine that is faked to lack one of these lacks the program's service too."""

_ALIASES = {"tsync": "seccomp-tsync"}
_LANDLOCK_ABI = "landlock-abi="

_NEEDS_USERNS = "it needs userns, which does not work here"
_FAKE = "BELLJAR_FAKE_MISSING"
_FAKED = f"faked by {_FAKE}"
_SECONDS = 5.0
_START_UP = 3.0
_NO_HINT = "look in the kernel's log (dmesg) and in the rules of an outer container for what refused it"


@dataclass(frozen=True, slots=True)
class LayerProbe:
    """What came of one feature. ``cause`` and ``remedy`` are empty if it works; ``detail`` may say more either way."""

    name: str
    works: bool
    cause: str = ""
    remedy: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """The answers for every name in `FEATURES`. ``failure`` says why none could be had, with what to do."""

    results: Mapping[str, LayerProbe]
    failure: str = ""

    @property
    def landlock_abi(self) -> int:
        """The highest landlock ABI to use here, 0 for none."""
        found = self.results["landlock"]
        return int(found.detail.split()[1]) if found.works else 0

    def missing(self, names: Iterable[str]) -> list[LayerProbe]:
        """Return those of *names* that do not work here, in the given order."""
        return [self.results[name] for name in names if not self.results[name].works]


_lock = threading.Lock()  # held while the machine is tried, so that threads do not all try it
_kept: dict[User, Machine] = {}


def probe(user: User | None = None, *, refresh: bool = False) -> Machine:
    """Return what *user*, by default this process's own, can do here.

    Tries it (about 0.3 s, never much over 5 s) at the first call for each user or on *refresh*. Names in the
    environment variable ``BELLJAR_FAKE_MISSING`` are shown as missing; it is read at every call.

    Raises:
        SandboxError: ``BELLJAR_FAKE_MISSING`` holds a name that is no feature.
    """
    user = user or User.current()
    faked = faked_names(os.environ.get(_FAKE, ""))
    with _lock:
        if refresh or user not in _kept:
            _kept[user] = _try_all(user)
        seen = _kept[user]
    return _follow_userns(_pretend(seen, faked), faked, user)


def is_probed(user: User | None = None) -> bool:
    """Tell whether `probe` would answer at once."""
    return (user or User.current()) in _kept


def requirements(backend: str) -> tuple[str, ...]:
    """Return the features that *backend* cannot do without; `SandboxError` if there is no such backend."""
    from .backends import host_half

    return host_half(backend).requires


def explain(missing: Iterable[LayerProbe]) -> str:
    """Return one sentence that names what is missing, each remedy once with the first cause; empty if nothing is.

    What is missing only because user namespaces are is left out where those are named themselves. Without /proc so
    much goes wrong that nothing else is worth saying.
    """
    results = list(missing)
    named = {result.name: result for result in results}
    if "proc" in named and not named["proc"].cause.startswith(_FAKED):
        results = [named["proc"]]
    groups: dict[tuple[str, str], list[LayerProbe]] = {}
    for result in results:
        if not ("userns" in named and result.cause == _NEEDS_USERNS):
            cause = result.cause if result.remedy == _NO_HINT else ""
            groups.setdefault((cause, result.remedy), []).append(result)
    return "; ".join(_clause(group) for group in groups.values())


def _clause(group: list[LayerProbe]) -> str:
    return f"{', '.join(result.name for result in group)}: {group[0].cause}; {group[0].remedy}"


def faked_names(text: str) -> tuple[str, ...]:
    """Return the features that *text*, a list with commas, names; `SandboxError` for one that is none.

    ``landlock-abi=N`` stands for a kernel whose landlock is only as new as that.
    """
    names = tuple(_ALIASES.get(name.strip(), name.strip()) for name in text.split(",") if name.strip())
    for name in names:
        if name not in FEATURES and not name.removeprefix(_LANDLOCK_ABI).isdecimal():
            known = (*FEATURES, *_ALIASES, f"{_LANDLOCK_ABI}N")
            near = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise SandboxError(f"{_FAKE} names no feature: {name!r} ({meant}known are {', '.join(known)})")
    return names


def _try_all(user: User) -> Machine:
    try:
        outcomes = json.loads(_run_probes(_SECONDS, user))
        return Machine({name: _read(name, outcomes[name]) for name in FEATURES})
    except BackendUnavailable as error:
        cause, remedy = error.cause, error.remedy
    except (ValueError, LookupError, TypeError) as error:
        cause, remedy = f"the probing process answered nonsense: {error}", ""
    remedy = remedy or f"see what '{sys.executable} -I -m belljar.sandbox.probes' says"
    return Machine({name: LayerProbe(name, False, cause, remedy) for name in FEATURES}, f"{cause}; {remedy}")


def _run_probes(seconds: float, user: User) -> bytes:
    """Run the throwaway process as *user* and return what it printed; probes that take over *seconds* are killed.

    Raises:
        BackendUnavailable: it could not be started, failed, or did not end.
    """
    argv = [sys.executable, "-I", "-m", "belljar.sandbox.probes", str(seconds)]
    another = user != User.current()
    ids: dict[str, Any] = {"user": user.uid, "group": user.gid, "extra_groups": user.groups} if another else {}
    try:
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds + _START_UP, check=True, **ids
        )
    except OSError as error:
        found = diagnose("start a process", error.errno or 0)
        text = f"could not start the probing process: {error.strerror}"
        raise BackendUnavailable(*(f"{text} ({found.cause})", found.remedy) if found else (text,)) from error
    except subprocess.TimeoutExpired as error:
        raise BackendUnavailable(f"the probing process did not end within {error.timeout:g} s") from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise BackendUnavailable(f"the probing process failed with exit code {error.returncode}: {last}") from error
    return done.stdout


def _read(name: str, outcome: Mapping[str, Any]) -> LayerProbe:
    if outcome["works"]:
        return LayerProbe(name, True, detail=outcome["detail"])
    cause, remedy = outcome["text"], outcome["remedy"] or _NO_HINT
    if outcome["step"] and (found := diagnose(outcome["step"], outcome["errno"])):
        cause, remedy = f"{cause} ({found.cause})", found.remedy
    return LayerProbe(name, False, cause, remedy, LOST_WITHOUT.get(name, ""))


def _pretend(machine: Machine, faked: Iterable[str]) -> Machine:
    results = dict(machine.results)
    for name in faked:
        if name.startswith(_LANDLOCK_ABI):
            results["landlock"] = _older_landlock(results["landlock"], int(name.removeprefix(_LANDLOCK_ABI)))
            continue
        for lost in (name, *(program for program, parts in PARTS.items() if name in parts)):
            cause = _FAKED if lost == name else f"it needs {name}, faked as missing by {_FAKE}"
            results[lost] = LayerProbe(lost, False, cause, f"unset {_FAKE}", LOST_WITHOUT.get(lost, ""))
    return replace(machine, results=results)


def _older_landlock(found: LayerProbe, abi: int) -> LayerProbe:
    if not found.works or abi >= int(found.detail.split()[1]):
        return found
    if abi == 0:
        return LayerProbe(found.name, False, _FAKED, f"unset {_FAKE}", LOST_WITHOUT.get(found.name, ""))
    return LayerProbe(found.name, True, detail=f"ABI {abi} ({_FAKED})")


def _follow_userns(machine: Machine, faked: Collection[str], user: User) -> Machine:
    """Without user namespaces nobody but root can make the others: say so once, instead of eight different errors."""
    userns = machine.results["userns"]
    if userns.works or user.is_root:
        return machine
    lost = [n for n in _DEPENDS_ON_USERNS if n not in faked and ("userns" in faked or not machine.results[n].works)]
    changed = {name: LayerProbe(name, False, _NEEDS_USERNS, userns.remedy) for name in lost}
    return replace(machine, results={**machine.results, **changed})
