"""The doctor's report: what works, or why not and what to do, in a table and as JSON."""

from __future__ import annotations

import json
import os
from io import StringIO

import pytest
from rich.console import Console

from belljar.host.command.doctor import DoctorReport, doctor_report, render
from belljar.sandbox.backends import names
from belljar.sandbox.probe import FEATURES, LOST_WITHOUT, LayerProbe, Machine, probe, requirements
from belljar.sandbox.user import resolve_user

ALL_WORK = Machine({name: LayerProbe(name, True, detail="ABI 7" if name == "landlock" else "") for name in FEATURES})


def without(name: str) -> Machine:
    """Return a machine that has all but one feature."""
    return Machine({**ALL_WORK.results, name: LayerProbe(name, False, f"no {name} here", f"get {name}")})


def text_of(report: DoctorReport, width: int = 400) -> str:
    """Return the rendered report, by default with its words on as few lines as possible."""
    console = Console(file=StringIO(), width=width)
    console.print(render(report))
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


@pytest.mark.parametrize("name", FEATURES)
def test_each_fake_shows_in_features_and_backends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a feature faked as missing, its row and each backend that requires it say so, with cause and remedy."""
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", name)
    report = doctor_report(probe())

    row = next(row for row in report.features if row.name == name)
    assert not row.works
    assert (row.cause, row.remedy) == ("faked by BELLJAR_FAKE_MISSING", "unset BELLJAR_FAKE_MISSING")
    assert row.required_by == tuple(backend for backend in names() if name in requirements(backend))
    assert row.detail == LOST_WITHOUT.get(name, "")
    for backend in report.backends:
        if backend.name in row.required_by:
            assert not backend.works
            assert name in backend.missing
            assert "faked by BELLJAR_FAKE_MISSING; unset BELLJAR_FAKE_MISSING" in backend.why_not
    rendered = text_of(report)
    assert "faked by BELLJAR_FAKE_MISSING" in rendered
    assert "remedy: unset BELLJAR_FAKE_MISSING" in rendered


@pytest.mark.parametrize("name", FEATURES)
def test_backend_works_unless_it_requires_the_missing(name: str) -> None:
    """A backend fails for exactly the features that it requires, and the exit code follows the confining ones."""
    report = doctor_report(without(name))

    assert {row.name: row.works for row in report.backends} == {b: name not in requirements(b) for b in names()}
    confining = [row for row in report.backends if row.confines]
    assert report.exit_code == (0 if any(row.works for row in confining) else 1)
    assert all(row.why_not == f"{name}: no {name} here; get {name}" for row in report.backends if not row.works)


def test_all_well() -> None:
    """Where all works, every row says so, no cause is given, and the exit code is 0."""
    report = doctor_report(ALL_WORK)
    assert all(row.works and not row.cause for row in report.features)
    assert all(row.works and not row.why_not for row in report.backends)
    assert report.exit_code == 0


def test_none_is_never_enough() -> None:
    """A machine where only `none` works has exit code 1, and `none` is said to confine nothing."""
    report = doctor_report(without("seccomp"))
    row = next(row for row in report.backends if row.name == "none")
    assert (row.works, row.confines) == (True, False)
    assert report.exit_code == 1
    assert "confines nothing" in text_of(report)


def test_json_holds_all_rows() -> None:
    """The JSON of a report has a row for each feature and backend, of plain values."""
    values = json.loads(json.dumps(doctor_report(without("seccomp")).as_json()))
    assert tuple(row["name"] for row in values["features"]) == FEATURES
    assert tuple(row["name"] for row in values["backends"]) == names()
    assert values["backends"][0]["missing"] == ["seccomp"]


def test_cause_is_text_and_not_markup() -> None:
    """Brackets and control characters in a cause are shown as they are, and steer no terminal."""
    odd = Machine({**ALL_WORK.results, "proc": LayerProbe("proc", False, "[red]a\x1b[31m[/nope]", "b")})
    rendered = text_of(doctor_report(odd))
    assert "[red]a" in rendered
    assert "\x1b" not in rendered


def test_narrow_terminal_loses_nothing() -> None:
    """At 80 columns no name, path or sentence is cut; what is long goes on in the next line."""
    path = LayerProbe("chrome-sandbox", True, detail="/usr/lib/chromium/chrome-sandbox")
    odd = Machine({**without("userns").results, "chrome-sandbox": path})
    lines = text_of(doctor_report(odd), 80).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert not any("…" in line for line in lines)
    assert "/usr/lib/chromium/chrome-sandbox" in "".join(line.rstrip("│ ").rpartition("│ ")[2] for line in lines)


def test_causes_are_told_once() -> None:
    """Features that are missing for one reason share one paragraph."""
    lost = {name: LayerProbe(name, False, "no such kernel", "get one") for name in ("pidns", "netns")}
    rendered = text_of(doctor_report(Machine({**ALL_WORK.results, **lost})))
    assert rendered.count("remedy: get one") == 1
    assert "pidns, netns\n" in rendered


@pytest.mark.parametrize(
    ("missing", "chosen"),
    [
        ((), "namespaces"),
        (("userns",), "chrome-sandbox"),
        (("userns", "chrome-sandbox"), "bubblewrap"),
        (("userns", "chrome-sandbox", "bwrap"), "landlock"),
        (("userns", "chrome-sandbox", "landlock"), "seccomp"),
        (("seccomp",), ""),
    ],
)
def test_choice_of_auto_is_told(missing: tuple[str, ...], chosen: str) -> None:
    """The report names the backend that ``auto`` takes for the default policy, or says that there is none."""
    lost = {name: LayerProbe(name, False, "gone", "get it") for name in missing}
    report = doctor_report(Machine({**ALL_WORK.results, **lost}))
    assert report.auto == chosen
    (line,) = (line for line in text_of(report).splitlines() if line.startswith("auto "))
    assert line.strip() == (f"auto takes {chosen} for the default policy" if chosen else "auto finds no backend here")


def test_user_of_children_is_told() -> None:
    """The report says whom children run as: root's run as somebody else, and another user's as that user."""
    assert f"uid {resolve_user('').uid}" in text_of(doctor_report(ALL_WORK))
    assert ("nobody" in doctor_report(ALL_WORK).user) == (os.geteuid() == 0)


def test_real_machine_is_reported() -> None:
    """Without an argument the doctor tries this machine."""
    missing = probe(resolve_user("")).missing(FEATURES)
    assert {row.name for row in doctor_report().features if not row.works} == {result.name for result in missing}
