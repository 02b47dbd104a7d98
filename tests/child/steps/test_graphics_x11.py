"""The step graphics-x11, on a real X server: what works over the connection, and what it costs."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from Xlib import X
from Xlib.display import Display

from belljar.host.errors import ConfigError, LaunchError
from belljar.host.plan.step import Step
from belljar.host.process_host import ProcessHost
from belljar.ipc.errors import RemoteError
from belljar.ipc.stage import Stage
from belljar.sandbox.policy import Policy

from ...children.steps.paints import painted
from ...helpers import MUST_WORK, launch

pytestmark = pytest.mark.anyio

KIND = b"MIT-MAGIC-COOKIE-1"
UNTRUSTED = 1
PRELOAD = ("Xlib.display", "Xlib.ext.xtest", "Xlib.support.unix_connect")
COLOUR = 0x123456
KEY = 38


@dataclass
class Server:
    """An X server with a window of a client that trusts its own screen, and files with a key of each kind."""

    number: int
    trusted: Path
    untrusted: Path
    victim: Display
    window: int

    @property
    def socket(self) -> str:
        """Where it listens."""
        return f"/tmp/.X11-unix/X{self.number}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Xvfb on a display that it finds free."""
    if shutil.which("Xvfb") is None:
        if "graphics" in MUST_WORK.split(","):
            pytest.fail("BELLJAR_MUST_WORK names graphics, and there is no Xvfb")
        pytest.skip("there is no Xvfb (scripts/setup --graphics)")
    folder = tmp_path_factory.mktemp("x11")
    with ExitStack() as stack:
        trusted = write_key(folder / "trusted", 0, secrets.token_bytes(16))
        number = stack.enter_context(running(trusted))
        write_key(trusted, number, key_of(trusted))
        victim = connected(number, trusted)
        stack.callback(victim.close)
        answer = victim.security_generate_authorization(KIND.decode(), timeout=0, trust_level=UNTRUSTED)
        untrusted = write_key(folder / "untrusted", number, bytes(answer.auth_data_return))
        yield Server(number, trusted, untrusted, victim, show_window(victim))


@contextmanager
def running(authority: Path) -> Iterator[int]:
    """Run Xvfb; yield the number of its display, which it writes when it is ready."""
    reader, writer = os.pipe()
    argv = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "160x120x24", "-auth", str(authority)]
    argv += ["-nolisten", "tcp", "-noreset"]
    with subprocess.Popen(argv, pass_fds=[writer], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
        os.close(writer)
        try:
            with open(reader, "rb") as ready:
                assert select.select([ready], [], [], 20)[0], "Xvfb did not start"
                yield int(ready.readline())
        finally:
            program.terminate()


def write_key(path: Path, number: int, key: bytes, host: str = "") -> Path:
    """Write an authority file with one key for the display *number* of *host*, by default this one."""
    parts = ((host or socket.gethostname()).encode(), str(number).encode(), KIND, key)
    path.write_bytes(struct.pack(">H", 256) + b"".join(struct.pack(">H", len(part)) + part for part in parts))
    return path


def key_of(path: Path) -> bytes:
    """Return the key that `write_key` wrote."""
    return path.read_bytes()[-16:]


def connected(number: int, authority: Path) -> Display:
    """Return a connection of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAUTHORITY", str(authority))
        return Display(f"unix:{number}")


def show_window(display: Display) -> int:
    """Show a window of `COLOUR` over the whole screen, with the focus; return its number."""
    screen = display.screen()
    window = screen.root.create_window(
        *(0, 0, 160, 120, 0, screen.root_depth),
        background_pixel=COLOUR,
        override_redirect=True,
        event_mask=X.KeyPressMask | X.ExposureMask,
    )
    window.map()
    while display.next_event().type != X.Expose:
        pass
    window.set_input_focus(X.RevertToNone, X.CurrentTime)
    display.sync()
    return int(window.id)


def paints(backend: str, server: Server, **options: Any) -> ProcessHost:
    """Return a host of a child with a connection, under the policy that grants nothing."""
    step = Step("graphics-x11", options={"socket": server.socket, **options})
    return launch("steps/paints.py:Paints", backend=backend, policy=Policy(), preload=PRELOAD, early_init=(step,))


async def test_without_the_step_nothing_connects(backend: str, server: Server) -> None:
    """The seal refuses the socket, unless there is none."""
    env = {"XAUTHORITY": str(server.trusted)}
    fields: dict[str, Any] = {"policy": Policy(), "preload": PRELOAD, "env": env}
    async with launch("steps/paints.py:Paints", backend=backend, **fields) as host:
        if backend == "none":
            assert await host.call("connect", server.number, returns=bytes) == painted(server.victim)
            return
        with pytest.raises(RemoteError, match="DisplayConnectionError: Can't connect to display"):
            await host.call("connect", server.number)


@pytest.mark.parametrize("kind", ["trusted", "untrusted"])
async def test_a_sealed_child_paints(kind: str, backend: str, server: Server) -> None:
    """What it paints is what any client would have, pixel by pixel; what stays is one socket."""
    authority = str(getattr(server, kind))
    async with paints(backend, server, authority=authority, trusted=kind == "trusted") as host:
        report = host.early_init["graphics-x11"]
        assert (report.undeclared, [fd.kind for fd in report.left.fds], report.left.threads) == (None, ["socket"], {})
        pixels = await host.call("paint", returns=bytes)
        assert pixels == painted(server.victim)
        assert len({pixels[place : place + 3] for place in range(0, len(pixels), 4)}) == 3


async def test_a_trusted_connection_is_a_hole_in_the_seal(backend: str, server: Server) -> None:
    """A sealed child reads another client's window, takes its keyboard, and types into it."""
    async with paints(backend, server, authority=str(server.trusted), trusted=True) as host:
        assert await host.call("listen", returns=str) == "listens"
        assert await host.call("look", server.window, returns=str) == "563412"
        assert await host.call("type", KEY, returns=str) == "typed"
    while (event := server.victim.next_event()).type != X.KeyPress:
        assert event.type == X.MappingNotify  # of another keyboard, the one that types
    assert event.detail == KEY


async def test_an_untrusted_connection_sees_its_own_windows_only(backend: str, server: Server) -> None:
    """The server refuses pixels and keyboard, and has no extension with which to type."""
    async with paints(backend, server, authority=str(server.untrusted)) as host:
        assert await host.call("listen", returns=str) == "refused"
        assert await host.call("look", server.window, returns=str) == "refused"
        assert await host.call("type", KEY, returns=str) == "no XTEST"
        assert set(await host.call("extensions", returns=list[str])) == {"BIG-REQUESTS", "XC-MISC"}


async def test_a_trusted_connection_takes_a_word(backend: str, server: Server) -> None:
    """Without ``trusted = true`` the launch ends, and says what the plugin could have done."""
    with pytest.raises(LaunchError, match="read and type into every window; give it an untrusted key") as caught:
        await paints(backend, server, authority=str(server.trusted)).__aenter__()
    assert caught.value.stage is Stage.EARLY_INIT


async def test_neither_home_nor_environment_is_asked(server: Server, tmp_path: Path) -> None:
    """A key that lies where libraries look by themselves is not used; the one named is, of whatever host it speaks."""
    home = {"HOME": str(tmp_path), "XAUTHORITY": str(server.trusted), "DISPLAY": f":{server.number}"}
    write_key(tmp_path / ".Xauthority", server.number, key_of(server.trusted))
    step = Step("graphics-x11", options={"socket": server.socket})
    with pytest.raises(LaunchError, match=f"could not connect to the X server at {server.socket}.*[Aa]uthoriz"):
        await launch("steps/paints.py:Paints", env=home, early_init=(step,), preload=PRELOAD).__aenter__()
    elsewhere = write_key(tmp_path / "elsewhere", server.number, key_of(server.untrusted), "another-host")
    async with paints("namespaces", server, authority=str(elsewhere)) as host:
        assert await host.call("look", server.window, returns=str) == "refused"


async def test_what_is_not_there_is_named(server: Server, tmp_path: Path) -> None:
    """A socket that does not exist, one of another server, a file without the key: each in one sentence."""
    with pytest.raises(ConfigError, match=r"no such file or folder: '/tmp/\.X11-unix/X99999'"):
        await paints("namespaces", server, socket="/tmp/.X11-unix/X99999").__aenter__()
    (tmp_path / "X0").touch()
    with pytest.raises(LaunchError, match="X0 is not where an X server listens"):
        await paints("namespaces", server, socket=str(tmp_path / "X0")).__aenter__()
    other = write_key(tmp_path / "other", server.number + 1, key_of(server.trusted))
    with pytest.raises(LaunchError, match=f"other has no MIT-MAGIC-COOKIE-1 for the display :{server.number}"):
        await paints("namespaces", server, authority=str(other)).__aenter__()
