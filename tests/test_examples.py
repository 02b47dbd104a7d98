"""The examples, run as a reader runs them."""

# PyAV's stubs leave the type of packets open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias

import anyio
import av
import msgspec
import pytest
from PIL import Image

from belljar import ChildEnded, Policy, Process, ProcessHost, RemoteError, load_config, probe
from belljar.sandbox.backends import BACKENDS
from belljar.sandbox.probe import explain, requirements
from belljar.sandbox.user import resolve_user

EXAMPLES = Path(__file__).parents[1] / "examples"
MEDIA = EXAMPLES / "media_plugin_host"
ATTEMPTS = 11

Codec: TypeAlias = Literal["libx264", "libvpx", "mjpeg", "mpeg2video", "mpeg4"]


def run(
    script: Path, *arguments: str, code: int = 0, columns: int = 200, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1", **variables}
    command = [sys.executable, str(script), *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended


def is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def load(name: str) -> ModuleType:
    """A module of the media example, which is a folder of scripts and no package."""
    spec = importlib.util.spec_from_file_location(f"media_example_{name}", MEDIA / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where msgspec looks for annotations
    spec.loader.exec_module(module)
    return module


def photograph(side: int) -> Image.Image:
    """Something to decode: a picture with a gradient in each channel."""
    channels = (Image.radial_gradient("L"), Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90))
    return Image.merge("RGB", channels).resize((side, side))


def test_hello_is_answered_and_refused() -> None:
    """The smallest example prints the plugin's answer, the refusal of a file, and the protection."""
    lines = run(EXAMPLES / "hello.py").stdout.splitlines()
    assert lines[0] == "hello, world"
    assert "PermissionError" in lines[1]
    assert "/etc/passwd" in lines[1]
    assert any("seccomp" in line for line in lines[2:])


def test_hello_is_small() -> None:
    """The smallest example has at most 40 lines of code, its plugin included."""

    def lines_of_code(file: Path) -> set[int]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        texts = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        return {
            node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.expr) and id(node) not in texts
        }

    assert sum(len(lines_of_code(EXAMPLES / name)) for name in ("hello.py", "hello_plugin.py")) <= 40


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One run of the demo: its output folder and what it printed."""
    if not (is_installed("scikit-image") and is_installed("pyo")):
        pytest.skip("the demo's material is in the extra 'demo'")
    folder = tmp_path_factory.mktemp("demo")
    return folder, run(MEDIA / "main.py", "--out", str(folder)).stdout


def test_demo_fills_the_contact_sheet(demo: tuple[Path, str]) -> None:
    """The demo makes a sheet of real thumbnails."""
    folder, _ = demo
    with Image.open(folder / "contact-sheet.png") as sheet:
        assert sheet.width > 1000
        assert len(sheet.convert("RGB").getcolors(1 << 24) or ()) > 10_000


def test_demo_names_what_it_could_not_decode(demo: tuple[Path, str]) -> None:
    """A corrupt picture, a truncated video and a decompression bomb give one line each."""
    problems = [line for line in demo[1].splitlines() if line.startswith("no thumbnail of ")]
    assert sorted(re.split("[-:]", line.split()[3])[0] for line in problems) == ["bomb.png", "corrupt", "truncated"]


def test_demo_holds_every_attack_off(demo: tuple[Path, str]) -> None:
    """Each attempt is refused under namespaces, and succeeds under none where the user may do such things."""
    rows = [line for line in demo[1].splitlines() if "succeeded:" in line or "refused:" in line]
    assert len(rows) == ATTEMPTS
    assert all(row.rpartition("│")[0].rpartition("│")[2].strip().startswith("refused:") for row in rows)
    if os.geteuid() == 0:
        assert all("succeeded:" in row for row in rows)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One run of the demo over all backends: its output folder and what it printed."""
    if not (is_installed("scikit-image") and is_installed("pyo")):
        pytest.skip("the demo's material is in the extra 'demo'")
    all_must_work()
    folder = tmp_path_factory.mktemp("comparison")
    return folder, run(MEDIA / "main.py", "--all-backends", "--out", str(folder)).stdout


@pytest.fixture
def attacks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example's module of attacks, which imports its neighbours as a script does."""
    monkeypatch.syspath_prepend(MEDIA)
    return importlib.import_module("attacks")


def all_must_work() -> None:
    """Skip where a backend does not work, unless it must."""
    machine = probe(resolve_user(""))
    must = os.environ.get("BELLJAR_MUST_WORK", "").split(",")
    for name in BACKENDS:
        if (missing := explain(machine.missing(requirements(name)))) and name not in must:
            pytest.skip(f"{name} does not work here: {missing}")


def rows_of(table: str, first: Iterable[str]) -> dict[str, list[str]]:
    """Return the cells of the rows that begin with one of *first*."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in table.splitlines() if "│" in line]
    return {row[0]: row[1:] for row in rows if row[0] in first}


def test_comparison_makes_one_sheet_on_all_backends(comparison: tuple[Path, str]) -> None:
    """Each backend makes the same contact sheet, and the demo says so."""
    folder, printed = comparison
    sheets = {name: Image.open(folder / f"contact-sheet-{name}.png").tobytes() for name in BACKENDS}
    assert len(set(sheets.values())) == 1
    assert f"identical on all {len(BACKENDS)} backends" in printed
    assert Image.open(folder / "contact-sheet.png").tobytes() in sheets.values()


def test_comparison_counts_what_is_enforced(comparison: tuple[Path, str]) -> None:
    """A row for each backend has its thumbnails, times and operations; strongest first, and `none` enforces nothing."""
    rows = rows_of(comparison[1].partition("a hostile plugin")[0], BACKENDS)
    assert list(rows) == list(BACKENDS)
    assert {row[0] for row in rows.values()} == {"19 of 22"}
    assert all(re.fullmatch(r"\d+ / \d+", row[1]) for row in rows.values())
    enforced = [int(row[2]) for row in rows.values()]
    assert enforced == sorted(enforced, reverse=True)
    assert rows["none"][2:4] == ["0", "0"]
    assert rows["namespaces"][3:] == ["0", "0", ""]


def test_comparison_shows_attempts_side_by_side(comparison: tuple[Path, str], attacks: Any) -> None:
    """Each attempt has an outcome under each backend; what succeeds under one that confines is called open before."""
    table = comparison[1].partition("a hostile plugin")[2]
    rows = rows_of(table, [title for title, _ in attacks.ATTEMPTS.values()])
    assert len(rows) == ATTEMPTS
    assert all(len(row) == len(BACKENDS) for row in rows.values())
    assert all(cell.startswith("refused") for row in rows.values() for cell in row[1:3])
    assert "ESCAPED" not in comparison[1]


def test_success_that_the_report_rules_out_is_an_escape(attacks: Any) -> None:
    """An attempt that succeeds although its operation is called enforced is an escape; under an open one it is none."""

    async def attack(backend: str) -> Any:
        found = attacks.Attack(backend)
        async with ProcessHost(msgspec.structs.replace(process_type("hostile"), backend=backend)) as host:
            found.hosts.append(host)
            found.attempts = dict.fromkeys(attacks.ATTEMPTS, load("interfaces").Attempt("succeeded", "it lies"))
        return found

    sealed, free = anyio.run(attack, "namespaces"), anyio.run(attack, "none")
    assert set(sealed.escapes) == set(attacks.ATTEMPTS)
    assert "read_passwords" not in free.escapes
    assert attacks.escapes_text([sealed, free]).plain.startswith("ESCAPED")


@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
def test_backend_that_does_not_work_is_a_row(tmp_path: Path, name: str) -> None:
    """A backend that does not work here has cause and remedy in its row, and the exit code is 3."""
    photograph(100).save(tmp_path / "mine.png")
    out = ("--backend", name, "--out", str(tmp_path / "out"))
    missing = "bwrap" if name == "bubblewrap" else name
    ended = run(MEDIA / "main.py", str(tmp_path / "mine.png"), *out, code=3, BELLJAR_FAKE_MISSING=missing)
    assert f"{missing}: faked by BELLJAR_FAKE_MISSING; unset BELLJAR_FAKE_MISSING" in ended.stdout
    assert not (tmp_path / "out" / "contact-sheet.png").exists()


def test_unknown_backend_is_a_usage_error() -> None:
    """A backend that does not exist is refused with the nearest that does."""
    ended = run(MEDIA / "main.py", "--backend", "landlok", code=2)
    assert "no such backend: 'landlok'; did you mean 'landlock'?" in ended.stderr


@pytest.mark.parametrize("columns", [100, 200])
def test_tables_fit_their_terminal(tmp_path: Path, columns: int) -> None:
    """No line is longer than the terminal is wide, and no backend's name is cut."""
    all_must_work()
    photograph(100).save(tmp_path / "mine.png")
    files = (str(tmp_path / "mine.png"), "--all-backends", "--out", str(tmp_path / "out"))
    lines = run(MEDIA / "main.py", *files, columns=columns).stdout.splitlines()
    assert max(map(len, lines)) <= columns
    (heading,) = (line for line in lines if line.startswith("┃ attempt"))
    assert all(name in heading for name in BACKENDS)


def test_demo_shows_three_pids_of_each_child(demo: tuple[Path, str]) -> None:
    """The demo prints three pids of each child, and what a sealed child claims is not its pid outside."""
    pids = {
        name: [int(pid) for pid in re.findall(rf"│ {name}\s+│\s+(\d+)", demo[1])]
        for name in ("launched", "child", "claimed")
    }
    assert {len(found) for found in pids.values()} == {4}
    assert pids["child"][0] != pids["claimed"][0]


@pytest.mark.parametrize("name", ["BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP"])
def test_sealed_pillow_knows_each_format(tmp_path: Path, name: str) -> None:
    """The warm-up leaves no import for later: the sealed child decodes pictures of every common format."""
    file = tmp_path / "picture"
    photograph(300).save(file, name)

    async def thumbnail() -> tuple[int, int, str]:
        async with ProcessHost(process_type("thumbnailer")) as host:
            small = await host.proxy(load("interfaces").Thumbnailer).thumbnail(file.read_bytes(), 64)
            return *small.image.size, small.format

    assert anyio.run(thumbnail) == (64, 64, name)


def film(file: Path, container: str, codec: Codec) -> None:
    """Write two seconds in which the picture turns from white to black."""
    with av.open(str(file), "w", format=container) as output:
        track = output.add_stream(codec, rate=25, width=128, height=64)
        track.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(50):
            shade = Image.new("RGBA", (128, 64), (255 - 5 * number,) * 3)
            frame = av.VideoFrame.from_bytes(shade.tobytes(), 128, 64)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(track.encode(frame))
        output.mux(track.encode(None))


@pytest.mark.parametrize(
    ("container", "codec", "name"),
    [
        ("avi", "mpeg4", "mpeg4"),
        ("matroska", "libx264", "h264"),
        ("mov", "mjpeg", "mjpeg"),
        ("mpeg", "mpeg2video", "mpeg2video"),
        ("webm", "libvpx", "vp8"),
    ],
)
def test_sealed_pyav_knows_each_container(tmp_path: Path, container: str, codec: Codec, name: str) -> None:
    """The sealed child takes frames from all over a film, in their order, whatever the container."""
    film(tmp_path / "film", container, codec)
    data = (tmp_path / "film").read_bytes()

    async def shades() -> tuple[str, list[Any]]:
        async with ProcessHost(process_type("video")) as host:
            plugin = host.proxy(load("interfaces").Video)
            frames = [frame async for frame in plugin.frames(data, 3, 64)]
            return (await plugin.describe(data)).codec, [frame.image.getpixel((0, 0)) for frame in frames]

    codec_name, found = anyio.run(shades)
    assert codec_name == name
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 3


def process_type(name: str) -> Process:
    return load_config(MEDIA / "belljar.toml").process(name)


def test_own_files_are_taken(tmp_path: Path) -> None:
    """Files named as arguments are what the sheet shows; one that is no picture costs a line and nothing else."""
    photograph(500).save(tmp_path / "mine.webp")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = (str(tmp_path / "mine.webp"), str(tmp_path / "broken.png"))
    ended = run(MEDIA / "main.py", *files, "--out", str(tmp_path / "out"))
    assert f"no thumbnail of {files[1]}: not a picture that Pillow knows" in ended.stdout
    with Image.open(tmp_path / "out" / "contact-sheet.png") as sheet:
        assert sheet.width < 500


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--out", "{folder}/file"), "could not write to the output folder {folder}/file"),
        (("{folder}/none.png", "--out", "{folder}/out"), "could not read {folder}/none.png: No such file"),
    ],
)
def test_bad_arguments_give_one_sentence(tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    """An unwritable output folder or a missing file is one sentence and exit code 2."""
    (tmp_path / "file").touch()
    ended = run(MEDIA / "main.py", *(argument.format(folder=tmp_path) for argument in arguments), code=2)
    assert ended.stderr.startswith(f"error: {expected.format(folder=tmp_path)}")
    assert ended.stderr.count("\n") == 1
    assert not ended.stdout


def test_a_dead_child_is_replaced(tmp_path: Path) -> None:
    """A job that kills its child, one that fails and one that works: each has its result, the last from a new child."""
    plugin = tmp_path / "fragile.py"
    plugin.write_text(
        "import os\n"
        "class Fragile:\n"
        "    def work(self, job: str) -> str:\n"
        "        if job == 'die': os._exit(3)\n"
        "        if job == 'fail': raise ValueError(job)\n"
        "        return job\n",
        encoding="utf-8",
    )
    results: dict[str, object] = {}
    children: list[int | None] = []

    async def work(host: ProcessHost, job: str) -> object:
        return await host.call("work", job, returns=str)

    def launched(host: ProcessHost) -> None:
        children.append(host.child_pid)

    async def all_jobs() -> None:
        process = Process(plugin=f"{plugin}:Fragile", policy=Policy.media())
        await load("jobs").run_jobs(
            process,
            ("fail", "die", "live"),
            work,
            launched=launched,
            done=results.__setitem__,
        )

    anyio.run(all_jobs)
    assert isinstance(results["fail"], RemoteError)
    assert isinstance(results["die"], ChildEnded)
    assert results["live"] == "live"
    assert len(set(children)) == 2
