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
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from .errors import BackendUnavailable, SandboxError
from .hints import diagnose

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
)
"""All features, in the order of the tables."""

LOST_WITHOUT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "seccomp-listener": "without it, a call that the seal refuses is not reported by name",
        "landlock": "without it, the landlock layer stays off; the empty root and seccomp still close the files",
        "passpidfd": "without it, the sender of a hello is found by pidfd_open and a second look",
    }
)
"""The features that no backend requires -> what is lost where they are missing."""

_DEPENDS_ON_USERNS = frozenset(
    ("pidns", "netns", "ipcns", "mountns", "utsns", "cgroupns", "empty-root", "capabilities")
)
_NEEDS_USERNS = "it needs userns, which does not work here"
_FAKE = "BELLJAR_FAKE_MISSING"
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
    """The answers for every name in `FEATURES`."""

    results: Mapping[str, LayerProbe]

    def missing(self, names: Iterable[str]) -> list[LayerProbe]:
        """Return those of *names* that do not work here, in the given order."""
        return [self.results[name] for name in names if not self.results[name].works]


_lock = threading.Lock()  # held while the machine is tried, so that threads do not all try it
_kept: list[Machine] = []  # one or none


def probe(*, refresh: bool = False) -> Machine:
    """Return what this machine can do; tries it (about 0.2 s, never much over 5 s) at the first call or on *refresh*.

    Names in the environment variable ``BELLJAR_FAKE_MISSING`` are shown as missing; it is read at every call.

    Raises:
        SandboxError: ``BELLJAR_FAKE_MISSING`` holds a name that is no feature.
    """
    faked = faked_names(os.environ.get(_FAKE, ""))
    with _lock:
        if refresh or not _kept:
            _kept[:] = [_try_all()]
        seen = _kept[0]
    return _follow_userns(_pretend(seen, faked), faked)


def is_probed() -> bool:
    """Tell whether `probe` would answer at once."""
    return bool(_kept)


def requirements(backend: str) -> tuple[str, ...]:
    """Return the features that *backend* cannot do without; `SandboxError` if there is no such backend."""
    from .backends import host_half

    return host_half(backend).requires


def explain(missing: Iterable[LayerProbe]) -> str:
    """Return one sentence that names what is missing, each cause once, and its remedy; empty if nothing is.

    What is missing only because user namespaces are is left out where those are named themselves.
    """
    results = list(missing)
    named = {result.name for result in results}
    by_cause: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if not ("userns" in named and result.cause == _NEEDS_USERNS):
            by_cause.setdefault((result.cause, result.remedy), []).append(result.name)
    return "; ".join(f"{', '.join(names)}: {cause}; {remedy}" for (cause, remedy), names in by_cause.items())


def faked_names(text: str) -> tuple[str, ...]:
    """Return the features that *text*, a list with commas, names; `SandboxError` for one that is none."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in FEATURES:
            near = difflib.get_close_matches(name, FEATURES, 1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise SandboxError(f"{_FAKE} names no feature: {name!r} ({meant}known are {', '.join(FEATURES)})")
    return names


def _try_all() -> Machine:
    try:
        outcomes = json.loads(_run_probes(_SECONDS))
        return Machine({name: _read(name, outcomes[name]) for name in FEATURES})
    except (BackendUnavailable, ValueError, LookupError, TypeError) as error:
        cause = (
            str(error) if isinstance(error, BackendUnavailable) else f"the probing process answered nonsense: {error}"
        )
        remedy = f"see what '{sys.executable} -I -m belljar.sandbox.probes' says"
        return Machine({name: LayerProbe(name, False, cause, remedy) for name in FEATURES})


def _run_probes(seconds: float) -> bytes:
    """Run the throwaway process and return what it printed; probes that take longer than *seconds* are killed.

    Raises:
        BackendUnavailable: it could not be started, failed, or did not end.
    """
    argv = [sys.executable, "-I", "-m", "belljar.sandbox.probes", str(seconds)]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds + _START_UP, check=True
        )
    except OSError as error:
        raise BackendUnavailable(f"could not start the probing process: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise BackendUnavailable(f"the probing process did not end within {error.timeout:g} s") from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise BackendUnavailable(f"the probing process failed with exit code {error.returncode}: {last}") from error
    return done.stdout


def _read(name: str, outcome: Mapping[str, Any]) -> LayerProbe:
    if outcome["works"]:
        return LayerProbe(name, True, detail=outcome["detail"])
    cause, remedy = outcome["text"], _NO_HINT
    if outcome["step"] and (found := diagnose(outcome["step"], outcome["errno"])):
        cause, remedy = f"{cause} ({found.cause})", found.remedy
    return LayerProbe(name, False, cause, remedy, LOST_WITHOUT.get(name, ""))


def _pretend(machine: Machine, faked: Iterable[str]) -> Machine:
    missing = {
        name: LayerProbe(name, False, f"faked by {_FAKE}", f"unset {_FAKE}", LOST_WITHOUT.get(name, ""))
        for name in faked
    }
    return Machine({**machine.results, **missing})


def _follow_userns(machine: Machine, faked: Collection[str]) -> Machine:
    """Without user namespaces nobody but root can make the others: say so once, instead of eight different errors."""
    userns = machine.results["userns"]
    if userns.works or os.geteuid() == 0:
        return machine
    lost = [n for n in _DEPENDS_ON_USERNS if n not in faked and ("userns" in faked or not machine.results[n].works)]
    changed = {name: LayerProbe(name, False, _NEEDS_USERNS, userns.remedy) for name in lost}
    return Machine({**machine.results, **changed})
