"""Early init as the host sees it: sharing by a zygote, options, what was left, deadlines, lies."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest

from belljar.host.config.load import load_config
from belljar.host.config.process_type import Process, plan_of
from belljar.host.errors import ConfigError, LaunchError, PlanError
from belljar.host.plan.step import Step
from belljar.host.plan.watch import StepWatch
from belljar.host.process_host import ProcessHost
from belljar.ipc.errors import PeerProtocolError
from belljar.ipc.messages import Left, Option, StepBegan, StepEnded
from belljar.ipc.stage import Stage
from belljar.sandbox.danger import OPEN_DIRECTORIES
from belljar.sandbox.launch import client
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Policy
from belljar.sandbox.protection.operations import Operation, Verdict

from ..helpers import CHILDREN, launch, only_over_socket, process

pytestmark = [pytest.mark.anyio, only_over_socket]

EARLY = CHILDREN / "early.py"


def with_steps(*steps: str | Step, **fields: Any) -> ProcessHost:
    """Return a host of a child that takes *steps*; those without a file are of tests/children/early.py."""
    entries = tuple(f"{EARLY}:{step}" if isinstance(step, str) else step for step in steps)
    return launch("early_plugin.py:Plug", early_init=entries, **fields)


async def handed(host: ProcessHost, step: str) -> str:
    """Return the text that *step* handed on in the child of *host*."""
    text: str = await host.call("handed", f"early.py:{step}", returns=str)
    return text


async def test_a_shared_step_runs_once_for_many_children() -> None:
    """Two children have what one run of the step made, and neither took time for it."""
    async with with_steps("token") as one, with_steps("token") as two:
        assert await handed(one, "token") == await handed(two, "token")
        assert one.early_init == two.early_init == {}


async def test_a_shared_step_of_a_file_that_changed_runs_again(tmp_path: Path) -> None:
    """No child gets what an older text of a step made."""
    file = tmp_path / "early.py"
    answers: list[str] = []
    for answer in ("old", "newer"):
        file.write_text(f"from belljar import early_init\n@early_init(shared=True)\ndef token(): return '{answer}'\n")
        async with launch("early_plugin.py:Plug", early_init=(f"{file}:token",)) as host:
            answers.append(await handed(host, "token"))
    assert answers == ["old", "newer"]


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("token_with_an_fd", {}, "it leaves 1 fd(s) open"),
        ("token_with_memory", {}, "it leaves 1 mapping(s) that its children would share"),
        ("token", {"env": {"LANG": "C"}}, ""),
    ],
)
async def test_a_step_that_cannot_be_shared_runs_in_each_child(
    name: str, fields: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that leaves an fd or shared memory, or would not see its process type's variables, is the children's."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(client, "_left_to_children", set())
    client.stop()  # a zygote that was started without the step would be taken
    async with with_steps(name, **fields) as one, with_steps(name, **fields) as two:
        assert await handed(one, name) != await handed(two, name)
        assert set(one.early_init) == {f"early.py:{name}"}
    if why:
        assert f"early.py:{name} is left to early init in each child: {why}" in caplog.text


@pytest.mark.parametrize(("plugin", "phase"), [("Reports", "run"), ("Delays", "resume")])
@pytest.mark.parametrize("step", ["answer", "token"])
async def test_a_plugin_cannot_speak_for_early_init(plugin: str, phase: str, step: str) -> None:
    """What a step left was said before the seal, also by none at all if a zygote ran it; no deadline begins anew."""
    steps = (f"{EARLY}:{step}",)
    with pytest.raises(LaunchError, match=f"the child began the {phase} of early.py:{step}, for which") as caught:
        await launch(f"forger.py:{plugin}", early_init=steps, launch_timeout=5.0).__aenter__()
    assert caught.value.stage is Stage.READY


async def test_a_plugin_times_its_own_load_and_nothing_else() -> None:
    """What stands in the timeline of the stages before, and under which names, no plugin can change."""
    async with launch("forger.py:Hurries") as host:
        assert host.timeline["load"] == 5.0
        assert host.timeline["verify"] > 0
        assert all(name.isprintable() for name in host.timeline)


@pytest.mark.parametrize(
    ("plugin", "stage", "words"),
    [("Blames", Stage.READY, "says that stage 3 failed"), ("Decorates", Stage.LOAD, "red.nCRITICAL forged .*a.nb")],
)
async def test_a_plugin_fails_in_its_own_stage_and_on_one_line(plugin: str, stage: Stage, words: str) -> None:
    """It blames no stage before its own, and its words neither break the line nor reach a terminal."""
    with pytest.raises(LaunchError, match=words) as caught:
        await launch(f"forger.py:{plugin}").__aenter__()
    assert caught.value.stage is stage
    assert str(caught.value).isprintable()


async def test_options_come_as_the_types_that_the_step_declares(tmp_path: Path) -> None:
    """Strings, numbers, flags, lists and paths reach the step; paths are relative to the configuration's folder."""
    (tmp_path / "one.txt").write_text("content")
    given: dict[str, Option] = {
        "text": "t",
        "number": 2,
        "flag": True,
        "names": ("a", "b"),
        "file": "one.txt",
        "files": ("one.txt",),
    }
    step = Step(f"{EARLY}:options", "with options", given)
    resolved = process("early_plugin.py:Plug", early_init=(step,)).resolve(tmp_path)
    async with ProcessHost(resolved) as host:
        said = await host.call("handed", "with options", returns=str)
    assert said == repr(("t", 2.0, True, ("a", "b"), "one.txt", ["one.txt"], "content"))


async def test_an_option_of_the_wrong_type_is_an_error_of_its_step(tmp_path: Path) -> None:
    """The child says which option it is, and what was expected."""
    (tmp_path / "one.txt").write_text("")
    given: dict[str, Option] = {"text": "t", "number": "two", "flag": True, "names": (), "file": "one.txt", "files": ()}
    resolved = process(early_init=(Step(f"{EARLY}:options", "typed", given),)).resolve(tmp_path)
    with pytest.raises(LaunchError, match="typed: TypeError: option number: Expected `float`, got `str`"):
        await ProcessHost(resolved).__aenter__()


async def test_what_a_step_leaves_undeclared_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Threads, fds, variables and signals are found, named in the log, and found in order once they are declared."""
    async with with_steps("leaver", preload=("threading",)) as host:
        report = host.early_init["early.py:leaver"]
        assert report.undeclared is not None
        found = report.undeclared.leaves
        assert list(found) == ["threads", "fds", "environment", "signals"]
        assert (found["fds"], found["environment"], found["signals"]) == (["memfd"], ["UNDECLARED"], ["SIGUSR1"])
        assert sum(report.left.threads.values()) == 1
    assert "the step early.py:leaver left what it does not declare: threads" in caplog.text
    remedy = r"declare it: leaves = \{ threads = \[.* in its entry of early_init; in Python, Step\(\.\.\., declared="
    assert re.search(remedy, caplog.text)
    async with with_steps("honest_leaver", preload=("threading",)) as host:
        assert host.early_init["early.py:honest_leaver"].undeclared is None


async def test_a_step_is_held_to_its_own_deadline() -> None:
    """A deadline of the configuration counts before that of the process type."""
    step = Step(f"{CHILDREN / 'early_hangs.py'}:hangs", declared={"deadline": "150ms"})
    with pytest.raises(LaunchError, match=r"early_hangs\.py:hangs did not finish within 0\.15 s") as caught:
        await with_steps(step, step_timeout=30.0, launch_timeout=30.0).__aenter__()
    assert caught.value.stage is Stage.EARLY_INIT


async def test_a_directory_may_stay_open_only_with_its_token() -> None:
    """With the token the child keeps it, the report says what that costs, and the filter opens nothing in it."""
    with pytest.raises(LaunchError, match="left the directory /etc open"):
        await with_steps("keeps_directory").__aenter__()
    declared = Step(f"{EARLY}:keeps_directory", declared={"leaves": {"fds": ["directory"]}})
    with pytest.raises(PlanError, match=r"leaves a directory open.*open_directories"):
        await with_steps(declared).__aenter__()
    policy = Policy.compute().allow_open_directories(OPEN_DIRECTORIES)
    async with with_steps("keeps_directory", policy=policy) as host:
        step = "early.py:keeps_directory"
        assert await host.call("through_directory", step, "hostname", returns=str) == "PermissionError"
        assert host.protection is not None
        limits = {status.layer: status.limit for status in host.protection.layers}
        assert "lead around it" in limits[Layer.EMPTY_ROOT]
        verdicts = {status.operation: status for status in host.protection.operations}
        assert verdicts[Operation.READ_FILE].layers == (Layer.SECCOMP,)
        assert verdicts[Operation.STAT].verdict is not Verdict.ENFORCED
    async with with_steps("keeps_directory", backend="none", policy=policy) as host:
        assert await host.call("through_directory", step, "hostname", returns=str) == "opened"


def test_a_module_that_starts_a_thread_is_told_to_declare_it(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """The warning has the entry to write in the place of ``preload``, in TOML and in Python, which ends it."""

    def launch_seen(resolved: Process) -> None:
        watch = StepWatch(resolved, plan_of(resolved), {})
        watch.take(StepBegan(0))
        watch.take(StepEnded(0, 1.0, Left({"python": 1})))

    named = process(preload=("threading",)).resolve()
    launch_seen(named)
    said = r".*; declare it: (.*) in early_init, in the place of preload; in Python, (.*)"
    found = re.fullmatch(said, caplog.messages.pop())
    assert found is not None
    (tmp_path / "belljar.toml").write_text(f'[process.a]\nplugin = "{named.plugin}"\nearly_init = [{found[1]}]\n')
    in_toml = load_config(tmp_path / "belljar.toml").process("a").early_init
    assert in_toml == process(early_init=(eval(found[2], {"Step": Step}),)).resolve().early_init
    caplog.clear()
    launch_seen(process(early_init=in_toml).resolve())
    assert not caplog.messages


def watch_of(*steps: str) -> StepWatch:
    """Return the watch of a launch with *steps*."""
    resolved = process(early_init=tuple(f"{EARLY}:{step}" for step in steps)).resolve()
    return StepWatch(resolved, plan_of(resolved), {})


@pytest.mark.parametrize(
    "messages",
    [
        [StepBegan(2)],
        [StepEnded(0, 1.0)],
        [StepBegan(0), StepEnded(1, 1.0)],
        [StepBegan(0), StepEnded(0, 1.0), StepEnded(0, 1.0)],
        [StepBegan(0, "quiesce"), StepEnded(0, 1.0)],
        [StepBegan(0), StepEnded(0, 1.0), StepBegan(0)],
        [StepBegan(0, "load"), StepBegan(0, "load")],
        [StepBegan(0, "resume")],
    ],
    ids=repr,
)
def test_a_child_that_speaks_of_steps_that_do_not_run_breaks_the_protocol(
    messages: list[StepBegan | StepEnded],
) -> None:
    """A number beyond the plan, an end without a beginning, another step's end: each is a PeerProtocolError."""
    watch = watch_of("answer", "question")
    for message in messages[:-1]:
        watch.take(message)
    with pytest.raises(PeerProtocolError):
        watch.take(messages[-1])


def test_what_a_child_says_of_its_steps_is_shown_escaped(caplog: pytest.LogCaptureFixture) -> None:
    """A terminal's control characters in names and failures do not reach the log."""
    watch = watch_of("unlucky")
    watch.take(StepBegan(0))
    watch.take(StepEnded(0, 1.0, Left(threads={"\x1b[31mred": 1}), "\x1b]0;title"))
    assert "\x1b" not in caplog.text
    assert "red" in caplog.text


def test_a_file_of_a_step_is_read_and_not_run(tmp_path: Path) -> None:
    """The host resolves a plan without running anything of the steps' files."""
    file = tmp_path / "warm.py"
    file.write_text("import os\nos.environ['RAN'] = '1'\ndef go(): ...\n")
    process(early_init=(f"{file}:go",)).resolve()
    assert "RAN" not in os.environ
    with pytest.raises(ConfigError, match="defines no function 'gone'; did you mean 'go'"):
        process(early_init=(f"{file}:gone",)).resolve()
