"""The record store of the media example: what it keeps for a sealed plugin, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from belljar import Process, ProcessHost, ResultError

from .helpers import on_both, process, require, write_plugin

ORIGIN = "https://example.org"


def test_records_are_read_changed_and_deleted(tmp_path: Path, example: Any) -> None:
    """Wishes are granted in their order; a record without data is gone; only their owner can read the files."""
    read, write = example.interfaces.Read, example.interfaces.Write
    with example.storage.Profile(tmp_path / "profile").records("plug", ORIGIN) as records:
        answers = records.serve([read("a"), write("a", b"one"), read("a"), write("a", b"two"), write("b", b"other")])
        assert answers == [b"", b"", b"one", b"", b""]
        (folder,) = (tmp_path / "profile" / "records").iterdir()
        assert below(folder) == {"a": b"two", "b": b"other"}
        assert records.serve([write("a", b""), write("a", b""), read("a"), read("b")]) == [b"", b"", b"", b"other"]
        assert below(folder) == {"b": b"other"}
    assert {path.stat().st_mode & 0o077 for path in (folder, folder / "b", folder.parent.parent)} == {0}


def test_number_of_records_is_limited(tmp_path: Path, example: Any) -> None:
    """A plugin may have so many records, over all its results, and may still change and delete what it has."""
    write = example.interfaces.Write
    with example.storage.Profile(tmp_path).records("plug", ORIGIN) as records:
        records.serve([write(f"x{number}", b"x") for number in range(16)])
        with pytest.raises(example.storage.Refused, match="wants 17 records: 16 is the most"):
            records.serve([write("x0", b"changed"), write("more", b"x")])
        assert records.serve([example.interfaces.Read("x0")]) == [b"x"]
        records.serve([write("x0", b"")])
        records.serve([write("more", b"x")])


def test_interrupted_write_leaves_the_old_record(tmp_path: Path, example: Any) -> None:
    """What a write left unfinished is no record, and does not stand in the way of the next."""
    read, write = example.interfaces.Read, example.interfaces.Write
    with example.storage.Profile(tmp_path).records("plug", ORIGIN) as records:
        records.serve([write("a", b"old")])
        (folder,) = (tmp_path / "records").iterdir()
        (folder / ".unfinished").write_bytes(b"half of something much longer")
        assert records.serve([read("a"), write("a", b"new"), read("a")]) == [b"old", b"", b"new"]
        assert below(folder) == {"a": b"new"}


def test_records_belong_to_one_run(tmp_path: Path, example: Any) -> None:
    """Two runs cannot use the same records at once; those of another origin they can."""
    profile = example.storage.Profile(tmp_path)
    with profile.records("plug", ORIGIN):
        with (
            pytest.raises(example.command.Trouble, match="are in use"),
            example.storage.Profile(tmp_path).records("plug", ORIGIN),
        ):
            pytest.fail("two runs have the same records")
        with profile.records("plug", "https://elsewhere.example"):
            pass
    with profile.records("plug", ORIGIN):
        pass


def test_storage_ids_differ_and_stay(tmp_path: Path, example: Any) -> None:
    """A storage id is the same each time, and another one for each plugin, origin and profile."""
    profile, again = example.storage.Profile(tmp_path / "one"), example.storage.Profile(tmp_path / "one")
    other = example.storage.Profile(tmp_path / "two")
    assert profile.storage_id("plug", ORIGIN) == again.storage_id("plug", ORIGIN)
    owners = [("plug", ORIGIN), ("plug", f"{ORIGIN}/"), ("plu", f"g{ORIGIN}"), (ORIGIN, "plug")]
    ids = {kept.storage_id(*owner) for kept in (profile, other) for owner in owners}
    assert len(ids) == 2 * len(owners)
    assert {len(storage_id) for storage_id in ids} == {32}


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda salt: salt.chmod(0o644), "others may read .*salt"),
        (lambda salt: salt.write_bytes(b"short"), "holds 5 bytes and not 32"),
        (lambda salt: (salt.unlink(), salt.symlink_to("/dev/null")), "could not use .*: Too many levels"),
        (lambda salt: (salt.unlink(), salt.mkdir()), "could not use .*: Is a directory"),
    ],
)
def test_profile_with_a_bad_secret_is_not_used(
    tmp_path: Path, example: Any, harm: Callable[[Path], object], expected: str
) -> None:
    """A secret that others may have read or that is none gives one sentence."""
    example.storage.Profile(tmp_path)
    harm(tmp_path / "salt")
    with pytest.raises(example.command.Trouble, match=expected):
        example.storage.Profile(tmp_path)


HOSTILE_WISHES: dict[str, tuple[str, str]] = {
    "parent": ("[{'type': 'Write', 'name': '../x', 'data': b'x'}]", "named a record '../x'"),
    "absolute": ("[{'type': 'Write', 'name': '/tmp/x', 'data': b'x'}]", "named a record '/tmp/x'"),
    "parent read": ("[{'type': 'Read', 'name': '../../salt'}]", "named a record '../../salt'"),
    "itself": ("[{'type': 'Write', 'name': '.', 'data': b''}]", "named a record '.'"),
    "unfinished": ("[{'type': 'Write', 'name': '.unfinished', 'data': b'x'}]", "named a record '.unfinished'"),
    "empty": ("[{'type': 'Write', 'name': '', 'data': b'x'}]", "named a record ''"),
    "long": ("[{'type': 'Write', 'name': 'x' * 65, 'data': b'x'}]", "named a record 'xxx"),
    "endless": ("[{'type': 'Write', 'name': 'x' * 100000, 'data': b'x'}]", r"x\.\.\.': 1 to 64"),
    "null": ("[{'type': 'Write', 'name': 'x\\0', 'data': b'x'}]", r"named a record 'x\\x00'"),
    "line": ("[{'type': 'Write', 'name': 'x\\n', 'data': b'x'}]", r"named a record 'x\\n'"),
    "foreign digit": ("[{'type': 'Write', 'name': '\\u0663', 'data': b'x'}]", "named a record "),
    "large": ("[{'type': 'Write', 'name': 'x', 'data': bytes(65537)}]", "has 65537 bytes: 65536 is the most"),
    "second is bad": (
        "[{'type': 'Write', 'name': 'x', 'data': b'x'}, {'type': 'Write', 'name': '', 'data': b'x'}]",
        "named a record ''",
    ),
    "many": ("[{'type': 'Write', 'name': f'x{n}', 'data': b'x'} for n in range(17)]", "length <= 16"),
    "no list": ("{'type': 'Read', 'name': 'x'}", "Expected `array`"),
    "no kind": ("[{'name': 'x'}]", "missing required field `type`"),
    "other kind": ("[{'type': 'Delete', 'name': 'x'}]", "Invalid value 'Delete'"),
    "no name": ("[{'type': 'Read', 'name': 7}]", "Expected `str`, got `int`"),
    "no data": ("[{'type': 'Write', 'name': 'x', 'data': None}]", "Expected `bytes`, got `None`"),
}


def below(folder: Path) -> dict[str, bytes]:
    """Every file below *folder*."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def plugin(folder: Path, wishes: str) -> str:
    """A plugin whose every answer is *wishes*, whatever they are."""
    source = f"""\
        from typing import Any
        class Plug:
            def begin(self, storage_id: bytes) -> Any:
                return {wishes}
            def serve(self, answers: list[bytes]) -> Any:
                return {wishes}
    """
    return write_plugin(folder, source)


async def wish(example: Any, profile: Any, sealed: Process) -> None:
    """Let a plugin begin, and grant what it wishes."""
    with profile.records("plug", ORIGIN) as records:
        async with ProcessHost(sealed) as host:
            stored = host.proxy(example.interfaces.Stored)
            await example.storage.settle(stored, stored.begin(profile.storage_id("plug", ORIGIN)), records)


@pytest.mark.anyio
@on_both
@pytest.mark.parametrize("name", HOSTILE_WISHES)
async def test_hostile_wish_is_refused(tmp_path: Path, example: Any, backend: str, name: str) -> None:
    """A wish that no plugin may have is refused in one sentence, and nothing is written anywhere."""
    require(backend)
    wishes, expected = HOSTILE_WISHES[name]
    profile = example.storage.Profile(tmp_path / "out" / "profile")
    sealed = process(plugin(tmp_path, wishes), backend=backend)
    before = below(tmp_path)
    with pytest.raises((example.storage.Refused, ResultError), match=expected) as caught:
        await wish(example, profile, sealed)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert below(tmp_path) == before


@pytest.mark.anyio
@on_both
async def test_endless_wishes_are_refused(tmp_path: Path, example: Any, backend: str) -> None:
    """A plugin that never has enough is refused after a few rounds."""
    require(backend)
    sealed = process(plugin(tmp_path, "[{'type': 'Read', 'name': 'x'}]"), backend=backend)
    with pytest.raises(example.storage.Refused, match="after 8 rounds"):
        await wish(example, example.storage.Profile(tmp_path / "profile"), sealed)


@pytest.mark.anyio
async def test_silent_plugin_is_killed(tmp_path: Path, example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that does not answer costs a bounded time."""
    monkeypatch.setattr(example.command, "LONGEST", 0.1)
    sealed = process(plugin(tmp_path, "__import__('time').sleep(3600)"))
    with pytest.raises(example.command.Trouble, match=r"did not answer within 0\.1 s"):
        await wish(example, example.storage.Profile(tmp_path / "profile"), sealed)
