"""The programs that two backends stand on: where they are, and whether they may be trusted with the launch.

``python -m belljar.sandbox.programs`` prints a line "BACKEND PACKAGE" for each that is not installed (scripts/setup).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from .errors import BackendUnavailable


class Program(NamedTuple):
    """Where a program is looked for. An environment variable names another place, and then only that one counts."""

    variable: str
    places: tuple[str, ...]
    package: str


BWRAP: Final = Program(
    "BELLJAR_BWRAP",
    # AppArmor profiles are attached to the system's path, so it comes first (DESIGN of Ubuntu's bwrap-userns-restrict).
    ("/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap"),
    "bubblewrap",
)
CHROME_SANDBOX: Final = Program(
    "BELLJAR_CHROME_SANDBOX",
    (
        "/usr/lib/chromium/chrome-sandbox",
        "/usr/lib/chromium-browser/chrome-sandbox",
        "/usr/lib64/chromium-browser/chrome-sandbox",
        "/opt/google/chrome/chrome-sandbox",
        "/opt/chromium.org/chromium/chrome-sandbox",
    ),
    "chromium-sandbox",
)
PROGRAMS: Final[Mapping[str, Program]] = MappingProxyType({"bubblewrap": BWRAP, "chrome-sandbox": CHROME_SANDBOX})
"""Backend -> the program that it stands on."""

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def find(program: Program, environ: Mapping[str, str] = os.environ) -> str:
    """Return the path of *program*.

    Raises:
        BackendUnavailable: it is nowhere, with what to install.
    """
    chosen = environ.get(program.variable, "")
    if chosen and not chosen.startswith("/"):
        raise BackendUnavailable(f"{program.variable} = {chosen!r} is no absolute path", "write it from the root")
    for path in (chosen,) if chosen else program.places:
        if os.path.isfile(path):
            return path
    where = chosen or f"{program.places[0]} or its usual other places"
    install = f"install the package {program.package} (Debian: apt-get install {program.package})"
    remedy = f"correct or unset {program.variable}" if chosen else f"{install}, or run scripts/setup --backends"
    raise BackendUnavailable(f"there is no {where}", remedy)


def check_executable(path: str) -> None:
    """Raise `BackendUnavailable` unless nobody but root and this user can have put something else at *path*."""
    found = os.stat(path)
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & _OTHERS_WRITE:
        raise BackendUnavailable(
            f"{path} could be replaced by uid {found.st_uid} or others", f"run 'chmod go-w {path}'"
        )
    if not found.st_mode & stat.S_IXOTH:
        raise BackendUnavailable(f"{path} cannot be executed by all (mode {_mode(found)})", f"run 'chmod 0755 {path}'")


def check_setuid(path: str) -> None:
    """Raise `BackendUnavailable` unless *path* becomes root when it is executed, and only root can have written it."""
    found = os.stat(path)
    if found.st_uid != 0 and not _has_root():
        raise BackendUnavailable(
            f"{path} cannot become root inside of a user namespace that has none",
            "start this program outside of it (a container of root's, or none), or use another backend",
        )
    if found.st_uid != 0 or stat.S_IMODE(found.st_mode) != 0o4755:
        raise BackendUnavailable(
            f"{path} must be owned by root with mode 4755, and has uid {found.st_uid}, mode {_mode(found)}",
            f"run 'chown root {path} && chmod 4755 {path}' as root",
        )
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        raise BackendUnavailable(f"{path} lies on a file system mounted nosuid", "move it to another one")


def _has_root() -> bool:
    """Whether the uid 0 of the machine means somebody in this user namespace. See user_namespaces(7)."""
    try:
        return any(
            line.split()[0] == "0" for line in Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
        )
    except OSError:
        return True


def _mode(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):04o}"


def missing(environ: Mapping[str, str] = os.environ) -> Mapping[str, Program]:
    """Return the entries of `PROGRAMS` that are not installed. Whoever names another place has no need of a package."""
    return {
        backend: program
        for backend, program in PROGRAMS.items()
        if not environ.get(program.variable) and not any(map(os.path.isfile, program.places))
    }


if __name__ == "__main__":
    for name, program in missing().items():
        print(name, program.package)
