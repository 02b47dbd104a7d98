"""The command line, run as people run it: a process of its own, and children that really start."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import prctl
import pytest

CONFIG = """
[process.sealed]
plugin = "plugin.py:Plugin"
policy = "media"

[process.open]
plugin = "plugin.py:Plugin"
backend = "none"

[process.classless]
plugin = "plugin.py:Plugni"
backend = "none"

[process.broken]
plugin = "broken.py:Broken"
backend = "none"

[process.leaves]
plugin = "leaves.py:Leaves"
backend = "none"

[process.stuck]
plugin = "stuck.py:Stuck"
backend = "none"
launch_timeout = "1s"
"""

PLUGIN = """
import os
import sys


class Plugin:
    def greet(self, name: str) -> str:
        return f"hello {name}"

    def echo(self, value):
        return value

    def size(self, data: bytes) -> int:
        return len(data)

    def make(self, size: int) -> bytes:
        return bytes(size)

    def fail(self) -> None:
        raise ValueError("first line\\nsecond\\x1b[31m")

    def babble(self) -> None:
        print("garbage \\x1b[2J", flush=True)
        os.write(2, b"\\xff\\x9b garbage\\n")

    def hang(self) -> None:
        print("hanging", flush=True)
        while True:
            pass

    def read_passwd(self) -> str:
        with open("/etc/passwd") as file:
            return file.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration with plugins that work, and with each kind that does not."""
    (tmp_path / "belljar.toml").write_text(CONFIG)
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "broken.py").write_text("class Broken:\n    def (\n")
    (tmp_path / "leaves.py").write_text("import os\nos._exit(3)\n")
    (tmp_path / "stuck.py").write_text("while True: pass\n")
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a test does, each process that the command line started is gone soon after it.

    This process adopts orphans meanwhile (PR_SET_CHILD_SUBREAPER), so that none of them can hide below pid 1.
    """
    was_subreaper = prctl.get_child_subreaper()
    prctl.set_child_subreaper(True)
    before = children()
    yield
    left = [outer_pid for outer_pid in children() - before if not ends_soon(outer_pid)]
    prctl.set_child_subreaper(was_subreaper)
    assert left == []


def children() -> set[int]:
    return {
        int(outer_pid) for path in Path("/proc/self/task").glob("*/children") for outer_pid in path.read_text().split()
    }


def ends_soon(outer_pid: int) -> bool:
    """Wait a second for an orphan to end, reap it, and return whether it did."""
    pidfd = os.pidfd_open(outer_pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended = bool(poll.poll(1000))
    finally:
        os.close(pidfd)
    if ended:
        os.waitpid(outer_pid, 0)
    return ended


def start(folder: Path, *words: str | Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own that takes Ctrl-C, as a shell does.

    A shell that runs tests in the background ignores SIGINT in them, and what is ignored stays so over an exec.
    """
    return subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "belljar", *map(str, words)],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )


def belljar(folder: Path, *words: str | Path, **environment: str) -> tuple[int, str, str]:
    """Return the exit code, stdout and stderr of one command."""
    with start(folder, *words, **environment) as process:
        out, err = process.communicate(timeout=60)
    assert b"Traceback" not in err
    return process.returncode, out.decode(), err.decode()


def result(folder: Path, *words: str | Path) -> str:
    code, out, err = belljar(folder, *words)
    assert code == 0, err
    return out.removesuffix("\n")


def sentence(folder: Path, *words: str | Path, **environment: str) -> str:
    """Return the one line with which a command fails, without its ``belljar:``."""
    code, out, err = belljar(folder, *words, **environment)
    assert code == 2
    assert out == ""
    # Lines of the log begin with a logger's name, such as belljar.sandbox.
    (line,) = [line for line in err.splitlines() if not line.startswith("belljar.")]
    assert err.replace("\n", "").isprintable()
    assert line.startswith("belljar: ")
    return line.removeprefix("belljar: ")


def test_help_and_version_need_no_machine(folder: Path) -> None:
    """Help and version are answered without a configuration."""
    assert "inspect" in result(folder, "--help")
    assert "METHOD" in result(folder, "run", "--help")
    assert result(folder, "--version").startswith("belljar ")


def test_wrong_usage_is_exit_code_2(folder: Path) -> None:
    """A missing argument or an unknown command is a usage error."""
    assert belljar(folder, "run")[0] == 2
    assert belljar(folder, "rnu")[0] == 2
    assert belljar(folder, "run", "belljar.toml", "open", "greet", "--tiemout", "3")[0] == 2


def test_run_prints_the_result(folder: Path) -> None:
    """A word that is no JSON is text; a text is printed as it is."""
    assert result(folder, "run", "belljar.toml", "sealed", "greet", "world") == "hello world"
    assert result(folder, "run", "belljar.toml", "open", "greet", "world") == "hello world"


@pytest.mark.parametrize("value", ["3", "-2.5", "null", '{"a": [true, "b"]}', '"3"', "[]"])
def test_run_takes_and_gives_json(folder: Path, value: str) -> None:
    """A word that is JSON is its value, and ``--json`` prints the value again."""
    out = result(folder, "run", "--json", "belljar.toml", "open", "echo", "--", value)
    assert json.loads(out) == json.loads(value)


def test_run_sends_files(folder: Path) -> None:
    """``@FILE`` sends the bytes of a file, also those that do not fit a message."""
    (folder / "large.bin").write_bytes(os.urandom(1 << 20))
    assert result(folder, "run", "belljar.toml", "sealed", "size", "@large.bin") == str(1 << 20)
    assert "could not read 'none.bin': No such file" in sentence(
        folder, "run", "belljar.toml", "open", "size", "@none.bin"
    )


def test_run_saves_bytes(folder: Path) -> None:
    """Bytes are counted on the terminal and saved with ``--out``, which replaces what was there."""
    assert result(folder, "run", "belljar.toml", "open", "make", "70000") == "70,000 bytes (--out FILE saves them)"
    (folder / "out.bin").write_bytes(b"x" * 100_000)
    out = result(folder, "run", "belljar.toml", "open", "make", "70000", "--out", "out.bin")
    assert out == "70,000 bytes saved in out.bin"
    assert (folder / "out.bin").read_bytes() == bytes(70_000)
    as_json = result(folder, "run", "belljar.toml", "open", "make", "3", "--json")
    assert base64.b64decode(json.loads(as_json)) == bytes(3)


def test_a_call_that_fails_costs_no_file(folder: Path) -> None:
    """The file of ``--out`` keeps its old content, or is not made, if there is no result."""
    (folder / "old").write_text("old")
    for name in ("old", "new"):
        sentence(folder, "run", "belljar.toml", "open", "fail", "--out", name)
    assert (folder / "old").read_text() == "old"
    assert not (folder / "new").exists()


def test_an_unwritable_file_is_refused_before_the_launch(folder: Path) -> None:
    """A folder that is not there is found before a child works in vain."""
    line = sentence(folder, "run", "belljar.toml", "stuck", "x", "--out", "none/out.bin")
    assert line == "could not write 'none/out.bin': No such file or directory"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["none.toml", "open", "greet"], ["none.toml: could not read the configuration: No such file"]),
        (["belljar.toml", "opne", "greet"], ["belljar.toml: no such process: 'opne'; did you mean 'open'?"]),
        (["belljar.toml", "open", "gret", "x"], ["no method 'gret'", "greet"]),
        (["belljar.toml", "open", "greet"], ["'greet'", "0 arguments"]),
        (["belljar.toml", "open", "greet", "3"], ["'greet'", "str"]),
        (["belljar.toml", "open", "fail"], ["'fail' raised ValueError: first line\\nsecond\\x1b[31m"]),
        (["belljar.toml", "open", "hang", "--timeout", "200ms"], ["'hang' did not answer within 0.2 s"]),
        (["belljar.toml", "open", "hang", "--timeout", "soon"], ["--timeout: expected a duration such as 10s"]),
        (["belljar.toml", "classless", "greet"], ["classless: stage 9 (load)", "no class 'Plugni'", "Plugin"]),
        (["belljar.toml", "broken", "greet"], ["broken: stage 9 (load)", "broken.py", "2"]),
        (["belljar.toml", "leaves", "greet"], ["leaves: stage", "exited with code 3"]),
        (["belljar.toml", "stuck", "greet"], ["stuck: stage", "within 1 s"]),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence(folder: Path, words: list[str], parts: list[str]) -> None:
    """Bad input gives one line with place and cause, exit code 2, and no process."""
    line = sentence(folder, "run", *words)
    for part in parts:
        assert part in line


def test_a_sealed_plugin_cannot_read_files(folder: Path) -> None:
    """What the seal refuses is an error of the call, and the command line says it in one line."""
    assert "'read_passwd' raised" in sentence(folder, "run", "belljar.toml", "sealed", "read_passwd")


def test_a_machine_without_user_namespaces_is_one_sentence(folder: Path) -> None:
    """A backend that does not work here is refused with its cause, never silently replaced."""
    line = sentence(folder, "run", "belljar.toml", "sealed", "greet", "x", BELLJAR_FAKE_MISSING="userns")
    assert "sealed: " in line
    assert "namespaces" in line


def test_what_a_child_prints_cannot_steer_the_terminal(folder: Path) -> None:
    """Output of a child reaches stderr escaped, and does not disturb the result."""
    code, out, err = belljar(folder, "-v", "run", "belljar.toml", "open", "babble")
    assert (code, out) == (0, "null\n")
    assert "garbage \\x1b[2J" in err
    assert all(line.isprintable() for line in err.splitlines())
    text = result(folder, "run", "belljar.toml", "open", "echo", '"a\\u001b[1m\\u009b\\n\\u202eb"')
    assert text == "a\\x1b[1m\\x9b\n\\u202eb"


def test_inspect_shows_what_the_kernel_shows(folder: Path) -> None:
    """The pids differ where a pid namespace is between, and each promised layer is engaged."""
    report = json.loads(result(folder, "inspect", "belljar.toml", "sealed", "--json"))
    (process,) = report["processes"]
    assert process["process"] == "sealed"
    assert process["child_pid"] != process["claimed_pid"]
    assert all(layer["engaged"] for layer in process["protection"]["layers"] if layer["promised"])
    assert {"seccomp", "pid-namespace"} <= {
        layer["layer"] for layer in process["protection"]["layers"] if layer["engaged"]
    }
    assert sum(process["protection"]["thread_names"].values()) == process["protection"]["threads"] == 1
    assert {"prepare", "launch", "hello", "seal", "verify", "load", "ready"} <= set(process["timeline"])


def test_inspect_draws_tables(folder: Path) -> None:
    """For people there are four tables: pids, timeline, and the protection by layers and by operations."""
    out = result(folder, "inspect", "belljar.toml", "open")
    for word in ("launched", "claimed", "timeline", "early init", "layer by layer", "no-new-privs", "1 thread: "):
        assert word in out
    assert re.search(r"read a file +│ open", out)


@pytest.mark.parametrize("backend", ["landlock", "seccomp", "auto"])
def test_another_backend_is_tried_without_editing(folder: Path, backend: str) -> None:
    """``--backend`` takes the place of the file's, for ``run`` and ``inspect``; the report says which it became."""
    assert result(folder, "run", "belljar.toml", "open", "greet", "x", "--backend", backend) == "hello x"
    (process,) = json.loads(result(folder, "inspect", "belljar.toml", "open", "--backend", backend, "--json"))[
        "processes"
    ]
    assert process["asked_backend"] == backend
    assert process["backend"] == process["protection"]["backend"] == ("namespaces" if backend == "auto" else backend)
    verdicts = {row["operation"]: row["verdict"] for row in process["protection"]["operations"]}
    assert verdicts["read a file"] == "enforced"


@pytest.mark.parametrize("command", [["run", "belljar.toml", "open", "greet", "x"], ["inspect", "belljar.toml"]])
def test_unknown_backend_is_one_sentence(folder: Path, command: list[str]) -> None:
    """A backend that does not exist is refused with the nearest that does."""
    line = sentence(folder, *command, "--backend", "bublewrap")
    assert line == "--backend: no such backend: 'bublewrap'; did you mean 'bubblewrap'?"


def test_floor_holds_for_another_backend(folder: Path) -> None:
    """What the file requires is required of the backend of the option too."""
    floor = '\nrequire = ["empty-root"]\nprefer = ["namespaces"]\nbackend = "auto"\n'
    (folder / "belljar.toml").write_text(f'[process.sealed]\nplugin = "plugin.py:Plugin"{floor}')
    line = sentence(folder, "run", "belljar.toml", "sealed", "greet", "x", "--backend", "seccomp")
    assert "it has no empty-root" in line


def test_inspect_shows_the_others_when_one_fails(folder: Path) -> None:
    """A process type that cannot be launched does not hide the rest; the exit code is 2."""
    (folder / "belljar.toml").write_text(CONFIG.partition("[process.broken]")[0])
    code, out, err = belljar(folder, "inspect", "belljar.toml", "--json")
    assert code == 2
    assert [process["process"] for process in json.loads(out)["processes"]] == ["sealed", "open"]
    assert "belljar: classless: stage 9 (load)" in err


def test_doctor_answers_people_and_machines(folder: Path) -> None:
    """The report is a table for people and JSON for machines; the exit code says whether any backend confines."""
    code, out, _ = belljar(folder, "doctor", "--json")
    works = any(backend["works"] and backend["confines"] for backend in json.loads(out)["backends"])
    assert code == (0 if works else 1)
    assert "userns" in belljar(folder, "doctor")[1]


def test_doctor_names_what_is_missing(folder: Path) -> None:
    """Without user namespaces some backends are out, and the report says which feature that one misses."""
    code, out, _ = belljar(folder, "doctor", "--json", BELLJAR_FAKE_MISSING="userns,seccomp")
    assert code == 1
    (backend,) = [backend for backend in json.loads(out)["backends"] if backend["name"] == "namespaces"]
    assert "userns" in backend["missing"]


def test_a_faked_name_that_is_unknown_is_one_sentence(folder: Path) -> None:
    """A misspelt ``BELLJAR_FAKE_MISSING`` is refused, not ignored."""
    assert "usrens" in sentence(folder, "doctor", BELLJAR_FAKE_MISSING="usrens")


@pytest.mark.parametrize("process", ["sealed", "open"])
def test_ctrl_c_ends_everything(folder: Path, process: str) -> None:
    """SIGINT during a call is exit code 130 without a traceback, and leaves no process."""
    with start(folder, "-v", "run", "belljar.toml", process, "hang") as command:
        assert command.stderr is not None
        assert any(b"hanging" in line for line in command.stderr)
        os.killpg(command.pid, signal.SIGINT)
        err = command.stderr.read()
        assert command.wait(10) == 130
    assert b"Traceback" not in err


def test_a_reader_that_leaves_is_no_error(folder: Path) -> None:
    """With stdout closed by its reader the command ends without a traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, "-m", "belljar", "inspect", "belljar.toml", "open", "--json"]
    done = subprocess.run(argv, cwd=folder, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert b"Traceback" not in done.stderr
