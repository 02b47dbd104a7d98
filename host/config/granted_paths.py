"""Stage 1: paths of a policy that a child could turn against the next launch.

Two ways lead from files that a child may write to what is not its to have. It can rewrite what runs unsealed: belljar's
own code, the interpreter's, an early-init step, the filter that the next child gets. And it can put a link where
another process type's policy names a file, which then leads anywhere. So neither is granted: the user is told which
path, and why. The zygote follows no link either (`sandbox.launch.rootfs`), because this look is not the last moment.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ...sandbox.errors import SandboxError
from ...sandbox.policy import Policy
from ...sandbox.seccomp.cache import folder_path
from ..plan.find import find_steps
from .place import Place
from .process_type import Process


def check_granted_paths(process: Process) -> None:
    """Raise `SandboxError` for the first path of the policy of a resolved *process* that must not be granted."""
    policy = process.policy
    for path in (*policy.read_only, *policy.read_write, *policy.devices):
        if (real := os.path.realpath(path)) != path and not (path in policy.read_only and _begins_with_a_link(path)):
            raise SandboxError(f"the policy names {path}, which leads through a symbolic link; write {real}")
    trusted = list(_trusted(process))
    for granted in process.policy.read_write:
        for path, is_code in trusted:
            if _is_within(path, granted) or (is_code and _is_within(granted, path)):
                what = "what runs unsealed, or what seals the next child"
                raise SandboxError(f"the policy lets the child write {granted}, and {path} is {what}; grant less")


def check_across(processes: Sequence[Process], place: Place) -> None:
    """Raise `ConfigError` if a child may write what runs unsealed in one of another process type, or *place* itself.

    Only a file with all process types shows that; `check_granted_paths` looks at one, whoever made it.
    """
    trusted = [(place.source, "says so")]
    trusted += [(path, f"runs unsealed in {other.name}") for other in processes for path in _unsealed(other)]
    for process in processes:
        for granted in process.policy.read_write:
            for path, what in trusted:
                if _is_within(os.path.realpath(path), os.path.realpath(granted)):
                    raise place.at("process", process.name, "policy").error(
                        f"it lets the child write {granted}, and {path}, below it, {what}; grant less"
                    )


def real_paths(policy: Policy) -> dict[str, str]:
    """Return where those paths of a checked *policy* lead that begin with a link: /lib64 to /usr/lib64."""
    reals = {path: os.path.realpath(path) for path in policy.read_only}
    return {path: real for path, real in reals.items() if real != path}


def _begins_with_a_link(path: str) -> bool:
    """Whether the only link in *path* lies in / itself, which no policy grants: /lib64 and others of a merged /usr."""
    first = "/".join(path.split("/")[:2])
    return os.path.realpath(path) == os.path.realpath(first) + path[len(first) :]


def _trusted(process: Process) -> Iterator[tuple[str, bool]]:
    """Yield real paths that no child may change; with True, folders of code, below which nothing may be written."""
    packages = Path(__file__).parents[2]  # belljar/, whose links lead to the four packages
    code = [packages, *(packages / name for name in ("child", "host", "ipc", "sandbox"))]
    code += map(Path, sysconfig.get_paths().values())
    yield from ((os.path.realpath(path), True) for path in code if path.name != "data")
    if (cache := folder_path()) is not None:
        yield os.path.realpath(cache), True
    for path in (sys.executable, *sys.path, *_unsealed(process)):
        with suppress(FileNotFoundError):  # "" in sys.path is the current folder, which may be gone
            yield os.path.realpath(path), False


def _unsealed(process: Process) -> Iterator[str]:
    """Yield the files whose code runs before the seal."""
    place = Place(f"process {process.name}")
    yield from (str(step.declared.file) for step in find_steps(process.preload, process.early_init, Path("/"), place))
    if process.load == "early":
        yield from (str(process.path), *process.files)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
