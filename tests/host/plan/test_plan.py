"""Entries become steps: their options, what they replace of a declaration, their names and files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from belljar.host.config.place import Place
from belljar.host.errors import ConfigError
from belljar.host.plan.find import MAX_NAME, MAX_OPTION, find_steps
from belljar.host.plan.plan import Plan, make_plan
from belljar.host.plan.step import Step
from belljar.ipc.messages import MAX_STEPS, RunStep
from belljar.sandbox.policy import Policy

from ...helpers import launch

SOURCE = """
from pathlib import Path
from belljar import early_init

@early_init(needs=["files"], leaves={"threads": ["x"]}, deadline="3s", shared=True)
def go(sample: Path, others: tuple[Path, ...] = (), level: int = 3): ...

def plain(): ...

def labelled(label: str): ...

@early_init(shared=True)
def shared(): ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file with steps, and a sample."""
    (tmp_path / "steps.py").write_text(SOURCE)
    (tmp_path / "sample.png").write_bytes(b"data")
    return tmp_path


def plan(folder: Path, *entries: str | Step, preload: tuple[str, ...] = (), **more: Any) -> Plan:
    return make_plan(preload, entries, folder, Place("here"), **more)


def table(**keys: Any) -> Step:
    """Return the entry that TOML would make of *keys*."""
    return Step.from_table(keys)


def test_an_entry_is_made_absolute(folder: Path) -> None:
    """Paths of the step and of its options start at the folder of the configuration, and are among its files."""
    entry = table(step="steps.py:go", sample="./sample.png", others=["steps.py"], level=4, optional=True)
    [step] = plan(folder, entry).steps
    file, sample = f"{folder}/steps.py", f"{folder}/sample.png"
    assert step.entry.options == {"sample": sample, "others": (file,), "level": 4}
    assert step.files == (file, sample, file)
    assert plan(folder, entry).files == (file, sample)
    assert step.name == "steps.py:go"
    found = step.to_run()
    assert found == RunStep(
        "steps.py:go", f"{file}:go", tuple(step.entry.options.items()), optional=True, version=found.version
    )
    assert find_steps((), [step.entry], Path("/"), Place("here")) == find_steps((), [entry], folder, Place("here"))


def test_an_entry_replaces_parts_of_a_declaration(folder: Path) -> None:
    """A key of the declaration replaces that key whole; what is not named stays."""
    [step] = plan(folder, table(step="steps.py:go", sample="sample.png", leaves={"fds": ["file"]}, deadline=9)).steps
    assert (step.declaration.leaves.threads, step.declaration.leaves.fds) == ((), ("file",))
    assert (step.declaration.deadline, step.declaration.shared, step.declaration.needs) == (9.0, True, ("files",))


def test_a_version_tells_whether_a_file_changed(folder: Path) -> None:
    """The step's own file and those among its options count, so that no zygote is taken that ran an older one."""
    entry = table(step="steps.py:go", sample="sample.png")
    seen = {plan(folder, entry).steps[0].version}
    for name in ("steps.py", "sample.png"):
        os.utime(folder / name, ns=(1, 1))
        seen.add(plan(folder, entry).steps[0].version)
    assert len(seen) == 3
    assert plan(folder, entry).steps[0].version in seen
    assert all(0 < len(version) < 64 for version in seen)


def test_preload_is_a_step_for_each_module(folder: Path) -> None:
    """The modules of ``preload`` come first, by name, and may be shared even where the process type sets variables."""
    found = plan(folder, "steps.py:shared", preload=("json", "ssl"), env=True).steps
    assert [step.name for step in found] == ["preload json", "preload ssl", "steps.py:shared"]
    assert [step.shared for step in found] == [True, True, False]
    assert found[1].to_run().options == (("modules", ("ssl",)),)
    assert [step.shared for step in plan(folder, "steps.py:plain", "steps.py:shared").steps] == [True, False]


def test_a_shared_step_that_waits_for_a_child_is_the_child_s(folder: Path) -> None:
    """A zygote does not run what comes after a step that it may not run."""
    after = table(step="steps.py:shared", after=["steps.py:plain"])
    found = plan(folder, after, "steps.py:plain").steps
    assert [(step.name, step.shared) for step in found] == [("steps.py:plain", False), ("steps.py:shared", False)]


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (["steps.py:go"], "early_init[0]: the step 'steps.py:go' needs the option 'sample'"),
        (
            [table(step="steps.py:go", smaple="x")],
            "early_init[0].smaple: the step 'steps.py:go' has no such option; did you mean 'sample'?",
        ),
        (
            [table(step="steps.py:plain", need=["files"])],
            "early_init[0].need: the step 'steps.py:plain' has no such option; did you mean 'needs'?",
        ),
        (
            [table(step="steps.py:go", sample="smaple.png")],
            "early_init[0].sample: no such file or folder: 'FOLDER/smaple.png'; did you mean 'sample.png'?",
        ),
        ([table(step="steps.py:go", sample="")], "early_init[0].sample: expected a path, got ''"),
        (
            [table(step="steps.py:go", sample="sample.png", others=[1])],
            "early_init[0].others: expected a list of strings",
        ),
        (
            [table(step="steps.py:go", sample="sample.png", level={"a": 1})],
            "early_init[0].level: expected a string, a number, true, false, or a list of strings",
        ),
        (
            ["steps.py:plain", table(step="steps.py:plain", needs=["flies"])],
            "early_init[1]: there is no word of needs 'flies'; did you mean 'files'?",
        ),
        (["steps.py:plain", "steps.py:plain"], "early_init: two steps are called 'steps.py:plain'; give one of them"),
        ([Step("steps.py:plain", "seal")], "early_init[0].name: expected a name of 1 to 100 printable characters"),
        ([Step("steps.py:plain", "\x1b[2J")], "early_init[0].name: expected a name of 1 to 100 printable characters"),
        ([Step("steps.py:plain", "x" * (MAX_NAME + 1))], "early_init[0].name: expected a name of 1 to 100"),
        (
            [table(step="steps.py:labelled", label="x" * (MAX_OPTION + 1))],
            f"early_init[0].label: expected at most {MAX_OPTION} characters, got {MAX_OPTION + 1}",
        ),
        (
            [Step("steps.py:labelled", f"s{index}", {"label": "x" * 4000}) for index in range(10)],
            "early_init: names and options of all steps take 4",
        ),
        (
            [Step("steps.py:plain", f"s{index}") for index in range(MAX_STEPS + 1)],
            f"early_init: expected at most {MAX_STEPS} steps with preload, got {MAX_STEPS + 1}",
        ),
    ],
)
def test_an_entry_that_does_not_fit_is_one_sentence(entries: list[str | Step], sentence: str, folder: Path) -> None:
    """The entry by its number, the key, and what there is instead."""
    with pytest.raises(ConfigError) as caught:
        plan(folder, *entries)
    text = str(caught.value).replace(str(folder), "FOLDER")
    assert text.startswith(f"here: {sentence}")
    assert "\n" not in text


@pytest.mark.anyio
async def test_the_longest_plan_reaches_the_child(folder: Path) -> None:
    """What is not refused fits into the message, whatever filter is beside it."""
    steps = tuple(Step(f"{folder}/steps.py:labelled", f"s{index}", {"label": "x" * 4000}) for index in range(5))
    async with launch(channel="socket", early_init=steps, policy=Policy(read_only=(str(folder),))) as host:
        assert len(host.early_init) == 5
