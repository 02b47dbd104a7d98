"""The contradictions that a policy may not contain. Each error names the key, what is wrong, and the remedy."""

from __future__ import annotations

import difflib
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from .danger import Danger
from .errors import PolicyError
from .quantities import MAX_DURATION, MAX_SIZE, format_size

if TYPE_CHECKING:
    from .policy import Limits, Policy

# Below these an interpreter cannot even answer: a limit that only ever kills is a mistake, not a policy.
_LEAST: Final = {"memory": 16 << 20, "cpu": 1, "open_files": 16, "processes": 0, "file_size": 0}
_MOST: Final = {"cpu": MAX_DURATION}

# Trees that show or steer the machine and its other processes.
_KERNEL_TREES: Final = ("/proc", "/sys")


def check_names(names: Iterable[str], known: tuple[str, ...], *, place: str, word: str = "key") -> None:
    """Refuse a name that is not *known*, and offer the nearest one that is."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
            raise PolicyError(f"{place} has no {word} {name!r} ({hint})")


def check_rules(policy: Policy, *, place: str) -> None:
    """Raise `PolicyError` for the first contradiction in a *policy* whose types are right; *place* names it."""
    for problem in _problems(policy):
        raise PolicyError(f"{place}.{problem}")


def _problems(policy: Policy) -> Iterator[str]:
    for key in ("read_only", "read_write", "devices"):
        paths: tuple[str, ...] = getattr(policy, key)
        for path in paths:
            yield from (f"{key}: {problem}" for problem in _path_problems(path))
            yield from (f"{key}: {problem}" for problem in _place_problems(key, path))
        yield from (f"{key}: {path!r} stands there twice; name it once" for path in _twice(paths))
    for key in ("network", "covert_channels", "syscalls", "danger"):
        yield from (f"{key}: {str(name)!r} stands there twice; name it once" for name in _twice(getattr(policy, key)))
    yield from _overlaps(policy)
    yield from _syscall_problems(policy)
    yield from _danger_problems(policy)
    yield from (f"limits.{problem}" for problem in _limit_problems(policy.limits))
    yield from _process_problems(policy)
    if policy.open_directories and (policy.read_only or policy.read_write or policy.devices):
        yield (
            "open_directories: with files granted, the filter would open whatever lies below such a directory; "
            "grant its path instead"
        )


def _path_problems(path: str) -> Iterator[str]:
    if "\0" in path:
        yield f"{path!r} contains a NUL byte, which no path can"
    if not path.isprintable() and not _is_text(path):
        yield f"{path!r} is not valid UTF-8; rename the file"
    if not path.startswith("/"):
        yield f"{path!r} is relative; write it from the root, as /srv/fonts"
    elif path == "/":
        yield "'/' is the whole machine; name the folders that the child needs"
    elif path.startswith("//") or posixpath.normpath(path) != path:
        yield f"{path!r} is not in its plain form; write {posixpath.normpath('/' + path.lstrip('/'))!r}"


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _place_problems(key: str, path: str) -> Iterator[str]:
    if any(_is_within(path, tree) for tree in _KERNEL_TREES):
        yield f"{path!r} shows the machine and its processes; read it in the host and pass the value"
    if key == "devices" and not path.startswith("/dev/"):
        yield f"{path!r} is not below /dev; name files under read_only or read_write"
    if key != "devices" and _is_within(path, "/dev"):
        yield f"{path!r} is below /dev; name device nodes under devices"


def _overlaps(policy: Policy) -> Iterator[str]:
    """The kernel grants the union of all rules for a path, so a read-only path inside a writable one is writable."""
    for path in policy.read_only:
        for outer in policy.read_write:
            if path == outer:
                yield f"read_only: {path!r} is under read_write too; keep one"
            elif _is_within(path, outer):
                yield f"read_only: {path!r} is inside {outer!r} of read_write and would be writable; move one of them"


def _syscall_problems(policy: Policy) -> Iterator[str]:
    if policy.syscalls:
        from .seccomp.grantable import refusal  # only for the few that need it: a child loads this file too

        yield from (f"syscalls: {problem}" for name in policy.syscalls if (problem := refusal(name)))


def dangers(policy: Policy) -> dict[Danger, str]:
    """Return the tokens that *policy* needs, and the key that each is needed for."""
    needed = {
        Danger.EXECUTABLE_MEMORY: ("executable_memory", policy.executable_memory),
        Danger.NETWORK: ("network", set(policy.network) - {"unix"}),
        Danger.DEVICES: ("devices" if policy.devices else "gpu", policy.devices or policy.gpu),
        Danger.COVERT_CHANNELS: ("covert_channels", policy.covert_channels),
        Danger.OPEN_DIRECTORIES: ("open_directories", policy.open_directories),
        Danger.SYSCALLS: ("syscalls", policy.syscalls),
    }
    return {danger: key for danger, (key, granted) in needed.items() if granted}


def _danger_problems(policy: Policy) -> Iterator[str]:
    """A dangerous right without its token was perhaps not meant; a token without a right misleads a reviewer."""
    needed = dangers(policy)
    for danger, key in needed.items():
        if danger not in policy.danger:
            yield (
                f'{key}: needs the danger token "{danger}"; import {danger.name} from belljar.sandbox.danger and name '
                f'it in danger, or write danger = ["{danger}"] in TOML'
            )
    for danger in policy.danger:
        if danger not in needed:
            yield f'danger: nothing here needs "{danger}"; leave it out, for it would mislead a reviewer'


def _limit_problems(limits: Limits) -> Iterator[str]:
    for key, least in _LEAST.items():
        value: int | None = getattr(limits, key)
        if value is None:
            continue
        show = format_size if key in ("memory", "file_size") else str
        if value < least:
            yield f"{key}: {value} is too little for a child to answer; give at least {show(least)}, or leave it out"
        elif value > _MOST.get(key, MAX_SIZE):
            yield f"{key}: {value} is more than the kernel counts; leave it out for no limit"


def _process_problems(policy: Policy) -> Iterator[str]:
    if policy.limits.processes != 0:
        return
    for key in ("subprocesses", "threads"):
        if getattr(policy, key):
            yield f"{key}: allowed, but limits.processes = 0 allows none; leave limits.processes out"


def _is_within(path: str, tree: str) -> bool:
    return path == tree or path.startswith(tree + "/")


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
