from __future__ import annotations

import errno
import fcntl
import io
import os
import sys
import zipfile
from pathlib import Path

import pytest

from belljar.host import bundle
from belljar.host.bundle import Bundle, make_bundle
from belljar.host.config.process_type import Process
from belljar.host.errors import ConfigError
from belljar.ipc.payload import SEALS


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A plugin of one file."""
    path = tmp_path / "thumbnailer.py"
    path.write_text("class Thumbnailer:\n    pass\n")
    return path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A plugin that is a package, with what editors and Python leave in one."""
    folder = tmp_path / "decoders"
    (folder / "tables").mkdir(parents=True)
    (folder / "__pycache__").mkdir()
    (folder / ".git").mkdir()
    (folder / "__init__.py").write_text("from .png import Decoders\n")
    (folder / "png.py").write_text("class Decoders: ...\n")
    (folder / "tables" / "huffman.bin").write_bytes(bytes(range(256)))
    (folder / "__pycache__" / "png.cpython-311.pyc").write_bytes(b"stale")
    (folder / ".git" / "config").write_text("secret")
    (folder / ".hidden").write_text("secret")
    return folder


def process(plugin: Path, *files: Path) -> Process:
    return Process(plugin=f"{plugin}:X", files=tuple(map(str, files)))


def contents(bundle: Bundle) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(os.pread(bundle.fd, bundle.size, 0))) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        return {name: archive.read(name) for name in archive.namelist()}


def names(plugin: Path, *files: Path) -> list[str]:
    with make_bundle(process(plugin, *files)) as made:
        return list(contents(made))


def refusal(plugin: Path, *files: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        make_bundle(process(plugin, *files)).close()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_becomes_a_zip_of_itself(plugin: Path) -> None:
    """The bundle of one file holds its bytes under its name, and says what to import."""
    with make_bundle(Process(plugin=f"{plugin}:Thumbnailer")) as made:
        assert contents(made) == {"thumbnailer.py": plugin.read_bytes()}
        assert (made.module, made.attribute) == ("thumbnailer", "Thumbnailer")
        assert os.fstat(made.fd).st_size == made.size


def test_a_bundle_cannot_be_changed(plugin: Path) -> None:
    """Shrinking, growing, writing and unsealing are refused by the kernel, and a child that execs keeps no fd."""
    with make_bundle(process(plugin)) as made:
        assert fcntl.fcntl(made.fd, fcntl.F_GET_SEALS) & SEALS == SEALS
        for change in (
            lambda: os.ftruncate(made.fd, 0),
            lambda: os.ftruncate(made.fd, made.size + 1),
            lambda: os.pwrite(made.fd, b"x", 0),
            lambda: fcntl.fcntl(made.fd, fcntl.F_ADD_SEALS, 0x20),
        ):
            with pytest.raises(PermissionError) as caught:
                change()
            assert caught.value.errno == errno.EPERM
        assert not os.get_inheritable(made.fd)


def test_a_bundle_closes_its_fd_once(plugin: Path) -> None:
    """The fd is closed at the end of the block; closing again does not close a stranger's."""
    with make_bundle(process(plugin)) as made:
        fd = made.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    other = os.open("/dev/null", os.O_RDONLY)
    made.close()
    os.fstat(other)
    os.close(other)
    assert made.fileno() == -1


def test_a_package_is_bundled_without_leftovers(package: Path) -> None:
    """All files of the package are there in a fixed order; bytecode and hidden names are not."""
    assert names(package) == ["decoders/__init__.py", "decoders/png.py", "decoders/tables/huffman.bin"]


def test_files_stand_beside_the_plugin(plugin: Path, package: Path, tmp_path: Path) -> None:
    """A file of ``files`` stands at the top under its name, a folder below its name."""
    data = tmp_path / "data.bin"
    data.write_bytes(b"data")
    assert names(plugin, data, package / "tables") == ["thumbnailer.py", "data.bin", "tables/huffman.bin"]


def test_two_files_of_one_name_are_refused(plugin: Path, tmp_path: Path) -> None:
    """A name of the bundle means one file."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thumbnailer.py").write_text("")
    assert "have one name in the bundle" in refusal(plugin, tmp_path / "other" / "thumbnailer.py")
    assert "have one name in the bundle" in refusal(plugin, plugin)


def test_a_link_out_of_the_package_is_refused(package: Path, tmp_path: Path) -> None:
    """A plugin's folder cannot carry other files of the host into the child."""
    (tmp_path / "secret").write_text("secret")
    (package / "inside.py").symlink_to("png.py")
    assert "decoders/inside.py" in names(package)
    (package / "outside.py").symlink_to("../secret")
    assert "is a link that leads out of the folder" in refusal(package)


def test_a_linked_folder_is_refused(package: Path) -> None:
    """A link to a folder is refused wherever it leads, for it may lead to itself."""
    (package / "loop").symlink_to(".")
    assert "is a link to a folder" in refusal(package)


def test_a_dangling_link_is_refused(package: Path) -> None:
    """A link to nothing is reported, not left out."""
    (package / "gone.py").symlink_to("nothing.py")
    assert "could not look at" in refusal(package)


def test_a_plugin_may_be_a_link(plugin: Path, tmp_path: Path) -> None:
    """The plugin's own path may be a link; the link's name counts."""
    (tmp_path / "current.py").symlink_to(plugin)
    with make_bundle(process(tmp_path / "current.py")) as made:
        assert made.module == "current"
        assert contents(made) == {"current.py": plugin.read_bytes()}


def test_a_named_pipe_is_refused_without_waiting(package: Path) -> None:
    """What is not a plain file is refused; a pipe without a writer does not block the host."""
    os.mkfifo(package / "pipe")
    assert "expected a plain file" in refusal(package)


def test_a_name_that_is_not_ascii_is_refused(package: Path) -> None:
    """Names are ASCII, so that a child needs no code page for its bundle."""
    (package / "größe.py").write_text("")
    assert "plain ASCII" in refusal(package)


def test_a_name_of_python_is_refused_at_the_top(plugin: Path, tmp_path: Path) -> None:
    """A file that Python's own module of that name would hide is refused instead of ignored."""
    (tmp_path / "json.py").write_text("")
    assert "rename the file" in refusal(plugin, tmp_path / "json.py")


def test_too_much_is_refused_before_it_is_read(plugin: Path, tmp_path: Path) -> None:
    """The size limit counts what is on record, so a sparse file of a terabyte costs nothing."""
    with open(tmp_path / "huge.bin", "wb") as file:
        file.truncate(1 << 40)
    assert "limit of 64 MiB" in refusal(plugin, tmp_path / "huge.bin")


def test_too_many_files_are_refused(plugin: Path, tmp_path: Path) -> None:
    """The number of files is limited too."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(bundle.MAX_FILES):
        (folder / str(number)).touch()
    assert f"{bundle.MAX_FILES} files" in refusal(plugin, folder)


def test_an_endless_file_is_refused(plugin: Path) -> None:
    """A device among the files does not fill the host's memory."""
    assert "expected a plain file" in refusal(plugin, Path("/dev/zero"))


def test_hostile_source_is_not_parsed_in_the_host(tmp_path: Path) -> None:
    """Source that CPython's compiler chokes on is only copied: the sealed child is the one to parse it."""
    path = tmp_path / "deep.py"
    path.write_bytes(b"x = " + b"(" * 100_000 + b"\0" + b")" * 100_000)
    with make_bundle(process(path)) as made:
        assert contents(made)["deep.py"] == path.read_bytes()


@pytest.fixture
def settled(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plugin, taken for old enough to be kept in the cache."""
    monkeypatch.setattr(bundle, "_SETTLED_NS", -(10**18))
    return plugin


def test_an_unchanged_plugin_is_not_read_again(settled: Path) -> None:
    """A second bundle has the same bytes and an inode of its own, and no file is opened for it."""
    opened: list[object] = []
    # A hook cannot be taken off again (PEP 578); this one ends with its list.
    sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
    with make_bundle(process(settled)) as first:
        assert str(settled) in opened
        opened.clear()
        with make_bundle(process(settled)) as second:
            assert str(settled) not in opened
            assert contents(first) == contents(second)
            assert os.fstat(first.fd).st_ino != os.fstat(second.fd).st_ino


def test_a_changed_plugin_is_read_again(settled: Path) -> None:
    """A bundle is never older than its files, even if a file keeps its size and gets its old time back."""
    with make_bundle(process(settled)):
        times = settled.stat().st_atime_ns, settled.stat().st_mtime_ns
        text = settled.read_bytes().replace(b"pass", b"done")
        settled.write_bytes(text)
        os.utime(settled, ns=times)
        with make_bundle(process(settled)) as second:
            assert contents(second)["thumbnailer.py"] == text


def test_bundles_leave_no_fd(plugin: Path, package: Path) -> None:
    """After any number of bundles, made or refused, the process has the fds that it had."""
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(20):
        make_bundle(process(plugin)).close()
        refusal(plugin, plugin)
        refusal(package, Path("/dev/zero"))
    assert sorted(os.listdir("/proc/self/fd")) == before
