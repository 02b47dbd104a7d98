"""The programs of two backends: found where they usually are or where a variable says, and only trusted ones taken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from belljar.sandbox.errors import BackendUnavailable
from belljar.sandbox.probe import probe
from belljar.sandbox.programs import (
    BWRAP,
    CHROME_SANDBOX,
    PROGRAMS,
    Program,
    check_executable,
    check_setuid,
    find,
    missing,
)


def test_first_usual_place_is_taken(tmp_path: Path) -> None:
    """Of the usual places the first that holds a file is taken."""
    for name in ("second", "third"):
        (tmp_path / name).touch()
    program = Program("BELLJAR_TEST_PROGRAM", tuple(str(tmp_path / name) for name in ("first", "second", "third")), "x")
    assert find(program, {}) == str(tmp_path / "second")


def test_variable_beats_every_usual_place(tmp_path: Path) -> None:
    """A variable names the only place that counts, also when nothing is there."""
    (tmp_path / "usual").touch()
    program = Program("BELLJAR_TEST_PROGRAM", (str(tmp_path / "usual"),), "x")
    with pytest.raises(BackendUnavailable, match="there is no /nonexistent; correct or unset BELLJAR_TEST_PROGRAM"):
        find(program, {"BELLJAR_TEST_PROGRAM": "/nonexistent"})
    (tmp_path / "own").touch()
    assert find(program, {"BELLJAR_TEST_PROGRAM": str(tmp_path / "own")}) == str(tmp_path / "own")


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_package_and_command_are_named(program: Program) -> None:
    """Where a program is nowhere, the remedy is Debian's command and that of a checkout."""
    with pytest.raises(BackendUnavailable) as caught:
        find(program._replace(places=("/nonexistent/one",)), {})
    assert f"apt-get install {program.package}" in caught.value.remedy
    assert "scripts/setup --backends" in caught.value.remedy
    assert caught.value.cause == "there is no /nonexistent/one or its usual other places"


def test_relative_path_is_refused() -> None:
    """A variable without an absolute path is refused: it would mean something else in each working directory."""
    with pytest.raises(BackendUnavailable, match="is no absolute path"):
        find(BWRAP, {BWRAP.variable: "bwrap"})


def test_program_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """Whatever others could have replaced is not started, and chmod is named."""
    path = tmp_path / "bwrap"
    path.touch(0o777)
    path.chmod(0o777)
    with pytest.raises(BackendUnavailable, match=f"could be replaced.*chmod go-w {path}"):
        check_executable(str(path))
    path.chmod(0o700)
    with pytest.raises(BackendUnavailable, match=f"cannot be executed by all.*chmod 0755 {path}"):
        check_executable(str(path))
    path.chmod(0o755)
    check_executable(str(path))


@pytest.mark.parametrize("mode", [0o755, 0o4775, 0o4711, 0o6755])
def test_setuid_program_has_one_mode(tmp_path: Path, mode: int) -> None:
    """A setuid helper of another mode than 4755 is refused, with the command that mends it."""
    path = tmp_path / "chrome-sandbox"
    path.touch()
    path.chmod(mode)
    with pytest.raises(BackendUnavailable, match=r"must be owned by root with mode 4755.*chown root.*chmod 4755"):
        check_setuid(str(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root's own file is root's")
def test_setuid_program_of_another_user_is_refused(tmp_path: Path) -> None:
    """A setuid helper that is not root's is refused."""
    path = tmp_path / "chrome-sandbox"
    path.touch()
    path.chmod(0o4755)
    with pytest.raises(BackendUnavailable, match=f"and has uid {os.geteuid()}"):
        check_setuid(str(path))


def test_missing_are_those_that_are_not_installed() -> None:
    """What is not installed is missing, unless a variable names another place for it."""
    here = {backend for backend, program in PROGRAMS.items() if any(map(os.path.isfile, program.places))}
    assert set(missing({})) == set(PROGRAMS) - here
    assert not missing({BWRAP.variable: "/own/bwrap", CHROME_SANDBOX.variable: "/own/chrome-sandbox"})


def test_module_prints_what_is_missing() -> None:
    """Run as a program, the module prints backend and package of each missing one: scripts/setup reads it."""
    argv = [sys.executable, "-I", "-m", "belljar.sandbox.programs"]
    environ = {BWRAP.variable: "", CHROME_SANDBOX.variable: ""}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environ)
    expected = [f"{backend} {program.package}" for backend, program in missing({}).items()]
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize(
    ("variable", "value", "cause", "remedy"),
    [
        ("BELLJAR_BWRAP", "/nonexistent", "there is no /nonexistent", "correct or unset BELLJAR_BWRAP"),
        ("BELLJAR_BWRAP", "/bin/true", "did not start an interpreter", "let BELLJAR_BWRAP name bubblewrap's program"),
        ("BELLJAR_CHROME_SANDBOX", "/nonexistent", "there is no /nonexistent", "correct or unset"),
        ("BELLJAR_CHROME_SANDBOX", "/bin/true", "must be owned by root with mode 4755", "chmod 4755 /bin/true"),
    ],
)
def test_probe_keeps_cause_and_remedy_apart(
    *, variable: str, value: str, cause: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong program is a feature that does not work, and the remedy is its own and not a general one."""
    monkeypatch.setenv(variable, value)
    name = "bwrap" if variable == "BELLJAR_BWRAP" else "chrome-sandbox"
    try:
        result = probe(refresh=True).results[name]
    finally:
        monkeypatch.undo()
        probe(refresh=True)
    assert not result.works
    assert cause in result.cause
    assert remedy in result.remedy
    assert "dmesg" not in result.remedy
