"""``belljar policy``: what a policy means, as TOML, calls, a filter and a difference, and what could enforce it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from belljar.host.config.load import load_policy
from belljar.host.errors import ConfigError
from belljar.sandbox.could_enforce import could_enforce
from belljar.sandbox.danger import DEVICES
from belljar.sandbox.errors import PolicyError
from belljar.sandbox.policy import Limits, Policy
from belljar.sandbox.probe import probe

CONFIG = """
[policy.fast]
base = "media"
local_channels = true

[process.one]
plugin = "plugin.py:Plugin"
policy = "fast"
limits = { cpu = 5 }

[process.two]
plugin = "plugin.py:Plugin"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration of two process types, one of a single one, and policies in TOML, good and bad."""
    (tmp_path / "belljar.toml").write_text(CONFIG)
    (tmp_path / "single.toml").write_text(CONFIG.partition("[process.two]")[0])
    (tmp_path / "plugin.py").write_text("class Plugin: pass\n")
    (tmp_path / "mine.toml").write_text(Policy.media().allow_files("/srv/fonts").with_limits(cpu=1).to_toml())
    (tmp_path / "bad.toml").write_text("threads = 3\n")
    (tmp_path / "undangerous.toml").write_text("executable_memory = true\n")
    return tmp_path


def policy(folder: Path, *words: str, **environment: str) -> tuple[int, str, str]:
    """Return the exit code, stdout and stderr of one ``belljar policy``."""
    command = [sys.executable, "-m", "belljar", "policy", *words]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def shown(folder: Path, *words: str) -> str:
    code, out, err = policy(folder, *words)
    assert (code, err) == (0, "")
    return out


def as_json(folder: Path, *words: str) -> Any:
    return json.loads(shown(folder, *words, "--json"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("media", Policy.media()),
        ("compute", Policy.compute()),
        ("empty", Policy()),
        ("default", Policy()),
        ("mine.toml", Policy.media().allow_files("/srv/fonts").with_limits(cpu=1)),
        ("single.toml", Policy.media().allow_local_channels().with_limits(cpu=5)),
        ("belljar.toml:one", Policy.media().allow_local_channels().with_limits(cpu=5)),
        ("belljar.toml:two", Policy.compute()),
        ("belljar.toml:fast", Policy.media().allow_local_channels()),
    ],
)
def test_show_prints_a_policy_that_can_be_read_back(folder: Path, source: str, expected: Policy) -> None:
    """A preset, a policy file and a policy of a configuration are printed as TOML, with a line in words above."""
    out = shown(folder, "show", source)
    assert Policy.from_toml(out) == expected
    assert out.startswith(f"# {expected}\n")


def test_show_takes_the_policy_of_a_process_or_a_table(folder: Path) -> None:
    """Of a configuration, ``--process`` and ``--policy`` choose; JSON has the rights, the hash and the words."""
    found = as_json(folder, "show", "belljar.toml", "--process", "one")
    assert found["policy"]["limits"]["cpu"] == 5
    assert found["hash"] == load_policy(str(folder / "belljar.toml"), process="one").hash()
    assert as_json(folder, "show", "belljar.toml", "--policy", "fast")["policy"]["limits"]["cpu"] is None


def test_show_syscalls_lists_each_call_with_its_answer(folder: Path) -> None:
    """Every call stands under what a program wants with it, with its condition in words."""
    out = shown(folder, "show", "media", "--syscalls")
    assert "use memory\n  allowed: brk" in out
    assert "  mmap: allowed if prot has no PROT_EXEC; else EACCES\n" in out
    assert "  EACCES, and the host is told: open openat openat2\n" in out
    found = {call["call"]: call for call in as_json(folder, "show", "media", "--syscalls")["syscalls"]}
    assert found["ptrace"]["answer"] == "EPERM"
    assert found["clone3"] == {
        "intention": "do what hides from filters",
        "call": "clone3",
        "answer": "ENOSYS",
        "depends": False,
    }
    own = shown(folder, "show", "media", "--syscalls", "--own-pid-only")
    assert "  kill: allowed if pid is one of 0 own pid; else EPERM\n" in own


def test_show_bpf_lists_the_filter(folder: Path) -> None:
    """The filter is listed an instruction a line, and counted."""
    out = shown(folder, "show", "media", "--bpf").splitlines()
    assert out[0] == "   0  ld arch"
    assert out[-1] == f"{len(out) - 1} instructions"
    found = as_json(folder, "show", "media", "--bpf")
    assert (found["instructions"], found["listing"]) == (len(out) - 1, out[:-1])


def test_show_diff_names_rights_and_calls(folder: Path) -> None:
    """What is more and what is less has a sign; calls that change alike stand together."""
    out = shown(folder, "show", "mine.toml", "--diff", "media")
    assert "from media to mine.toml\n" in out
    assert "  + read_only: /srv/fonts\n" in out
    assert "  - limits.cpu: none -> 1\n" in out
    assert "was EACCES, and the host is told\n  now allowed if flags has no" in out
    assert "  + limits.memory: 1GiB -> none\n" in shown(folder, "show", "empty", "--diff", "media")
    assert "  - threads: yes -> no\n" in shown(folder, "show", "empty", "--diff", "media")
    assert shown(folder, "show", "media", "--diff", "media") == "media and media allow the same\n"
    found = as_json(folder, "show", "compute", "--diff", "belljar.toml:fast")
    assert found["rights"]["limits.open_files"] == [256, None]
    assert found["syscalls"] == {}


def test_check_says_what_could_enforce_a_policy(folder: Path) -> None:
    """Each backend is named with yes or with the reason; the exit code is 1 if none could."""
    code, out, _ = policy(folder, "check", "media", "--json", BELLJAR_FAKE_MISSING="userns")
    verdicts = {verdict["backend"]: verdict for verdict in json.loads(out)["backends"]}
    assert not verdicts["namespaces"]["works"]
    assert "userns" in verdicts["namespaces"]["why"]
    assert verdicts["none"] == {
        "backend": "none",
        "works": False,
        "why": "it confines nothing: for debugging and tests",
    }
    assert code == (0 if any(verdict["works"] for verdict in verdicts.values()) else 1)
    assert "namespaces" in policy(folder, "check", "mine.toml")[1]


def test_could_enforce_refuses_a_contradiction() -> None:
    """A policy that contradicts itself could be enforced by nobody."""
    with pytest.raises(PolicyError, match="needs the danger token"):
        could_enforce(Policy(devices=("/dev/null",)))
    assert could_enforce(Policy().allow_devices("/dev/null", DEVICES))


WRONG = [
    (["show", "medai"], "no such preset or file: 'medai'; did you mean 'media'?"),
    (["show", "none.toml"], "none.toml: could not read the configuration: No such file or directory"),
    (["show", "bad.toml"], "bad.toml: policy.threads: expected `bool`, got `int`"),
    (["check", "undangerous.toml"], 'needs the danger token "executable-memory"'),
    (["show", "belljar.toml"], "belljar.toml: which policy of it? There are fast, one, two"),
    (["show", "belljar.toml", "--process", "oen"], "belljar.toml: no such process: 'oen'; did you mean 'one'?"),
    (["show", "belljar.toml", "--policy", "fats"], "belljar.toml: no such policy: 'fats'; did you mean 'fast'?"),
    (["show", "belljar.toml:twoo"], "belljar.toml: no such process or policy: 'twoo'; did you mean 'two'?"),
    (["show", "mine.toml", "--process", "one"], "mine.toml: this is one policy, in which there is no other to choose"),
    (["show", "media", "--policy", "fast"], "media: this is a preset, in which there is no process and no policy"),
    (["show", "media", "--bpf", "--syscalls"], "choose one of --syscalls, --bpf and --diff"),
    (["show", "media", "--diff", "meida"], "no such preset or file: 'meida'; did you mean 'media'?"),
]


@pytest.mark.parametrize(("words", "text"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_what_a_user_gets_wrong_is_one_line(folder: Path, words: list[str], text: str) -> None:
    """Bad input is one line on stderr, and exit code 2."""
    code, out, err = policy(folder, *words)
    assert (code, out) == (2, "")
    assert err.startswith("belljar: ")
    assert text in err
    assert err.count("\n") == 1


def test_a_policy_of_the_configuration_is_there_by_name(folder: Path) -> None:
    """`load_policy` gives what the command line shows, and limits that a process type sets are in it."""
    assert load_policy("media") == Policy.media()
    assert load_policy(str(folder / "belljar.toml"), policy="fast").limits == Policy.media().limits
    assert load_policy(f"{folder}/belljar.toml:two").limits == Limits()
    with pytest.raises(ConfigError, match="no such policy"):
        load_policy(str(folder / "belljar.toml"), policy="slow")


def test_the_worked_example_of_the_documentation_is_true(tmp_path: Path) -> None:
    """Each command that docs/policies.md shows prints what stands there; a line of dots leaves something out."""
    page = (Path(__file__).parents[3] / "docs" / "policies.md").read_text()
    for name, text in re.findall(r"```toml\n# (\S+\.toml)\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(text)
    commands = re.findall(r"```console\n\$ belljar policy (.*?)\n(.*?)```", page, re.DOTALL)
    assert len(commands) == 3
    for words, expected in commands:
        if words.startswith("check") and not probe().results["userns"].works:
            continue  # the page shows a machine that has them
        _, out, err = policy(tmp_path, *words.split())
        assert err == ""
        at = 0
        for part in expected.split("...\n"):
            assert part in out[at:], words
            at = out.index(part, at) + len(part)


def test_the_python_of_the_documentation_is_true() -> None:
    """The words that docs/policies.md shows make policies."""
    page = (Path(__file__).parents[3] / "docs" / "policies.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["watch"].covert_channels == ("locks",)
    assert [word for word in dir(Policy) if word.startswith("allow_") and f"`{word}(" not in page] == []
