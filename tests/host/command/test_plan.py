"""``belljar plan``: the table, its exit codes, JSON, the picture, and what a launch shows of the steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import msgspec
import pytest

from belljar.host.config.load import load_config
from belljar.host.plan.show.observe import observe
from belljar.host.plan.show.picture import COLOURS, picture
from belljar.host.plan.show.report import plan_report
from belljar.sandbox.backends import names
from belljar.sandbox.declaration import GRAPHICS_DRIVER, RIGHTS, SINGLE_THREADED

from ...helpers import CHILDREN, require

STEPS = """
import os, signal, socket, threading
from pathlib import Path
from belljar import around_seal, early_init

kept = []

def start(name):
    started = threading.Event()
    def wait():
        with open("/proc/thread-self/comm", "w") as comm:
            comm.write(name)
        started.set()
        threading.Event().wait()
    threading.Thread(target=wait, daemon=True).start()
    started.wait()

@early_init(needs=["files", "threads"], leaves={"environment": ["NEVER_SET"]}, after=["steps.py:quiet"], deadline="3s")
def leaky(sample: Path, label: str = ""):
    for number in range(3):
        start(f"leak[{number}]")
        start(f"pool-{number}")
    os.environ["LEAKED"] = label
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    kept.append(socket.socketpair())

@early_init(shared=True)
def quiet():
    os.environ["QUIET"] = "1"
    around_seal(quiesce=int, resume=int)

@early_init(needs=[], optional=True)
def unlucky():
    raise OSError("no such luck")

@early_init(needs=[], after=["seal", "steps.py:quite"])
def late(): ...

@early_init(after=["seal"])
def too_late(): ...

@early_init(needs=["single-threaded"], after=["steps.py:leaky"])
def loner(): ...
"""

CONFIG = """
[process.good]
plugin = "plain.py:Plain"
RUN_AS
preload = ["json"]
early_init = [
    { step = "steps.py:leaky", sample = "sample.txt", label = "say \\"no\\"" },
    "steps.py:quiet",
    "steps.py:unlucky",
    "steps.py:late",
]

[process.refused]
plugin = "plain.py:Plain"
early_init = ["steps.py:quiet", "steps.py:too_late"]

[process.circle]
plugin = "plain.py:Plain"
early_init = ["steps.py:quiet", { step = "steps.py:late", after = ["x"], name = "y" },
    { step = "steps.py:late", after = ["y"], name = "x" }]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration with a plan that holds, one that is refused, and one that has no order."""
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "sample.txt").write_text("data")
    (tmp_path / "plain.py").write_text((CHILDREN / "plain.py").read_text())
    run_as = "run_as = 'root'" if os.geteuid() == 0 else ""
    (tmp_path / "belljar.toml").write_text(CONFIG.replace("RUN_AS", run_as))
    return tmp_path


def plan(folder: Path, *words: str) -> tuple[int, str, str]:
    """Return the exit code, stdout and stderr of one ``belljar plan``."""
    command = [sys.executable, "-m", "belljar", "plan", "belljar.toml", *words]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def rows(folder: Path, process: str, *words: str) -> list[dict[str, Any]]:
    """Return the rows of the JSON of *process*."""
    _, out, _ = plan(folder, process, "--json", *words)
    [found] = json.loads(out)["processes"]
    listed: list[dict[str, Any]] = found["rows"]
    return listed


def test_the_table_has_each_stage_and_each_step_in_its_place(folder: Path) -> None:
    """All ten stages, and below them the steps: run, load, quiesce and resume, each where it is taken."""
    found = rows(folder, "good", "--backend", "namespaces")
    assert [row["stage"] for row in found if not row["step"]] == list(range(1, 11))
    assert [(row["stage"], row["phase"], row["step"]) for row in found if row["step"]] == [
        (6, "run", "preload json"),
        (6, "run", "steps.py:quiet"),
        (6, "run", "steps.py:leaky"),
        (6, "run", "steps.py:unlucky"),
        (6, "load", "steps.py:late"),
        (7, "quiesce", "steps.py:quiet"),
        (9, "resume", "steps.py:quiet"),
        (9, "run", "steps.py:late"),
    ]
    by_name = {row["step"]: row for row in found if row["phase"] == "run"}
    assert by_name["preload json"]["where"] == "zygote"
    assert by_name["steps.py:leaky"]["where"] == "child"
    assert by_name["steps.py:leaky"]["deadline"] == 3.0
    assert by_name["steps.py:leaky"]["why"] == [
        "before the seal, which takes away files",
        "steps.py:leaky declares after = ['steps.py:quiet']",
    ]
    assert "did you mean 'steps.py:quiet'?" in by_name["steps.py:late"]["why"][1]
    others = rows(folder, "good", "--backend", "none")
    assert {row["where"] for row in others if row["step"]} == {"child"}


def test_a_plan_that_holds_is_a_table(folder: Path) -> None:
    """What holds has exit code 0, and says what each step needs, leaves and waits for."""
    code, out, err = plan(folder, "good")
    assert (code, err) == (0, "")
    assert "good (namespaces)" in out
    for words in ("leaves variables NEVER_SET", "optional", "needs threads", "resume of steps.py:quiet"):
        assert words in out


def test_a_plan_that_is_refused_is_a_table_too(folder: Path) -> None:
    """The sentence stands at its step, and on stderr; the exit code is 2."""
    code, out, err = plan(folder, "refused")
    assert code == 2
    assert err.startswith("belljar: process refused: early_init: steps.py:too_late needs files, but stands after the")
    assert err.count("\n") == 1
    assert out.index("verify") < out.index("REFUSED")


def test_a_plan_without_an_order_is_shown_as_listed(folder: Path) -> None:
    """Who waits for whom is said, and the steps stand where they are listed."""
    code, out, err = plan(folder, "circle", "--json")
    assert code == 2
    assert "these steps wait for each other, so that none can be first (y before x: x declares after = ['y']" in err
    [found] = json.loads(out)["processes"]
    assert [edge["first"] for edge in found["circle"]] == ["y", "x"]
    assert {row["step"]: bool(row["refused"]) for row in found["rows"] if row["step"]} == {
        "steps.py:quiet": False,
        "y": True,
        "x": True,
    }
    assert plan(folder)[0] == 2  # all process types: the worst counts


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["goood"], "FOLDER/belljar.toml: no such process: 'goood'; did you mean 'good'?"),
        (["good", "--backend", "namespace"], "--backend: no such backend: 'namespace'; did you mean 'namespaces'?"),
        (["--picture", "x.svg"], "--picture: a picture shows one process type; name one of good, refused, circle"),
        (["good", "--picture", "nowhere/x.svg"], "nowhere/x.svg: No such file or directory"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(words: list[str], sentence: str, folder: Path) -> None:
    """Bad input is one line on stderr, and exit code 2."""
    code, out, err = plan(folder, *words)
    assert (code, out, err.replace(str(folder), "FOLDER")) == (2, "", f"belljar: {sentence}\n")


@pytest.mark.parametrize("process", ["good", "refused", "circle"])
def test_the_picture_is_svg_with_every_stage_and_step(process: str, folder: Path) -> None:
    """It is well-formed, nothing in it reaches out, and its texts are those of the rows."""
    plan(folder, process, "--picture", "plan.svg")
    root = ET.parse(folder / "plan.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not {element.tag.rpartition("}")[2] for element in root.iter()} & {"script", "image", "a", "foreignObject"}
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    for row in rows(folder, process):
        words = row["label"] if not row["step"] else row["step"]
        assert any(words in (text or "") for text in texts)


def test_the_picture_escapes_what_it_shows(folder: Path) -> None:
    """A step may be called anything printable."""
    text = (folder / "belljar.toml").read_text().replace('name = "y"', 'name = "<b>&\\"y"')
    (folder / "belljar.toml").write_text(text)
    report = plan_report(load_config(folder / "belljar.toml").process("circle"))
    drawn = picture("\x1b]0;<title>", report.rows, report.plan.edges)
    assert "<b>" not in drawn
    assert "\x1b" not in drawn
    ET.fromstring(drawn)


def test_each_need_has_a_colour_of_its_own() -> None:
    """Boxes are told apart by what they need."""
    assert set(COLOURS) == {*RIGHTS, SINGLE_THREADED, GRAPHICS_DRIVER}


def test_many_arrows_do_not_hide_the_steps(folder: Path) -> None:
    """Where there are more arrows than room, it says how many are not drawn."""
    steps = [f'{{ step = "steps.py:unlucky", name = "s{i}", before = ["t{i}"] }}' for i in range(12)]
    steps += [f'{{ step = "steps.py:unlucky", name = "t{i}" }}' for i in range(12)]
    (folder / "belljar.toml").write_text(
        f'[process.many]\nplugin = "plain.py:Plain"\nearly_init = [{", ".join(steps)}]\n'
    )
    report = plan_report(load_config(folder / "belljar.toml").process("many"))
    assert "4 more arrows are not drawn" in picture("many", report.rows, report.plan.edges)


def test_observe_offers_what_makes_the_next_run_clean(folder: Path) -> None:
    """The difference is shown with exit code 1; pasted, the TOML leaves none, and nothing else changes."""
    code, out, err = plan(folder, "good", "--observe")
    assert code == 1, err
    assert "NOT DECLARED: threads leak[0] (1)" in out
    assert "declared, and not seen this time: variables NEVER_SET" in out
    assert "failed, and is optional: OSError: no such luck" in out
    assert "steps.py:late" in out
    _, _, pasted = out.partition("# in [process.good], in place of these keys:\n")
    keys = tomllib.loads(pasted)
    assert keys["preload"] == ["json"]
    [leaky, quiet, unlucky, late] = keys["early_init"]
    assert (unlucky, late) == ("steps.py:unlucky", "steps.py:late")
    assert quiet == {"step": "steps.py:quiet", "leaves": {"environment": ["QUIET"]}}
    assert leaky["leaves"] == {
        "threads": ["leak[[]0]", "leak[[]1]", "leak[[]2]", "pool-*"],
        "fds": ["socket"],
        "environment": ["NEVER_SET", "LEAKED"],
        "signals": ["SIGUSR1"],
    }
    assert (leaky["step"], leaky["label"]) == ("steps.py:leaky", 'say "no"')

    text = (folder / "belljar.toml").read_text()
    head, _, rest = text.partition("preload")
    (folder / "belljar.toml").write_text(f"{head}{pasted}\n[process.refused]{rest.partition('[process.refused]')[2]}")
    code, out, err = plan(folder, "good", "--observe")
    assert (code, err) == (0, "belljar.host: good: the optional step steps.py:unlucky failed: OSError: no such luck\n")
    assert "in place of these keys" not in out
    assert "threads beside the first: " in out


def test_names_that_a_child_gives_stay_names(folder: Path) -> None:
    """A thread may be called like a line of a configuration: it begins no line, and what is pasted names it."""
    names = ['"]\n[process.a]', "b\u009b31m", "c\u00a0", "d\u202e", "e\u007f", "f\\u0041"]
    source = STEPS + f"\n@early_init()\ndef odd():\n    for name in {names!r}:\n        start(name)\n"
    (folder / "steps.py").write_text(source)
    config = folder / "belljar.toml"
    head = config.read_text().partition("preload")[0].replace("good", "odd")
    config.write_text(f"{head}early_init = ['steps.py:odd']\n")
    code, out, err = plan(folder, "odd", "--observe")
    assert code == 1, err
    assert not [line for line in out.splitlines() if line.startswith("[")]
    _, _, pasted = out.partition("# in [process.odd], in place of these keys:\n")
    config.write_text(head + pasted)
    assert plan(folder, "odd", "--observe")[::2] == (0, "")


def test_observe_of_a_plan_that_is_refused_launches_nothing(folder: Path) -> None:
    """What is refused is shown, and not run."""
    code, out, _ = plan(folder, "refused", "--observe", "--json")
    assert code == 2
    assert "observed" not in json.loads(out)["processes"][0]


@pytest.mark.anyio
@pytest.mark.parametrize("backend", names())
async def test_observe_works_on_every_backend(backend: str, folder: Path) -> None:
    """A step that a zygote would share is observed too, and the host sees from outside what the steps report."""
    require(backend)
    process = load_config(folder / "belljar.toml").process("good")
    found = await observe(msgspec.structs.replace(process, preload=("json", "ctypes"), backend=backend))
    assert found.differs
    assert {"preload json", "preload ctypes", "steps.py:quiet", "steps.py:leaky"} <= set(found.reports)
    assert found.at_seal is not None
    assert found.at_seal.left.threads == {**{f"leak[{i}]": 1 for i in range(3)}, **{f"pool-{i}": 1 for i in range(3)}}
    assert sorted(fd.kind for fd in found.at_seal.left.fds) == ["socket", "socket"]
    assert found.at_seal.undeclared is None  # the step has reported them
