"""A backend of another package: installed, named in a file, launched; and entry points that lead nowhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest

from belljar.sandbox.probe import probe

EXAMPLE = Path(__file__).parents[2] / "examples" / "outside_backend"
OFFLINE = (
    "--no-index",
    "--no-build-isolation",
    "--no-deps",
    "--quiet",
    "--disable-pip-version-check",
    "--no-cache-dir",
)

PLUGIN = """
class Asked:
    def answer(self) -> int:
        return 42
"""

# What the host sees of a child while it lives: nice, scheduling policy, and how soon it goes when memory runs out.
LOOK = """
import sys
import anyio
from pathlib import Path
from belljar import ProcessHost
from belljar.host.config.load import load_config

async def main():
    async with ProcessHost(load_config(sys.argv[1]).process(sys.argv[2])) as host:
        stat = Path(f"/proc/{host.child_pid}/stat").read_text().rpartition(")")[2].split()
        adjusted = Path(f"/proc/{host.child_pid}/oom_score_adj").read_text().strip()
        print(host.protection.backend, stat[16], stat[38], adjusted)

anyio.run(main)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter of a fresh environment that sees belljar and what it needs, with the example installed."""
    folder = tmp_path_factory.mktemp("outside")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    site = folder / "venv" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    places = [entry for entry in sys.path if "site-packages" in entry]
    belljars = str(Path(sys.modules["belljar"].__file__ or "").parents[1])
    (site / "belljar-of-the-tests.pth").write_text("\n".join([*places, belljars]) + "\n")
    shutil.copytree(EXAMPLE, folder / "source")  # a build writes into its source
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", *OFFLINE, str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, files in BROKEN.items():
        (site / f"{name}.py").write_text(files)
        info = site / f"belljar_{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: belljar-{name}\nVersion: 1\n")
        target = f"{name}_that_is_not_there" if name == "nowhere" else name
        (info / "entry_points.txt").write_text(f"[belljar.backends]\n{name} = {target}\n")
    return python


BROKEN: Mapping[str, str] = {
    "nowhere": "",
    "crooked": "class HostSide(:\n",
    "raising": "raise RuntimeError('the package is in a bad mood')\n",
    "halved": "class HostSide:\n    name = 'halved'\n    requires = ()\n",
    "hollow": "class HostSide:\n    name = 'hollow'\n    requires = ()\n\n\nclass ChildSide:\n    pass\n",
}
"""Name -> the module behind its entry point."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a process type for each backend from outside, and some for ``auto``."""
    (tmp_path / "asked.py").write_text(PLUGIN)
    run_as = "run_as = 'root'" if os.geteuid() == 0 else ""
    backends = {name: f"backend = '{name}'" for name in ("quiet", "landlock", *BROKEN)}
    backends["auto"] = "backend = 'auto'"
    backends["preferred"] = "backend = 'auto'\nprefer = ['nowhere', 'quiet']"
    tables = [f"[process.{name}]\nplugin = 'asked.py:Asked'\n{run_as}\n{line}\n" for name, line in backends.items()]
    path = tmp_path / "belljar.toml"
    path.write_text("\n".join(tables))
    return path


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter of the environment from elsewhere."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "BELLJAR_"))}
    return subprocess.run(
        [str(python), *arguments], cwd="/", env=environ, capture_output=True, text=True, check=False, timeout=50
    )


@pytest.fixture(autouse=True)
def _needs_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BELLJAR_FAKE_MISSING", raising=False)
    if not probe().results["landlock"].works:
        pytest.skip("the example stands on landlock")


def test_one_line_of_a_file_launches_it(python: Path, config: Path) -> None:
    """``belljar run`` and ``belljar inspect`` take an installed backend by its name like any other."""
    done = run(python, "-m", "belljar", "run", str(config), "quiet", "answer")
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")
    shown = run(python, "-m", "belljar", "inspect", "--json", str(config), "quiet")
    assert shown.returncode == 0, shown.stderr
    protection = json.loads(shown.stdout)["processes"][0]["protection"]
    assert protection["backend"] == "quiet"
    engaged = {layer["layer"] for layer in protection["layers"] if layer["engaged"]}
    assert {"landlock", "seccomp", "no-new-privs", "capabilities", "rlimits"} <= engaged


def test_what_it_does_beyond_layers_is_seen_from_outside(python: Path, config: Path) -> None:
    """The child of the example has nice 19, SCHED_IDLE (5) and is the first to be killed; one of landlock has not."""
    assert run(python, "-c", LOOK, str(config), "quiet").stdout.split() == ["quiet", "19", "5", "1000"]
    ordinary = run(python, "-c", LOOK, str(config), "landlock").stdout.split()
    assert (ordinary[0], ordinary[2]) == ("landlock", "0")


def test_auto_takes_it_only_if_prefer_names_it(python: Path, config: Path) -> None:
    """Installing a package changes nothing for ``auto``; ``prefer`` does, and what cannot be loaded is passed over."""
    assert run(python, "-c", LOOK, str(config), "auto").stdout.split()[0] in (
        "namespaces",
        "chrome-sandbox",
        "bubblewrap",
        "landlock",
    )
    done = run(python, "-m", "belljar", "run", str(config), "preferred", "answer")
    assert (done.returncode, done.stdout) == (0, "42\n")
    assert "preferred: auto chose quiet and not nowhere: backend 'nowhere' of nowhere_that_is_not_there" in done.stderr


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere", "No module named 'nowhere_that_is_not_there'"),
        ("crooked", "invalid syntax"),
        ("raising", "RuntimeError: the package is in a bad mood"),
        ("halved", "it has no class ChildSide"),
        ("hollow", "its HostSide has no has_helper, own_pid_only, unable"),
    ],
)
def test_a_broken_entry_point_is_one_sentence(name: str, why: str, python: Path, config: Path) -> None:
    """What is wrong with another package is said in one line that names backend, module, cause and remedy."""
    done = run(python, "-m", "belljar", "run", str(config), name, "answer")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"stage 1 (prepare): backend '{name}' of {name}" in done.stderr
    assert why in done.stderr
    assert "mend or remove that package" in done.stderr


def test_an_unknown_backend_is_told_what_there_is(python: Path, tmp_path: Path) -> None:
    """A name that is near to an installed backend's is guessed."""
    (tmp_path / "asked.py").write_text(PLUGIN)
    path = tmp_path / "other.toml"
    path.write_text("[process.x]\nplugin = 'asked.py:Asked'\nbackend = 'quit'\n")
    assert "did you mean 'quiet'?" in run(python, "-m", "belljar", "inspect", str(path)).stderr


def test_doctor_shows_what_works_and_what_does_not(python: Path) -> None:
    """A package that is broken is a row of the doctor's, and hides no other."""
    done = run(python, "-m", "belljar", "doctor", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["backends"]}
    assert rows["quiet"]["works"]
    assert rows["namespaces"]["works"] == probe().results["userns"].works
    for name in BROKEN:
        assert not rows[name]["works"]
        assert "mend or remove that package" in rows[name]["why_not"]
