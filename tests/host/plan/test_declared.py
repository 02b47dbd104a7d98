"""What a step declares is read from its text: however the decorator is written, and what cannot be read is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from belljar.child.step import early_init
from belljar.host.config.place import Place
from belljar.host.errors import ConfigError
from belljar.host.plan.declared import Parameter, declare, find_declared, shipped_names
from belljar.sandbox.declaration import Declaration, Leaves


def read(folder: Path, source: str, function: str = "go") -> Declaration:
    """Return what *function* of a file with this *source* declares."""
    (folder / "steps.py").write_text(dedent(source))
    return find_declared(f"steps.py:{function}", folder, Place("here")).declaration


def refusal(folder: Path, source: str, function: str = "go") -> str:
    """Return the sentence with which a step of this *source* is refused, without file and place."""
    with pytest.raises(ConfigError) as caught:
        read(folder, source, function)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.startswith("here: ")
    assert f"'{folder}/steps.py'" in sentence
    return sentence.removeprefix("here: ").replace(f"'{folder}/steps.py'", "FILE")


@pytest.mark.parametrize(
    "source",
    [
        "from belljar import early_init\n@early_init(needs=['devices'])\ndef go(): ...",
        "from belljar.child.step import early_init as step\n@step(needs=['devices'])\ndef go(): ...",
        "import belljar\n@belljar.early_init(needs=['devices'])\ndef go(): ...",
        "import belljar as b\n@b.early_init(needs=('devices',))\ndef go(): ...",
        "import belljar.child.step\n@belljar.child.step.early_init(needs=['devices'])\ndef go(): ...",
        "import functools, belljar\n@functools.cache\n@belljar.early_init(needs=['devices'])\ndef go(): ...",
        "import functools, belljar\n@belljar.early_init(needs=['devices'])\n@functools.cache\ndef go(): ...",
        "if True:\n    from belljar import early_init as ei\n@ei(needs=['dev' 'ices'])\ndef go(): ...",
        "from belljar import early_init\ndef go(): ...\n@early_init(needs=['devices'])\ndef go(): ...",
    ],
)
def test_the_decorator_is_found_under_any_name(source: str, tmp_path: Path) -> None:
    """Imported under another name, by its module, among other decorators: what it says is read."""
    assert read(tmp_path, source) == Declaration(needs=("devices",))


@pytest.mark.parametrize(
    "source",
    [
        "def go(): ...",
        "from elsewhere import step as early_init_of_theirs\n@early_init_of_theirs(needs=3)\ndef go(): ...",
        "def early_init(**words): return lambda function: function\n@early_init(needs=[])\ndef go(): ...",
    ],
)
def test_a_plain_function_needs_files(source: str, tmp_path: Path) -> None:
    """Without belljar's decorator, a step needs files and leaves nothing."""
    assert read(tmp_path, source) == Declaration(needs=("files",), leaves=Leaves())


def test_every_word_is_read_as_the_decorator_takes_it(tmp_path: Path) -> None:
    """The host reads from the text the very value that Python would make of it."""
    words = """
        needs=["files", "single-threaded"], needs_after_seal=["graphics-driver"], after=["a", "seal"], before=["b"],
        leaves={"threads": ["x-*"], "fds": ["socket"], "executable_memory": True, "environment": ["A"],
                "signals": ["SIGSEGV"]},
        deadline="1500ms", optional=True, shared=True,
    """
    found = read(tmp_path, f"from belljar import early_init\n@early_init({words})\ndef go(): ...")
    assert found == Declaration(
        needs=("files", "single-threaded"),
        needs_after_seal=("graphics-driver",),
        leaves=Leaves(("x-*",), ("socket",), True, ("A",), ("SIGSEGV",)),
        after=("a", "seal"),
        before=("b",),
        deadline=1.5,
        optional=True,
        shared=True,
    )
    eval(f"early_init({words})", {"early_init": early_init})  # raises unless it can be said at run time too


OURS = "from belljar import early_init\n"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("NEEDS = ['files']\n@early_init(needs=NEEDS)\ndef go(): ...", "'needs = NEEDS' is no literal"),
        ("@early_init(deadline=2 * 5)\ndef go(): ...", "'deadline = 2 * 5' is no literal"),
        ("@early_init(leaves={[]: 1})\ndef go(): ...", "'leaves = {[]: 1}' is no literal"),
        ("@early_init(**{'needs': []})\ndef go(): ...", "there is no word of a declaration '**'"),
        ("@early_init(['files'])\ndef go(): ...", "early_init takes its words by name"),
        ("@early_init\ndef go(): ...", "early_init takes its words by name"),
        ("@early_init()\n@early_init()\ndef go(): ...", "early_init stands above it twice; keep one"),
        ("@early_init(need=['files'])\ndef go(): ...", "no word of a declaration 'need'; did you mean 'needs'?"),
        ("@early_init(needs=['filse'])\ndef go(): ...", "no word of needs 'filse'; did you mean 'files'?"),
        (
            "@early_init(needs_after_seal=['graphics-drivers'])\ndef go(): ...",
            "there is no word of needs_after_seal 'graphics-drivers'; did you mean 'graphics-driver'?",
        ),
        ("@early_init(leaves={'thread': ['x']})\ndef go(): ...", "'thread'; did you mean 'threads'?"),
        ("@early_init(leaves={'fds': ['sockets']})\ndef go(): ...", "'sockets'; did you mean 'socket'?"),
        ("@early_init(leaves={'threads': 'x'})\ndef go(): ...", "leaves.threads: expected a list, got a string"),
        ("@early_init(leaves=['threads'])\ndef go(): ...", "leaves: expected a table, got a list"),
        ("@early_init(after='fonts')\ndef go(): ...", "after: expected a list, got a string"),
        ("@early_init(deadline='soon')\ndef go(): ...", "deadline: expected"),
        ("@early_init(deadline=0)\ndef go(): ...", "deadline: expected more than 0 seconds"),
        ("def go(needs): ...", "cannot set the parameter 'needs': that is a word of entries; change it"),
        ("def go(name='x'): ...", "cannot set the parameter 'name': that is a word of entries"),
        ("def go(x, /): ...", "cannot set the parameter 'x': it has no name for callers"),
        ("async def go(): ...", "line 2: go is no step: expected a plain function, neither async nor a class"),
        ("class go: ...", "go is no step"),
        ("def goo(): ...", "FILE defines no function 'go'; did you mean 'goo'?"),
        ("x = 1", "FILE defines no function 'go'"),
        ("def go(:", "could not read the step 'steps.py:go' in FILE: line 2: invalid syntax"),
        ("x = '\\0'\ndef go(): ...", "could not read the step 'steps.py:go' in FILE: "),
        (f"x = {'(' * 500}", "could not read the step 'steps.py:go' in FILE: "),
    ],
)
def test_what_cannot_be_read_is_one_sentence(source: str, sentence: str, tmp_path: Path) -> None:
    """File, line, cause and the nearest word that there is."""
    source = source.replace("\\0", "\0")
    assert sentence in refusal(tmp_path, OURS + source)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    """Bytes that are no Python are refused as such."""
    (tmp_path / "steps.py").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match=r"could not read the step 'steps\.py:go' in"):
        find_declared("steps.py:go", tmp_path, Place("here"))


def test_an_unknown_step_is_told_the_nearest(tmp_path: Path) -> None:
    """A name without a file is one of those that ship, or that a package declares."""
    assert "preload" in shipped_names()
    with pytest.raises(ConfigError, match=r"^here: no such early-init step: 'prelaod'; did you mean 'preload'\?$"):
        find_declared("prelaod", tmp_path, Place("here"))


def test_each_step_that_ships_can_be_read(tmp_path: Path) -> None:
    """The file of a shipped step holds a function of its name, and the host reads what it declares."""
    for name in shipped_names():
        found = find_declared(name, tmp_path, Place("here"))
        assert found.function == f"belljar.child.steps.{found.file.stem}:{found.file.stem}"
        assert found.file.stem == name.replace("-", "_")


def test_parameters_are_options(tmp_path: Path) -> None:
    """Which are required, and which are paths, stands in the signature, however it is written."""
    source = """
        from pathlib import Path
        def go(text, file: Path, files: "tuple[Path, ...]" = (), *, maybe: Path | None = None, size: int, **more): ...
    """
    (tmp_path / "steps.py").write_text(dedent(source))
    assert find_declared("steps.py:go", tmp_path, Place("here")).parameters == (
        Parameter("text", required=True, is_path=False),
        Parameter("file", required=True, is_path=True),
        Parameter("files", required=False, is_path=True),
        Parameter("maybe", required=False, is_path=True),
        Parameter("size", required=True, is_path=False),
    )


@pytest.mark.parametrize(
    ("body", "around"),
    [
        ("around_seal(quiesce=print)", ("quiesce",)),
        ("belljar.around_seal(quiesce=print, resume=print)", ("quiesce", "resume")),
        ("print()", ()),
    ],
)
def test_what_a_step_wants_around_the_seal_is_seen(body: str, around: tuple[str, ...], tmp_path: Path) -> None:
    """A call of around_seal in the step's own text shows in the plan."""
    (tmp_path / "steps.py").write_text(f"def go():\n    if True:\n        {body}\n")
    assert find_declared("steps.py:go", tmp_path, Place("here")).around == around


def test_a_file_that_changes_is_read_anew(tmp_path: Path) -> None:
    """Between two launches a step may come to declare something else."""
    file = tmp_path / "steps.py"
    for changed, needs in enumerate(("devices", "network")):  # of one length
        file.write_text(f"from belljar import early_init\n@early_init(needs=['{needs}'])\ndef go(): ...\n")
        os.utime(file, ns=(0, changed))
        assert find_declared("steps.py:go", tmp_path, Place("here")).declaration.needs == (needs,)


def test_the_host_runs_nothing_of_a_step(tmp_path: Path) -> None:
    """The text of a step's file is parsed, never run."""
    source = f"open({str(tmp_path / 'ran')!r}, 'w')\n@print('decorated')\ndef go(): ...\n"
    assert read(tmp_path, source) == Declaration()
    assert not (tmp_path / "ran").exists()


def test_declare_wants_words_it_knows() -> None:
    """What an entry replaces is judged by the same rules as a decorator."""
    assert declare({"optional": True, "deadline": "2s"}) == Declaration(optional=True, deadline=2.0)
    with pytest.raises(ValueError, match=r"no word of fds 'sokcet'; did you mean 'socket'\?"):
        declare({"leaves": {"fds": ["sokcet"]}})


PACKAGE = {
    "pyproject.toml": """
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "tells-fortunes"
        version = "1"
        [project.entry-points."belljar.early_init"]
        fortunes = "fortunes.steps:open_book"
        crystal = "fortunes.ball:look"
        absent = "fortunes.cards:draw"
        bare = "fortunes"
    """,
    "fortunes/__init__.py": "raise RuntimeError('the host imports nothing')",
    "fortunes/steps.py": """
        from pathlib import Path
        from belljar import early_init
        @early_init(needs=["files"], leaves={"fds": ["file"]}, deadline="3s")
        def open_book(book: Path): ...
    """,
    "fortunes/ball/__init__.py": "def look(): ...",
}

ASK = """
import sys
from pathlib import Path
from belljar.host.errors import ConfigError
from belljar.host.config.place import Place
from belljar.host.plan.declared import find_declared
for name in sys.argv[1:]:
    try:
        found = find_declared(name, Path(), Place("here"))
        print(found.function, found.declaration.leaves.fds, found.declaration.deadline, *found.parameters)
    except ConfigError as error:
        print(error)
assert "fortunes" not in sys.modules
"""


@pytest.mark.parametrize("editable", [False, True])
def test_an_installed_package_brings_steps(editable: bool, tmp_path: Path) -> None:
    """An entry point names a step of a package, which is read where it lies and not imported."""
    source = tmp_path / "source"
    for name, text in PACKAGE.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(dedent(text))
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--no-deps", "--quiet"]
    pip += ["--disable-pip-version-check", "--no-cache-dir", "--target", str(tmp_path / "site")]
    installed = subprocess.run([*pip, str(source)], capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr
    paths = [str(tmp_path / "site"), str(Path(sys.modules["belljar"].__file__ or "").parents[1])]
    if editable:  # as `pip install --editable` has it: the code stays in its own folder
        shutil.rmtree(tmp_path / "site" / "fortunes")
        paths.insert(1, str(source))
    names = ("fortunes", "crystal", "absent", "bare", "fortnues")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", ASK, *names], env=environment, cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert answers[0].startswith("fortunes.steps:open_book ('file',) 3.0 Parameter(name='book', required=True, is_path")
    assert answers[1] == "fortunes.ball:look () None"
    assert answers[2] == (
        "here: the step 'absent' is an entry point for 'fortunes.cards:draw', but there is no file of that module; "
        "mend or remove that package"
    )
    assert "names no function" in answers[3]
    assert answers[4] == "here: no such early-init step: 'fortnues'; did you mean 'fortunes'?"
