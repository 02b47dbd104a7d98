from __future__ import annotations

import os
import string
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from belljar.host.config.load import MAX_FILE, Config, load_config
from belljar.host.config.process_type import Process, plan_of
from belljar.host.errors import ConfigError, PlanError
from belljar.host.plan.step import Step
from belljar.sandbox.backends import BACKENDS
from belljar.sandbox.policy import Policy
from belljar.sandbox.probes.forked import in_fork

EXAMPLE = """
[process.thumbnailer]
plugin = "plugins/thumbnailer.py:Thumbnailer"
load = "after-seal"
backend = "namespaces"        # or none
policy = "media"
preload = ["PIL.Image"]
early_init = ["warm.py:pillow"]
launch_timeout = "10s"
limits = { memory = "512MiB", cpu = "30s" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a plugin, a package and a warm-up file."""
    (tmp_path / "plugins" / "decoders").mkdir(parents=True)
    (tmp_path / "plugins" / "thumbnailer.py").write_text("class Thumbnailer: ...\ndef go(): ...\n")
    (tmp_path / "plugins" / "decoders" / "__init__.py").write_text("class Decoders: ...\n")
    (tmp_path / "warm.py").write_text("def pillow(): ...\n")
    (tmp_path / "data.bin").write_bytes(b"data")
    return tmp_path


def load(folder: Path, text: str) -> Config:
    path = folder / "belljar.toml"
    path.write_text(text)
    return load_config(path)


def refusal(folder: Path, text: str) -> str:
    """Return the sentence with which *text* is refused, without the file's name that it must begin with."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    sentence = str(caught.value)
    assert sentence.startswith(f"{folder / 'belljar.toml'}: ")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{folder / 'belljar.toml'}: ")


def with_line(line: str) -> str:
    return f'[process.thumbnailer]\nplugin = "plugins/thumbnailer.py:Thumbnailer"\n{line}\n'


def test_the_example_of_the_documentation_loads(folder: Path) -> None:
    """The example gives a process type with absolute paths and the policy's limits overridden."""
    process = load(folder, EXAMPLE).process("thumbnailer")
    assert process.name == "thumbnailer"
    assert process.plugin == f"{folder}/plugins/thumbnailer.py:Thumbnailer"
    assert (process.module, process.attribute) == ("thumbnailer", "Thumbnailer")
    assert process.early_init == (Step(f"{folder}/warm.py:pillow", "warm.py:pillow"),)
    assert process.preload == ("PIL.Image",)
    assert process.launch_timeout == 10
    limits = process.policy.limits
    assert (limits.memory, limits.cpu) == (512 << 20, 30)
    assert limits.open_files == Policy.media().limits.open_files
    assert process.policy.threads == Policy.media().threads


def test_a_process_needs_only_its_plugin(folder: Path) -> None:
    """What is not given has the documented default."""
    process = load(folder, with_line("")).process("thumbnailer")
    assert process.policy == Policy.compute()
    assert (process.load, process.backend) == ("after-seal", "namespaces")
    assert (process.launch_timeout, process.step_timeout, process.max_payload) == (10, 10, 64 << 20)


def test_a_package_folder_is_a_plugin(folder: Path) -> None:
    """A plugin is a file or a package's folder."""
    process = load(folder, '[process.d]\nplugin = "plugins/decoders:Decoders"').process("d")
    assert process.module == "decoders"


def test_a_policy_of_the_file_extends_a_preset(folder: Path) -> None:
    """``[policy.NAME]`` takes over its base and overrides only what it names."""
    text = """
[policy.fast]
base = "media"
local_channels = true
read_only = ["plugins", "plugins/../data.bin", "/usr"]
limits = { cpu = 5 }
"""
    policy = load(folder, text + with_line('policy = "fast"')).process("thumbnailer").policy
    assert policy.local_channels
    assert policy.threads == Policy.media().threads
    assert policy.read_only == (f"{folder}/plugins", f"{folder}/data.bin", "/usr")
    assert policy.limits.cpu == 5
    assert policy.limits.memory == Policy.media().limits.memory


def test_a_short_launch_shortens_its_steps(folder: Path) -> None:
    """A step may take no longer than the launch that it belongs to."""
    assert load(folder, with_line("launch_timeout = 2")).process("thumbnailer").step_timeout == 2


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("polcy = 'media'", ["process.thumbnailer.polcy: ", "did you mean 'policy'?"]),
        ("zzz = 1", ["process.thumbnailer.zzz: ", "expected one of backend, call_timeout, cancel_grace, channel"]),
        ("policy = 'medai'", ["process.thumbnailer.policy: ", "'medai'", "did you mean 'media'?"]),
        ("policy = 3", ["process.thumbnailer.policy: expected a string, got an integer"]),
        ("load = 'afterseal'", ["process.thumbnailer.load: ", "did you mean 'after-seal'?"]),
        ("backend = 'namespace'", ["process.thumbnailer.backend: ", "did you mean 'namespaces'?"]),
        ("backend = 'docker'", ["process.thumbnailer.backend: ", "expected one of auto, bubblewrap, chrome-sandbox, "]),
        ("backend = 'Auto'", ["process.thumbnailer.backend: ", "did you mean 'auto'?"]),
        ("backend = ['auto']", ["process.thumbnailer.backend: expected a string, got a list"]),
        (
            "prefer = ['landlock']",
            ["process.thumbnailer.prefer: it only counts with backend = 'auto', and backend is 'namespaces'"],
        ),
        (
            "backend = 'seccomp'\nprefer = ['seccomp']",
            ["process.thumbnailer.prefer: it only counts with backend = 'auto', and backend is 'seccomp'"],
        ),
        (
            "backend = 'auto'\nprefer = []",
            ["process.thumbnailer.prefer: expected at least one backend, or no such key"],
        ),
        ("backend = 'auto'\nprefer = 'landlock'", ["process.thumbnailer.prefer: expected a list, got a string"]),
        ("backend = 'auto'\nprefer = [1]", ["process.thumbnailer.prefer[0]: expected a string, got an integer"]),
        (
            "backend = 'auto'\nprefer = ['landlok']",
            ["process.thumbnailer.prefer: no such backend: 'landlok'; did you mean 'landlock'?"],
        ),
        ("backend = 'auto'\nprefer = ['auto']", ["process.thumbnailer.prefer: no such backend: 'auto'"]),
        (
            "backend = 'auto'\nprefer = ['seccomp', 'landlock', 'seccomp']",
            ["process.thumbnailer.prefer: 'seccomp' stands in it twice"],
        ),
        ("require = 'seccomp'", ["process.thumbnailer.require: expected a list, got a string"]),
        ("require = [true]", ["process.thumbnailer.require[0]: expected a string, got true or false"]),
        (
            "require = ['secomp']",
            ["process.thumbnailer.require: no such layer or operation: 'secomp'; did you mean 'seccomp'?"],
        ),
        ("require = ['file']", ["process.thumbnailer.require: ", "did you mean 'files'?"]),
        ("require = ['read file']", ["process.thumbnailer.require: ", "did you mean 'read a file'?"]),
        ("require = ['']", ["process.thumbnailer.require: ", "expected one of abstract socket, "]),
        ("run_as = 65534", ["process.thumbnailer.run_as: expected a string, got an integer"]),
        ("run_as = 'no such user'", ["process.thumbnailer.run_as: there is no such user", "or UID:GID"]),
        ("run_as = '65534'", ["process.thumbnailer.run_as: there is no such user"]),
        ("run_as = '-1:0'", ["process.thumbnailer.run_as: there is no such user"]),
        ("run_as = '1:4294967295'", ["process.thumbnailer.run_as: there is no such user"]),
        ("preload = 'PIL'", ["process.thumbnailer.preload: expected a list, got a string"]),
        ("preload = ['PIL', 3]", ["process.thumbnailer.preload[1]: expected a string, got an integer"]),
        ("preload = ['PIL/Image']", ["process.thumbnailer.preload: ", "'PIL/Image'"]),
        (f"preload = ['{'x' * 300}']", ["process.thumbnailer.preload: "]),
        ("preload = ['thumbnailer']", ["process.thumbnailer.preload: ", "the plugin's own module"]),
        ("launch_timeout = 'soon'", ["process.thumbnailer.launch_timeout: expected a duration such as 10s"]),
        ("launch_timeout = 0", ["process.thumbnailer.launch_timeout: expected more than 0 seconds, got 0"]),
        ("launch_timeout = nan", ["process.thumbnailer.launch_timeout: "]),
        ("launch_timeout = true", ["process.thumbnailer.launch_timeout: ", "got true or false"]),
        ("launch_timeout = []", ["process.thumbnailer.launch_timeout: ", "got a list"]),
        (
            "launch_timeout = 2\nstep_timeout = 3",
            ["process.thumbnailer.step_timeout: 3 s is longer than launch_timeout"],
        ),
        ("max_payload = '1 parsec'", ["process.thumbnailer.max_payload: "]),
        (
            "max_payload = '2GiB'\nlimits = { memory = '1GiB' }",
            ["process.thumbnailer.max_payload: ", "limits.memory = 1GiB"],
        ),
        ("max_payload = '2MiB'\nlimits = { file_size = '1MiB' }", [".max_payload: ", "limits.file_size = 1MiB"]),
        ("limits = { memroy = '1GiB' }", ["process.thumbnailer.limits", "'memroy'", "did you mean 'memory'?"]),
        ("limits = { memory = 'much' }", ["process.thumbnailer.limits.memory: expected a size such as 512MiB"]),
        ("limits = { cpu = 0.5 }", ["process.thumbnailer.limits.cpu: expected whole seconds"]),
        ("limits = 5", ["process.thumbnailer.limits: expected a table, got an integer"]),
        ("early_init = ['warm.py']", ["process.thumbnailer.early_init[0]: ", "'warm.py:pillow'"]),
        (
            "early_init = ['warn.py:pillow']",
            ["early_init[0]: no such file", "did you mean 'warm.py'?"],
        ),
        ("early_init = ['data.bin:pillow']", ["process.thumbnailer.early_init[0]: expected a .py file"]),
        ("early_init = ['plugins/thumbnailer.py:go']", ["process.thumbnailer.early_init: ", "before the seal"]),
        ("early_init = 'warm.py:pillow'", ["process.thumbnailer.early_init: expected a list, got a string"]),
        ("early_init = [3]", ["process.thumbnailer.early_init[0]: expected ", "got an integer"]),
        ("early_init = [{ name = 'x' }]", ["early_init[0]: step is missing", "{ step = 'fonts'"]),
        ("early_init = [{ step = 3 }]", ["early_init[0].step: expected a string, got an integer"]),
        ("early_init = [{ step = 'warm.py:pillow', name = 3 }]", ["early_init[0].name: expected a string"]),
        ("early_init = [{ step = 'warm.py:pillow', colour = 1 }]", ["early_init[0].colour: ", "has no such option"]),
        (
            "early_init = [{ step = 'warm.py:pillow', after = 'x' }]",
            ["early_init[0]: after: expected a list, got a string"],
        ),
        (
            "early_init = [{ step = 'warm.py:pillow', deadline = 'soon' }]",
            ["early_init[0]: deadline: expected a duration such as"],
        ),
        ("early_init = [{ step = 'warm.py:pillow', deadline = -1 }]", ["early_init[0]: deadline: expected"]),
        ("early_init = [{ step = 'warm.py:pillow', leaves = { fd = [] } }]", ["'fd'; did you mean 'fds'?"]),
        ("early_init = ['prelaod']", ["early_init[0]: no such early-init step: 'prelaod'; did you mean 'preload'?"]),
        ("early_init = [{ step = 'preload' }]", ["early_init[0]: the step 'preload' needs the option 'modules'"]),
        ("force_plan = 'yes'", ["process.thumbnailer.force_plan: expected true or false, got a string"]),
        ("files = ['nothing']", ["process.thumbnailer.files: no such file or folder"]),
        ("files = ['']", ["process.thumbnailer.files: expected a path"]),
        ("files = ['a\\u0000b']", ["process.thumbnailer.files: expected a path"]),
        (f"files = ['{'x' * 300}']", ["process.thumbnailer.files: could not look at", "too long"]),
        ("env = { A = 1 }", ["process.thumbnailer.env.A: expected a string, got an integer"]),
        ('env = { "A=B" = "" }', ["process.thumbnailer.env.'A=B': "]),
        ("name = 'x'", ["process.thumbnailer.name: there is no such key"]),
    ],
)
def test_a_bad_value_is_refused_with_its_place(folder: Path, line: str, parts: list[str]) -> None:
    """An error names key path, what was expected and the nearest valid name."""
    sentence = refusal(folder, with_line(line.replace("'a\\u0000b'", '"a\\u0000b"')))
    for part in parts:
        assert part in sentence


def test_a_choice_of_backends_is_read(folder: Path) -> None:
    """``prefer`` and ``require`` are read in their order; an empty ``require`` is another thing than none."""
    text = "backend = 'auto'\nprefer = ['landlock', 'namespaces']\nrequire = ['seccomp', 'files', 'read a file']"
    process = load(folder, with_line(text)).process("thumbnailer")
    assert process.prefer == ("landlock", "namespaces")
    assert process.require == ("seccomp", "files", "read a file")
    assert load(folder, with_line("require = []")).process("thumbnailer").require == ()
    assert load(folder, with_line("")).process("thumbnailer").require is None
    assert load(folder, with_line("backend = 'auto'")).process("thumbnailer").prefer is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_backend_can_be_named(backend: str, folder: Path) -> None:
    """One line chooses the backend."""
    assert load(folder, with_line(f"backend = '{backend}'")).process("thumbnailer").backend == backend


def test_only_root_runs_children_as_others(folder: Path) -> None:
    """``run_as`` may name this process's own user; another one takes root, and the error says so."""
    own = f"{os.geteuid()}:{os.getegid()}"
    assert load(folder, with_line(f"run_as = '{own}'")).process("thumbnailer").run_as == own
    if os.geteuid() == 0:
        assert load(folder, with_line("run_as = 'nobody'")).process("thumbnailer").run_as == "nobody"
    else:
        said = refusal(folder, with_line("run_as = 'root'"))
        assert (
            said
            == f"process.thumbnailer.run_as: only root can become another user, and this host has uid {os.geteuid()}"
        )


@pytest.mark.parametrize(
    ("plugin", "part"),
    [
        ("plugins/thumbnailr.py:Thumbnailer", "did you mean 'thumbnailer.py'?"),
        ("plugin/thumbnailer.py:Thumbnailer", "there is no folder"),
        ("plugins/thumbnailer.py", "'thumbnailer.py:Thumbnailer'"),
        ("plugins/thumbnailer.py:not a name", "'thumbnailer.py:Thumbnailer'"),
        (f"plugins/thumbnailer.py:{'X' * 300}", "'thumbnailer.py:Thumbnailer'"),
        ("plugins/thumbnailer.py:class", "'thumbnailer.py:Thumbnailer'"),
        ("plugins:Thumbnailer", "has no __init__.py"),
        ("data.bin:Thumbnailer", "expected a .py file or a package's folder"),
        (":Thumbnailer", "'thumbnailer.py:Thumbnailer'"),
    ],
)
def test_a_plugin_that_cannot_be_is_refused(folder: Path, plugin: str, part: str) -> None:
    """A plugin must name a file or package that exists, and a class."""
    sentence = refusal(folder, f'[process.p]\nplugin = "{plugin}"')
    assert sentence.startswith("process.p.plugin: ")
    assert part in sentence


@pytest.mark.parametrize("name", ["json.py", "my-plugin.py", "class.py", "größe.py"])
def test_a_plugin_whose_name_python_cannot_import_is_refused(folder: Path, name: str) -> None:
    """A plugin's file name must be free and importable."""
    (folder / name).write_text("")
    assert "process.p.plugin: " in refusal(folder, f'[process.p]\nplugin = "{name}:X"')


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("[process.a\n", "line 1: not valid TOML: "),
        ("\n\na = [1,\n", "line 3: not valid TOML: "),
        ("a = " + "[" * 5000, "not valid TOML: values are nested too deeply"),
        ("a = " + "1" * 5000, "not valid TOML: "),
        ("", "expected at least one process type"),
        ("process = 3", "process: expected a table, got an integer"),
        ("[process]\na = 3", "process.a: expected a table, got an integer"),
        ("[proces.a]", "proces: there is no such key; did you mean 'process'?"),
        ("[process.a]", "process.a: plugin is missing"),
        ("[policy.media]", "policy.media: this is the name of a preset"),
        ("[policy.x]\nbase = 'medi'", "policy.x.base: no such preset: 'medi'; did you mean 'media'?"),
        ("[policy.x]\nnetwrk = []", "policy.x.netwrk: there is no such key; did you mean 'network'?"),
        ("[policy.x]\nthreads = 'yes'", "policy.x"),
        ("[policy.x]\nread_only = 'a'", "policy.x.read_only: expected a list, got a string"),
        ("[policy.x]\nlimits = { cpu = 'x' }", "policy.x.limits.cpu: expected a duration"),
        ('[process."a b".x]', "process.'a b'.x: there is no such key"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(folder: Path, text: str, start: str) -> None:
    """An error of the file as a whole names line or key path."""
    assert refusal(folder, text).startswith(start)


def test_a_file_that_is_not_text_is_refused(folder: Path) -> None:
    """Bytes that are not UTF-8 are reported with their line."""
    (folder / "b.toml").write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigError, match="line 2: expected UTF-8 text"):
        load_config(folder / "b.toml")


def test_a_file_that_is_missing_a_folder_or_endless_is_refused(folder: Path) -> None:
    """A configuration that cannot be read is one sentence."""
    with pytest.raises(ConfigError, match=r"none\.toml: could not read the configuration: No such file"):
        load_config(folder / "none.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(folder)
    with pytest.raises(ConfigError, match=f"at most {MAX_FILE} bytes"):
        load_config("/dev/zero")


def test_an_unknown_process_has_a_nearest_name(folder: Path) -> None:
    """`Config.process` names the file and the process that was probably meant."""
    config = load(folder, EXAMPLE)
    with pytest.raises(
        ConfigError, match=r"belljar\.toml: no such process: 'thumbnails'; did you mean 'thumbnailer'\?"
    ):
        config.process("thumbnails")


def test_a_process_made_in_python_is_checked_alike(folder: Path) -> None:
    """`Process.resolve` makes paths absolute and gives the errors of a file, under the process's name."""
    process = Process(plugin="plugins/thumbnailer.py:Thumbnailer", policy=Policy.media())
    assert process.name == "thumbnailer"
    resolved = process.resolve(folder)
    assert resolved.plugin == f"{folder}/plugins/thumbnailer.py:Thumbnailer"
    assert resolved.resolve(Path("/")) == resolved
    with pytest.raises(ConfigError, match="process x: plugin: no such file or folder"):
        Process(plugin="nothing.py:X").resolve(folder)
    with pytest.raises(ConfigError, match="process thumbnailer: backend: no such backend: 'jail'"):
        Process(plugin="plugins/thumbnailer.py:Thumbnailer", backend="jail").resolve(folder)


def test_a_folder_that_is_gone_matters_to_relative_paths_only(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where the current folder was deleted, a process type with absolute paths resolves, and another says why not."""
    gone = tmp_path_factory.mktemp("gone")

    def resolve() -> str:
        os.chdir(gone)
        gone.rmdir()
        Process(plugin=f"{folder}/plugins/thumbnailer.py:Thumbnailer").resolve()
        try:
            Process(plugin="plugins/thumbnailer.py:Thumbnailer").resolve()
        except ConfigError as error:
            return str(error)
        return "resolved"

    said = in_fork(resolve).removeprefix("process thumbnailer: plugin: ")
    assert said == "the current folder is gone, so 'plugins/thumbnailer.py' must be a path from the root"


def test_a_trusted_plugin_may_warm_itself_up(folder: Path) -> None:
    """With ``load = "early"`` the plugin's own file may run before the seal."""
    text = with_line("load = 'early'\nearly_init = ['plugins/thumbnailer.py:go']")
    assert load(folder, text).process("thumbnailer").load == "early"


def test_a_warm_up_behind_a_link_is_still_the_plugins(folder: Path) -> None:
    """A link does not hide that a warm-up would run the plugin's file before the seal."""
    (folder / "linked.py").symlink_to(folder / "plugins" / "thumbnailer.py")
    assert "before the seal" in refusal(folder, with_line("early_init = ['linked.py:go']"))


def test_an_error_cannot_steer_the_terminal(folder: Path) -> None:
    """What a file contains is shown without control characters, and short."""
    sentence = refusal(folder, with_line('policy = "\\u001b[31m\\u009b1m\\u202e' + "x" * 1000 + '"'))
    assert sentence.isprintable()
    assert len(sentence) < 300


# Random tables: TOML's values under keys that are often the right ones.
_keys = st.sampled_from([*Process.__struct_fields__, *Policy.__struct_fields__, "memory", "cpu", "base", "limits"])
_texts = st.text(max_size=20) | st.sampled_from(
    ["media", "compute", "plugins/thumbnailer.py:Thumbnailer", "warm.py:pillow", "10s", "1GiB", "/", "..", "namespaces"]
)
_scalars = st.booleans() | st.integers() | st.floats() | _texts
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys | st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
_tables = st.dictionaries(_keys, _values, max_size=6)
_names = st.text(string.ascii_letters, min_size=1, max_size=5) | st.text(max_size=5)


def toml(value: object) -> str:
    """Write *value* as TOML, inline."""
    if isinstance(value, dict):
        table = cast("dict[str, object]", value)
        return "{" + ", ".join(f"{text_of(key)} = {toml(inner)}" for key, inner in table.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, cast("list[object]", value))) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return text_of(value) if isinstance(value, str) else repr(value)


def text_of(text: str) -> str:
    return '"' + "".join(f"\\U{ord(char):08x}" for char in text if not 0xD800 <= ord(char) < 0xE000) + '"'


def answer(path: Path) -> str:
    """Return the names of the processes of *path*, or the sentence that refuses it; let any other error out."""
    try:
        return repr(sorted(load_config(path).processes))
    except ConfigError as error:
        return str(error)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(["process", "policy"]), st.dictionaries(_names, _tables, max_size=2), max_size=2)
)
def test_any_tables_give_a_config_or_a_config_error(folder: Path, document: dict[str, Any]) -> None:
    """Whatever the tables say, the answer is a `Config` or one sentence."""
    for table in document.get("process", {}).values():
        table.setdefault("plugin", "plugins/thumbnailer.py:Thumbnailer")
    text = "\n".join(f"{key} = {toml(value)}" for key, value in document.items())
    (folder / "any.toml").write_text(text)
    assert "\n" not in answer(folder / "any.toml")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_a_config_or_a_config_error(folder: Path, data: bytes) -> None:
    """Whatever bytes the file holds, the answer is a `Config` or one sentence."""
    (folder / "any.toml").write_bytes(data)
    assert "\n" not in answer(folder / "any.toml")


def test_an_entry_of_early_init_is_a_table_too(folder: Path) -> None:
    """Keys of a declaration replace it, a deadline is a time, all others are options; paths are the folder's."""
    (folder / "warm.py").write_text("from pathlib import Path\ndef font(file: Path, size: int = 9): ...\n")
    text = with_line(
        "early_init = [{ step = 'warm.py:font', name = 'serif', file = 'data.bin', size = 12, deadline = '5s', "
        "leaves = { fds = ['file'] }, optional = true }]\nforce_plan = true"
    )
    process = load(folder, text).process("thumbnailer")
    [entry] = process.early_init
    assert isinstance(entry, Step)
    assert (entry.step, entry.name) == (f"{folder}/warm.py:font", "serif")
    assert entry.options == {"file": f"{folder}/data.bin", "size": 12}
    assert entry.declared == {"leaves": {"fds": ["file"]}, "deadline": "5s", "optional": True}
    assert process.force_plan
    [step] = plan_of(process).steps
    assert (step.declaration.deadline, step.declaration.optional, step.declaration.leaves.fds) == (5.0, True, ("file",))


def test_a_channel_is_one_word(folder: Path) -> None:
    """``channel = "zmq"`` puts the step channel-zmq first into the plan, and not into what was listed."""
    text = with_line("early_init = ['entropy-and-time']\nchannel = 'zmq'")
    process = load(folder, text).process("thumbnailer")
    assert process.channel == "zmq"
    assert [step.name for step in plan_of(process.resolve()).steps] == ["channel-zmq", "entropy-and-time"]
    assert [step.step for step in process.early_init if isinstance(step, Step)] == ["entropy-and-time"]
    with pytest.raises(ConfigError, match=r"channel: no such channel: .zmw.; did you mean .zmq.\?"):
        load(folder, with_line("channel = 'zmw'"))


def test_the_order_of_early_init_is_the_plan_s_affair(folder: Path) -> None:
    """A configuration whose steps wait for each other can be read, so that ``belljar plan`` can show them."""
    (folder / "warm.py").write_text("def one(): ...\ndef two(): ...\n")
    entries = "{ step = 'warm.py:one', after = ['warm.py:two'] }, { step = 'warm.py:two', after = ['warm.py:one'] }"
    text = with_line(f"early_init = [{entries}]")
    process = load(folder, text).process("thumbnailer")
    with pytest.raises(PlanError, match="these steps wait for each other"):
        plan_of(process)


@pytest.mark.parametrize(
    ("granted", "named", "words"),
    [
        ("writable", "writable/step.py", "runs unsealed in other"),
        ("writable", "writable/plugin.py", "runs unsealed in other"),
        (".", "belljar.toml", "says so"),
    ],
)
def test_no_child_may_write_what_seals_or_precedes_another(folder: Path, granted: str, named: str, words: str) -> None:
    """A policy that grants to write another type's step or trusted plugin, or the configuration itself, is refused."""
    (folder / "writable").mkdir()
    (folder / "writable" / "step.py").write_text("def go(): ...\n")
    (folder / "writable" / "plugin.py").write_text("class Plugin: ...\n")
    step, plugin = ("writable/step.py:go", "plugins/thumbnailer.py:Thumbnailer")
    load = "after-seal"
    if named == "writable/plugin.py":
        step, plugin, load = "warm.py:pillow", "writable/plugin.py:Plugin", "early"
    text = f"""
        [process.writer]
        plugin = "plugins/decoders:Decoders"
        policy = "writing"

        [process.other]
        plugin = "{plugin}"
        load = "{load}"
        early_init = ["{step}"]

        [policy.writing]
        read_write = ["{granted}"]
    """
    sentence = refusal(folder, text)
    assert sentence.startswith("process.writer.policy: it lets the child write")
    assert f"{folder / named}, below it, {words}" in sentence
