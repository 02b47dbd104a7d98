"""The record store of the media example: what it keeps for a sealed plugin, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from belljar import CallTimeout, ProcessHost, RemoteError, ServiceRefused

from .helpers import on_both, process, require, write_plugin

ORIGIN = "https://example.org"


def below(folder: Path) -> dict[str, bytes]:
    """Every file below *folder*."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_records_are_read_changed_and_deleted(tmp_path: Path, example: Any) -> None:
    """A record holds what was written last, and is gone without data; only their owner can read the files."""
    with example.storage.Profile(tmp_path / "profile").records("plug", ORIGIN) as records:
        assert records.read("a") == b""
        for name, data in (("a", b"one"), ("b", b"other"), ("a", b"two")):
            records.write(name, data)
            assert records.read(name) == data
        (folder,) = (tmp_path / "profile" / "records").iterdir()
        assert below(folder) == {"a": b"two", "b": b"other"}
        for _ in range(2):
            records.write("a", b"")
            assert records.read("a") == b""
        assert below(folder) == {"b": b"other"}
    assert {path.stat().st_mode & 0o077 for path in (folder, folder / "b", folder.parent.parent)} == {0}


def test_number_of_records_is_limited(tmp_path: Path, example: Any) -> None:
    """A plugin may have so many records, and may still change and delete what it has."""
    with example.storage.Profile(tmp_path).records("plug", ORIGIN) as records:
        for number in range(16):
            records.write(f"x{number}", b"x")
        with pytest.raises(ServiceRefused, match="there are 16 records: that is the most"):
            records.write("more", b"x")
        records.write("x0", b"changed")
        assert (records.read("x0"), records.read("more")) == (b"changed", b"")
        records.write("x0", b"")
        records.write("more", b"x")


def test_interrupted_write_leaves_the_old_record(tmp_path: Path, example: Any) -> None:
    """What a write left unfinished is no record, and does not stand in the way of the next."""
    with example.storage.Profile(tmp_path).records("plug", ORIGIN) as records:
        records.write("a", b"old")
        (folder,) = (tmp_path / "records").iterdir()
        (folder / ".unfinished").write_bytes(b"half of something much longer")
        assert records.read("a") == b"old"
        records.write("a", b"new")
        assert below(folder) == {"a": b"new"}


def test_failed_write_is_refused_in_words_for_the_plugin(tmp_path: Path, example: Any) -> None:
    """What the disk refuses, the plugin is refused: with the cause, without a path, and the old record stays."""
    with example.storage.Profile(tmp_path).records("plug", ORIGIN) as records:
        records.write("a", b"old")
        (folder,) = (tmp_path / "records").iterdir()
        (folder / ".unfinished").mkdir()
        with pytest.raises(ServiceRefused) as caught:
            records.write("a", b"new")
        assert str(caught.value) == "the host could not write the record a: Is a directory"
        assert records.read("a") == b"old"


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

    def storage_id(profile: str, *owner: str) -> bytes:
        with example.storage.Profile(tmp_path / profile).records(*owner) as records:
            found: bytes = records.storage_id()
            return found

    owners = [("plug", ORIGIN), ("plug", f"{ORIGIN}/"), ("plu", f"g{ORIGIN}"), (ORIGIN, "plug")]
    ids = [{storage_id(profile, *owner) for profile in ("one", "two") for owner in owners} for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 2 * len(owners)
    assert {len(found) for found in ids[0]} == {32}


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


HOSTILE = """\
    from time import sleep
    from typing import Any
    import msgspec
    from belljar import ServiceError
    from belljar.child import services
    from belljar.ipc.interface import codec

    class Raw:  # past all that its own process checks
        kind, result, item, plain, raises, upload, uploads = "call", codec(Any), None, True, {}, {}, ()
        def __init__(self, name: str) -> None:
            self.name = name
        def encode_arguments(self, arguments: Any, attaching: Any) -> bytes:
            return msgspec.msgpack.encode(arguments)

    def ask(target: int, method: str, arguments: list) -> Any:
        return services._services.peer.ask(target, Raw(method), tuple(arguments))

    class Plug:
        def ask(self, target: int, method: str, arguments: list) -> Any:
            return ask(target, method, arguments)
        def many(self) -> None:
            for number in range(100):
                ask(STORE, "write", [f"x{number}", b"x"])
        def for_ever(self) -> None:
            while True:
                try:
                    ask(STORE, "write", ["x", bytes(65536)])
                    ask(STORE, "read", [".."])
                except BaseException:
                    pass
        def silent(self) -> None:
            sleep(3600)

    STORE = 1
"""

STORE, NOTHING = 1, 2

WRONG: dict[str, tuple[int, str, list[object], str]] = {
    "parent": (STORE, "write", ["../x", b"x"], "matching regex"),
    "absolute": (STORE, "write", ["/tmp/x", b"x"], "matching regex"),
    "parent read": (STORE, "read", ["../../salt"], "matching regex"),
    "itself": (STORE, "write", [".", b""], "matching regex"),
    "unfinished": (STORE, "write", [".unfinished", b"x"], "matching regex"),
    "empty": (STORE, "write", ["", b"x"], "matching regex"),
    "long": (STORE, "write", ["x" * 65, b"x"], "matching regex"),
    "endless": (STORE, "write", ["x" * 1_000_000, b"x"], "matching regex"),
    "null": (STORE, "write", ["x\0", b"x"], "matching regex"),
    "line": (STORE, "write", ["x\n", b"x"], "matching regex"),
    "second line": (STORE, "write", ["/\nx", b"x"], "matching regex"),
    "foreign digit": (STORE, "write", ["\u0663", b"x"], "matching regex"),
    "large": (STORE, "write", ["x", bytes(65537)], "length <= 65536"),
    "name is no text": (STORE, "read", [7], "Expected `str`, got `int`"),
    "name is bytes": (STORE, "read", [b"x"], "Expected `str`, got `bytes`"),
    "no data": (STORE, "write", ["x", None], "Expected `bytes`, got `None`"),
    "data is a list": (STORE, "write", ["x", [120]], "Expected `bytes`, got `array`"),
    "too few": (STORE, "write", ["x"], "1 arguments do not fit"),
    "too many": (STORE, "write", ["x", b"x", b"x"], "3 arguments do not fit"),
    "other method": (STORE, "delete", ["x"], "it has read, storage_id, write"),
    "not of the interface": (STORE, "_write", ["x", b"x"], "it has read, storage_id, write"),
    "attribute": (STORE, "_folder", [], "it has read, storage_id, write"),
    "other service": (NOTHING, "records", ["plug", "https://victim.example"], "nothing is offered as 2"),
}


def offering(example: Any, records: Any, folder: Path, **fields: Any) -> ProcessHost:
    """A child with a hostile plugin, to which *records* are offered; *fields* are of its `Process`."""
    sealed = process(write_plugin(folder, HOSTILE), **fields)
    return ProcessHost(sealed, services={example.interfaces.RecordStore: records})


@pytest.mark.anyio
@on_both
async def test_hostile_question_is_refused(tmp_path: Path, example: Any, backend: str) -> None:
    """What no plugin may ask is refused in one sentence, nothing is written anywhere, and the store goes on."""
    require(backend)
    profile = example.storage.Profile(tmp_path / "out" / "profile")
    with profile.records("plug", ORIGIN) as records:
        async with offering(example, records, tmp_path, backend=backend) as host:
            before = below(tmp_path)
            for name, (target, method, arguments, expected) in WRONG.items():
                with pytest.raises(RemoteError, match=f"ServiceError: .*{expected}") as caught:
                    await host.call("ask", target, method, arguments)
                assert "\n" not in str(caught.value), name
                assert len(str(caught.value)) < 300, name
            assert below(tmp_path) == before
            await host.call("ask", STORE, "write", ["x", b"good"])
            assert await host.call("ask", STORE, "read", ["x"], returns=bytes) == b"good"


@pytest.mark.anyio
@on_both
async def test_too_many_records_are_refused(tmp_path: Path, example: Any, backend: str) -> None:
    """A plugin that writes on and on is stopped at the number that it may have."""
    require(backend)
    with example.storage.Profile(tmp_path / "profile").records("plug", ORIGIN) as records:
        async with offering(example, records, tmp_path, backend=backend) as host:
            with pytest.raises(RemoteError, match="ServiceError: there are 16 records: that is the most"):
                await host.call("many")
    (folder,) = (tmp_path / "profile" / "records").iterdir()
    assert below(folder) == {f"x{number}": b"x" for number in range(16)}


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["for_ever", "silent"])
async def test_plugin_that_does_not_come_to_an_end_is_killed(tmp_path: Path, example: Any, method: str) -> None:
    """A plugin that asks for ever, or not at all, costs a bounded time, and its records are free and whole."""
    profile = example.storage.Profile(tmp_path / "profile")
    with profile.records("plug", ORIGIN) as records:
        async with offering(example, records, tmp_path, call_timeout=0.3, cancel_grace=0.2) as host:
            with pytest.raises(CallTimeout, match=r"did not answer within 0\.3 s"):
                await host.call(method)
            assert (await host.wait()).signal == "SIGKILL"
    with profile.records("plug", ORIGIN) as records:
        assert records.read("x") == (bytes(65536) if method == "for_ever" else b"")
