"""What the two commands of this example share: exit codes, the sentences for people, and where output goes."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from belljar.host.config.place import nearest, quoted
from belljar.ipc.errors import printable
from belljar.sandbox.backends import names
from belljar.sandbox.user import closed_to, resolve_user

HERE = Path(__file__).parent

ALL_WELL, WRONG, MENDABLE, NOT_HERE = range(4)
"""Exit codes; the README says what each means."""


class Trouble(Exception):
    """Something that the user can mend; the message is one sentence."""


def reason(error: Exception) -> str:
    """What to tell people: the plugin's own words where it refused its input, else belljar's."""
    return printable(str(error) or type(error).__name__)


def user_of_children(console: Console) -> str:
    """What run_as is to be: nothing, unless Python lies where the children of root, who are nobody, cannot go."""
    closed = closed_to(resolve_user(""))
    if not closed:
        return ""
    console.print(f"note: {closed}. The demo does the last: its children keep uid 0.", style="yellow", markup=False)
    return "root"


def backend_name(name: str) -> str:
    """*name*, if there is a backend of that name; for argparse."""
    if name not in names():
        raise argparse.ArgumentTypeError(f"no such backend: {quoted(name)}{nearest(name, names())}")
    return name


def read(file: Path, kind: str) -> bytes:
    """The content of *file*. Raises Trouble; *kind* says what the user may name instead."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise Trouble(f"could not read {file}: {error.strerror} (name {kind})") from None


def make_folder(out: Path) -> None:
    """Make the folder *out* and try to write there. Raises Trouble."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Trouble(
            f"could not write to the output folder {out}: {error.strerror} (choose another with --out)"
        ) from None


def save(path: Path, write: Callable[[], object]) -> None:
    """Call *write*, which writes *path*. Raises Trouble."""
    try:
        write()
    except OSError as error:
        raise Trouble(f"could not write {path}: {error.strerror} (choose another folder with --out)") from None
