"""``BELLJAR_FAKE_MISSING``: for each name, who refuses, what ``auto`` takes then, and that it really works."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from belljar.host.errors import LaunchError
from belljar.host.process_host import ProcessHost
from belljar.ipc.errors import RemoteError
from belljar.sandbox.backends import BACKENDS, host_half
from belljar.sandbox.landlock import FEATURES
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Policy
from belljar.sandbox.probe import probe
from belljar.sandbox.protection import Operation, Verdict

from ..helpers import launch, only_over_socket, write_plugin

pytestmark = pytest.mark.anyio

CONFINING = set(BACKENDS) - {"none"}
BY_BWRAP = {"namespaces", "bubblewrap"}
BY_PROGRAMS = {"namespaces", "chrome-sandbox", "bubblewrap"}

REFUSING: dict[str, set[str]] = {
    "userns": BY_BWRAP,
    "pidns": BY_PROGRAMS,
    "netns": BY_PROGRAMS,
    "ipcns": BY_BWRAP,
    "mountns": BY_BWRAP,
    "utsns": BY_BWRAP,
    "cgroupns": BY_BWRAP,
    "empty-root": {"namespaces"},
    "capabilities": {"namespaces"},
    "bwrap": {"bubblewrap"},
    "chrome-sandbox": {"chrome-sandbox"},
    "landlock": {"bubblewrap", "landlock"},
    "landlock-abi=0": {"bubblewrap", "landlock"},
    "landlock-abi=1": set(),
    "seccomp-listener": set(),
    "passpidfd": set(),
    "tsync": CONFINING,
    "seccomp-tsync": CONFINING,
    "seccomp": CONFINING,
    "no-new-privs": CONFINING,
    "rlimits": CONFINING,
    "pidfd": set(BACKENDS),
    "memfd-seal": set(BACKENDS),
    "proc": set(BACKENDS),
}
"""Faked name -> the backends that then refuse."""


@pytest.fixture(autouse=True)
def _no_other_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BELLJAR_FAKE_MISSING", raising=False)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop will do: nothing here depends on it."""
    return "asyncio"


def usable() -> list[str]:
    """Return the backends that work here without a fake, strongest first."""
    machine = probe()
    return [name for name in BACKENDS if not machine.missing(host_half(name).requires)]


async def answer(**fields: Any) -> ProcessHost:
    """Launch, call once, and return the host of the ended child."""
    async with launch(**fields) as host:
        assert await host.call("add", 20, 22) == 42
    return host


async def sentence(**fields: Any) -> str:
    """Launch in vain and return why."""
    with pytest.raises(LaunchError) as caught:
        await launch(**fields).__aenter__()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", REFUSING)
async def test_who_needs_it_refuses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that needs a faked feature refuses at stage 1: which feature, that it is faked, how to end that."""
    here = usable()
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", name)
    feature = {"tsync": "seccomp-tsync", "landlock-abi=0": "landlock"}.get(name, name)
    for backend in REFUSING[name] & set(here):
        said = await sentence(backend=backend)
        assert said.startswith(f"stage 1 (prepare): backend '{backend}' cannot be used here: ")
        assert feature in said
        assert "faked" in said
        assert said.endswith("; unset BELLJAR_FAKE_MISSING")
        assert said.count("unset BELLJAR_FAKE_MISSING") == 1


@pytest.mark.parametrize("name", REFUSING)
async def test_auto_falls_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``auto`` launches a child of the strongest backend that is left; if none that confines is, it refuses all."""
    left = [backend for backend in usable() if backend not in REFUSING[name] | {"none"}]
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", name)
    if left:
        host = await answer(backend="auto")
        assert host.protection is not None
        assert host.protection.backend == left[0]
        assert host.protection.shortfall() is None
    else:
        assert "no backend works here and meets the floor" in await sentence(backend="auto")


@pytest.mark.parametrize("name", [name for name, refusing in REFUSING.items() if 0 < len(refusing) < len(BACKENDS)])
async def test_prefer_decides_the_fallback(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``prefer`` the next in its order is launched, even `none` where it is named and no floor is set."""
    first = sorted(REFUSING[name])[0]
    left = [backend for backend in reversed(usable()) if backend not in REFUSING[name]]
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", name)
    host = await answer(backend="auto", prefer=(first, *left), require=())
    assert host.protection is not None
    assert host.protection.backend == left[0] == "none"


@pytest.mark.parametrize(
    ("name", "require", "takes"),
    [
        ("userns", "empty-root", "chrome-sandbox"),
        ("empty-root", "empty-root", "chrome-sandbox"),
        ("userns", "landlock", "landlock"),
        ("pidns", "files", "landlock"),
        ("landlock", "network", "namespaces"),
    ],
)
async def test_require_decides_the_fallback(
    name: str, require: str, takes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fallback below the floor is passed over for a weaker one that meets it."""
    if takes not in usable():
        pytest.skip(f"{takes} does not work here")
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", name)
    host = await answer(backend="auto", require=(require,))
    assert host.protection is not None
    assert host.protection.backend == takes


async def test_a_floor_that_no_fallback_meets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the floor there is no child: each backend is named with what it lacks."""
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", "pidns")
    said = await sentence(backend="auto", require=("empty-root",))
    assert "pidns, faked as missing" in said or "pidns: faked" in said
    for backend in ("landlock", "seccomp"):
        assert backend in said
    assert "it has no empty-root; choose another backend, or ask for less in require" in said


async def test_without_a_listener_refusals_have_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a listener the seal refuses as well, and only the name of the call is lost."""
    async with launch() as host:
        with pytest.raises(RemoteError, match="the seal refused openat"):
            await host.call("open_file", "/etc/hostname")
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", "seccomp-listener")
    async with launch() as host:
        with pytest.raises(RemoteError, match="Permission denied") as caught:
            await host.call("open_file", "/etc/hostname")
    assert caught.value.refused == ()


@pytest.mark.parametrize("fakes", ["passpidfd", "seccomp-listener, passpidfd"])
async def test_without_passpidfd_no_message_brings_one(fakes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without SO_PASSPIDFD the host asks for none, and finds the child by its number and a second look."""
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", fakes)
    for backend in usable():
        host = await answer(backend=backend)
        assert host._launching.connection.has_pidfds is False


def abi_here() -> int:
    """Return the real landlock ABI."""
    return probe().landlock_abi


@pytest.mark.parametrize("abi", range(1, 7))
@pytest.mark.parametrize("backend", ["landlock", "bubblewrap"])
async def test_an_older_landlock_is_really_used(
    abi: int, backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The report lists what the faked ABI does not know; what cannot be kept within read_write is refused."""
    if backend not in usable() or abi_here() < 6:
        pytest.skip("needs the backend and ABI 6")
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", f"landlock-abi={abi}")
    granted, foreign = tmp_path / "granted", tmp_path / "foreign"
    granted.mkdir()
    foreign.write_text("content")
    source = "import os\nclass Plug:\n    def cut(self, path: str) -> None: os.truncate(path, 0)\n"
    plugin, policy = write_plugin(tmp_path, source), Policy(read_write=(str(granted),))
    if abi < 3 and backend == "landlock":
        assert "truncate(2) within read_write before ABI 3" in await sentence(backend=backend, policy=policy)
        policy = Policy(read_only=(str(granted),))
    async with launch(plugin, backend=backend, policy=policy) as host:
        assert host.protection is not None
        report = host.protection
        with pytest.raises(RemoteError):
            await host.call("cut", str(foreign))
    assert foreign.read_text() == "content"
    found = report.landlock
    assert found is not None
    assert (found.abi, found.granted) == (abi, tuple(feature.name for feature in FEATURES if feature.abi <= abi))
    assert found.unknown == tuple(feature.name for feature in FEATURES if feature.abi > abi)
    assert f"ABI {abi}: " in report.layer(Layer.LANDLOCK).detail
    assert f"not known to this kernel: {', '.join(found.unknown)}" in report.layer(Layer.LANDLOCK).detail
    assert report.operation(Operation.WRITE_FILE).verdict is Verdict.ENFORCED


@only_over_socket
@pytest.mark.parametrize(("abi", "layers"), [(5, (Layer.SECCOMP,)), (6, (Layer.LANDLOCK, Layer.SECCOMP))])
async def test_an_older_landlock_holds_less(
    abi: int, layers: tuple[Layer, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scopes came with ABI 6: before it, signals and abstract sockets are the filter's alone."""
    if abi_here() < 6:
        pytest.skip("needs ABI 6")
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", f"landlock-abi={abi}")
    host = await answer(backend="landlock")
    assert host.protection is not None
    for operation in (Operation.SIGNAL_OUTSIDE, Operation.UNIX_ABSTRACT):
        assert host.protection.operation(operation).verdict is Verdict.ENFORCED
        assert host.protection.operation(operation).layers == layers


async def test_an_abi_that_a_policy_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that asks for what only a newer ABI can keep apart is refused, not widened, and ``auto`` passes on."""
    if abi_here() < 6 or "bubblewrap" not in usable():
        pytest.skip("needs ABI 6 and bubblewrap")
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", "landlock-abi=5")
    policy = Policy(subprocesses=True)
    assert "before ABI 6 (Linux 6.12); choose another backend" in await sentence(backend="landlock", policy=policy)
    host = await answer(backend="auto", prefer=("landlock", "bubblewrap"), policy=policy)
    assert host.protection is not None
    assert host.protection.backend == "bubblewrap"


async def test_a_real_absence_is_no_fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A faked ABI that is newer than the kernel's changes nothing."""
    monkeypatch.setenv("BELLJAR_FAKE_MISSING", f"landlock-abi={abi_here() + 1}")
    assert probe().landlock_abi == abi_here()
    assert os.environ["BELLJAR_FAKE_MISSING"]
