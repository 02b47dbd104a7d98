"""Calls into a real child: arguments, results, errors, and a child that does not play by the rules."""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from belljar.host.calls import MAX_LOGGED
from belljar.host.errors import ChildEnded
from belljar.ipc.errors import ArgumentError, CallTimeout, PeerProtocolError, RemoteError, ResultError, UnknownMethod
from belljar.ipc.messages import MAX_INLINE
from belljar.sandbox.policy import Policy

from ..children.channel_abuser import ABUSES
from ..children.plain import Size
from ..helpers import launch, nothing_left, on_both

pytestmark = pytest.mark.anyio


@on_both
@pytest.mark.parametrize("size", [0, 1, MAX_INLINE - 100, MAX_INLINE, MAX_INLINE + 1, 70_000, 8 << 20])
async def test_bytes_of_any_size_go_both_ways(backend: str, size: int) -> None:
    """Bytes come back equal whether they travel in the message or in a sealed memfd, and no fd is left."""
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with nothing_left(backend):
        async with launch(backend=backend) as host:
            for _ in range(3):
                assert await host.call("echo", data) == data


@pytest.mark.parametrize(
    "value", [None, True, -1, 2**63, 1.5, "bücher", b"\xff", [], {"a": [1, {"b": None}]}, [[[[]]]]], ids=repr
)
async def test_plain_values_come_back_equal(value: Any) -> None:
    """What msgpack can say comes back as it was."""
    async with launch() as host:
        assert await host.call("echo", value) == value


async def test_typed_values() -> None:
    """With returns= the result is of the declared type, and the plugin gets the type that it annotates."""
    async with launch() as host:
        assert await host.call("swap", Size(1, 2), returns=Size) == Size(2, 1)
        assert await host.call("swap", {"width": 1, "height": 2}) == {"width": 2, "height": 1}
        assert await host.call("view", b"x" * 10) == await host.call("view", b"x" * 10, returns=int) == 10
        assert await host.call("view", b"x" * 300_000) == 300_000
        assert await host.call("nothing", returns=None) is None


async def test_large_results_need_a_type() -> None:
    """A large result without a declared type is bytes or str; anything else is ResultError, and the child lives on."""
    async with launch() as host:
        assert await host.call("blob", 300_000) == b"x" * 300_000
        assert await host.call("text", 300_000) == "x" * 300_000
        with pytest.raises(
            ResultError, match=r"of 'numbers' does not fit: it has 300\d* bytes and no declared type; use"
        ):
            await host.call("numbers", 300_000)
        assert await host.call("numbers", 300_000, returns=list[int]) == [1] * 300_000


@pytest.mark.parametrize("size", [10, 300_000])
async def test_a_result_outlives_the_message_that_carried_it(size: int) -> None:
    """A result that is a view of the message still holds the same bytes after later calls."""
    async with launch() as host:
        first = await host.call("blob", size, returns=memoryview)
        await host.call("echo", b"y" * size)
        assert bytes(first) == b"x" * size


@pytest.mark.parametrize(
    ("method", "arguments", "reason"),
    [
        ("add", (), r"could not call 'add': 0 arguments do not fit add\(first"),
        ("add", (1, 2, 3), r"could not call 'add': 3 arguments do not fit add\(first"),
        ("add", ("x",), "could not call 'add': Expected `int`, got `str` - at argument `first`"),
        ("add", (1, None), "could not call 'add': Expected `int`, got `None` - at argument `second`"),
        ("swap", ({"width": 1},), "could not call 'swap': Object missing required field `height` - at argument `size`"),
        ("swap", ({"width": 1, "height": "x"},), "Expected `int`, got `str` - at argument `size.height`"),
        ("echo", (object(),), "could not call 'echo': its arguments cannot be sent"),
        ("echo", (2**64,), "could not call 'echo': its arguments cannot be sent"),
        ("echo", ("\ud800",), "could not call 'echo': its arguments cannot be sent"),
    ],
)
async def test_arguments_that_do_not_fit(method: str, arguments: tuple[Any, ...], reason: str) -> None:
    """Arguments that cannot be sent or do not fit raise ArgumentError, which names them; the child lives on."""
    async with launch() as host:
        with pytest.raises(ArgumentError, match=reason):
            await host.call(method, *arguments)
        assert await host.call("add", 1) == 3


@pytest.mark.parametrize("name", ["missing", "__init__", "_find", "calls", "", "x" * 300, "\ud800", "add.x", "a\0b"])
async def test_a_method_that_is_not_there(name: str) -> None:
    """Whatever its name, a method that is not a public one raises UnknownMethod, and the child lives on."""
    async with launch() as host:
        with pytest.raises(UnknownMethod, match="the plugin has no method"):
            await host.call(name)
        assert await host.call("add", 1) == 3


async def test_any_timeout_is_understood() -> None:
    """Less than no time is over at once, endless time is no timeout, what is no number is refused; the child lives."""
    async with launch() as host:
        for timeout in (0, -1):
            with pytest.raises(CallTimeout, match="'add' did not answer within 0 s"):
                await host.call("add", 1, timeout=timeout)
        for endless in (float("inf"), 1e300, None):
            assert await host.call("add", 1, timeout=endless) == 3
        with pytest.raises(TypeError, match="expected a timeout in seconds, or None for none, got '1'"):
            await host.call("add", 1, timeout=cast(Any, "1"))


async def test_what_the_plugin_raises() -> None:
    """RemoteError has the type, the text and the traceback with the plugin's own line; nothing of it is an object."""
    async with launch() as host:
        with pytest.raises(RemoteError, match="'boom' raised ValueError: the plugin's own words") as caught:
            await host.call("boom")
    error = caught.value
    assert error.remote_type == "ValueError"
    assert 'raise ValueError("the plugin\'s own words")' in error.remote_traceback
    assert "<bundle>/plain.py" in error.remote_traceback
    assert error.remote_traceback in "".join(traceback.format_exception(error))
    assert "dispatch.py" not in error.remote_traceback
    assert error.refused == ()
    assert error.__cause__ is None


@pytest.mark.parametrize(
    ("method", "kind", "text"),
    [
        ("odd_error", "FileNotFoundError", "No such file"),
        ("unreadable_error", "Unreadable", "its text cannot be read"),
        ("long_error", "ValueError", "ä"),
        ("leave_politely", "SystemExit", "by exit"),
    ],
)
async def test_odd_errors_are_errors_of_the_call_only(method: str, kind: str, text: str) -> None:
    """Errors whose text is no UTF-8, cannot be read or is huge, and exit(), are RemoteError; the child lives on."""
    async with launch() as host:
        with pytest.raises(RemoteError, match=text) as caught:
            await host.call(method)
        assert caught.value.remote_type == kind
        assert len(str(caught.value)) < 5000
        assert await host.call("count") == 1


@pytest.mark.parametrize(("method", "reason"), [("unsendable", "object"), ("endless", "recursion")])
async def test_results_that_cannot_be_sent(method: str, reason: str) -> None:
    """A result that msgpack cannot say raises ResultError, and the child lives on."""
    async with launch() as host:
        with pytest.raises(ResultError, match=f"the result of '{method}' cannot be sent: .*{reason}"):
            await host.call(method)
        assert await host.call("add", 1) == 3


async def test_max_payload_holds_both_ways() -> None:
    """Arguments or a result over max_payload are an error of the call, and the child lives on."""
    async with launch(max_payload=100_000) as host:
        with pytest.raises(ArgumentError, match="over max_payload = 100000"):
            await host.call("length", b"x" * 100_000)
        with pytest.raises(ResultError, match="over max_payload = 100000"):
            await host.call("blob", 100_000)
        assert await host.call("blob", 99_000) == b"x" * 99_000
        assert await host.call("length", b"x" * 99_000) == 99_000


async def test_what_is_released_gives_way_to_a_message_that_is_full() -> None:
    """A call that fills its datagram is sent although there is much to release before it."""
    async with launch() as host:
        await host.call("echo", b"x" * 100_000)  # from here on, large results lie in an arena
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(host.call, "blob", 70_000)
        assert await host.call("length", b"x" * (MAX_INLINE - 4)) == MAX_INLINE - 4


async def test_refused_imports_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """An import that the seal refused is named in the error, and in the log also if the plugin hid it."""
    assert "wave" not in sys.modules
    async with launch() as host:
        with pytest.raises(RemoteError, match="the seal refused import wave") as caught:
            await host.call("late_import")
        assert "import wave" in caught.value.refused
        caplog.clear()
        with caplog.at_level(logging.WARNING, "belljar.host"):
            assert await host.call("hidden_import") == "hidden"
        assert "after the seal, 'hidden_import' was refused import wave" in caplog.text


async def test_a_child_cannot_fill_the_log_with_what_the_seal_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A record has the first names and a count, so many calls have one, and one line says that no more will."""
    async with launch() as host:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "belljar.host"):
            with pytest.raises(RemoteError, match=r"0003 and 60 more, openat .*: preload it") as caught:
                await host.call("misses_all")
            assert sum(what.startswith("import ") for what in caught.value.refused) == 64
            for _ in range(MAX_LOGGED + 50):
                await host.call("imports_in_vain", 0)
    assert len(caplog.records) == MAX_LOGGED + 1
    assert "0003 and 60 more, openat /" in caplog.messages[0]
    assert max(map(len, caplog.messages)) < 1000
    assert "plain: calls were refused something too often" in caplog.messages[-1]


async def test_refused_files_are_named() -> None:
    """A file that the seal refused is named by its path in the error."""
    async with launch() as host:
        with pytest.raises(RemoteError, match="PermissionError") as caught:
            await host.call("open_file", "/etc/hostname")
        assert any("/etc/hostname" in what for what in caught.value.refused)


@on_both
@pytest.mark.parametrize(
    ("method", "arguments", "how"),
    [
        ("leave", (3,), "it exited with code 3"),
        ("crash", (), "SIGSEGV ended it"),
        ("hit_itself", (), "SIGABRT ended it"),
    ],
)
async def test_a_child_that_ends_in_a_call(backend: str, method: str, arguments: tuple[Any, ...], how: str) -> None:
    """A child that ends during a call gives ChildEnded with how it ended, and so does every later call."""
    if method == "hit_itself" and backend == "namespaces":
        pytest.skip("pid 1 of a pid namespace is deaf to its own signals")
    with nothing_left(backend):
        async with launch(backend=backend) as host:
            with pytest.raises(ChildEnded, match=f"plain ended during '{method}': {how}") as caught:
                await host.call(method, *arguments)
            assert caught.value.ended is await host.wait()
            with pytest.raises(ChildEnded, match=f"could not call 'add': plain has ended: {how}"):
                await host.call("add", 1)


@on_both
@pytest.mark.parametrize("method", ["hang", "busy"])
async def test_a_call_that_takes_too_long(backend: str, method: str) -> None:
    """It ends at its caller when its time is over; a child that does not end it too, in C or not, is killed."""
    with nothing_left(backend):
        async with launch(backend=backend, cancel_grace=0.1) as host:
            with pytest.raises(CallTimeout, match=rf"^'{method}' did not answer within 0\.2 s$"):
                await host.call(method, timeout=0.2)
            assert host.state.name == "READY"
            ended = await host.wait()
    assert (ended.signal, ended.reason) == (
        "SIGKILL",
        f"it did not end '{method}', which was given up, within 0.1 s",
    )


async def test_a_child_that_its_host_only_warns_of_lives_on(caplog: pytest.LogCaptureFixture) -> None:
    """With unresponsive = "warn" one line says which call does not end, and once it does, calls are answered."""
    async with launch(cancel_grace=0.05, unresponsive="warn") as host, anyio.create_task_group() as tasks:
        with pytest.raises(CallTimeout):
            await host.call("computes", 0.5, timeout=0.05)
        tasks.start_soon(host.call, "add", 1)  # sent while the child computes, for longer than the grace, many times
        assert await host.call("add", 1) == 3
    assert caplog.messages == ["plain: it did not end 'computes', which was given up, within 0.05 s"]


async def test_a_call_has_the_deadline_of_its_process_type() -> None:
    """A call that says nothing itself ends after call_timeout; one that says None waits for longer."""
    async with launch(call_timeout=0.05, cancel_grace=5.0) as host:
        assert await host.call("computes", 0.2, timeout=None) is None
        with pytest.raises(CallTimeout, match=r"'computes' did not answer within 0\.05 s"):
            await host.call("computes", 0.2)
        assert await host.call("add", 1, timeout=5) == 3


async def test_a_call_that_waits_behind_a_slow_one_is_not_held_against_the_child() -> None:
    """A call whose time is over before its turn comes leaves the child alone, however long the one before takes."""
    async with launch(cancel_grace=0.01) as host, anyio.create_task_group() as tasks:
        tasks.start_soon(host.call, "computes", 0.3)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(CallTimeout, match=r"'count' did not answer within 0\.05 s"):
            await host.call("count", timeout=0.05)
        assert await host.call("count") == 1  # the one before it was never begun
    assert (await host.wait()).exit_code == 0


async def test_a_call_that_is_cancelled_is_not_begun() -> None:
    """A call whose caller has left before its turn came is not answered by the plugin, and those after it are."""
    async with launch() as host, anyio.create_task_group() as tasks:
        tasks.start_soon(host.call, "computes", 0.1)
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.01):
            await host.call("count")
        assert await host.call("count") == 1


async def test_calls_of_many_tasks_are_answered_in_their_order() -> None:
    """Calls of several tasks are under way together; each gets its own result, in the order of the calls."""
    results: dict[int, int] = {}

    async def one(number: int) -> None:
        results[number] = 0  # the place of the call; dicts keep it
        results[number] = await host.call("count")

    async with launch() as host:
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(one, number)
        assert await host.call("count") == 51
    assert list(results.values()) == list(range(1, 51))


async def test_more_calls_than_may_be_under_way_wait_for_room() -> None:
    """A thousand calls at once are no flood: those that find no room wait here, and all are answered."""
    async with launch() as host, anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(host.call, "count")
    assert (await host.wait()).exit_code == 0


async def test_what_the_seal_refused_gives_way_to_the_result() -> None:
    """A result that fills its message arrives although many imports were refused; their names are left out."""
    async with launch() as host:
        for size in range(MAX_INLINE - 100, MAX_INLINE + 1, 20):
            assert len(await host.call("imports_in_vain", size, returns=bytes)) == size


async def test_what_the_child_prints_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Lines on stdout and stderr reach the loggers of the child; the last ones of stderr stay in Ended."""
    with caplog.at_level(logging.INFO, "belljar.child"):
        async with launch() as host:
            await host.call("say", "hello")
            await host.call("garbage")
            ended = await host.shutdown()
    lines = {(record.name, record.levelname, record.getMessage()) for record in caplog.records}
    assert ("belljar.child.plain.stdout", "INFO", "hello") in lines
    assert ("belljar.child.plain.stderr", "WARNING", "hello") in lines
    assert ended.stderr == ("hello", "\\x1b[2J\\xff\\xfe no newline at the end")
    assert all(line.isprintable() or "\t" in line for _, _, line in lines)


async def test_a_flood_of_output_does_not_stop_the_calls(caplog: pytest.LogCaptureFixture) -> None:
    """A child that writes 40 MB is read to the end, logged up to a cap, and still answers."""
    with caplog.at_level(logging.INFO, "belljar.child"):
        async with launch() as host:
            await host.call("flood", 10_000, timeout=30)
            assert await host.call("add", 1) == 3
            await host.shutdown()
    assert sum(len(record.getMessage()) for record in caplog.records) < 1_100_000
    assert "more output is not logged" in caplog.text


@on_both
@pytest.mark.parametrize("abuse", ABUSES)
async def test_a_child_that_breaks_the_protocol_is_killed(backend: str, abuse: str) -> None:
    """A hostile plugin that writes to the channel itself gets PeerProtocolError and SIGKILL, and leaves no fd."""
    with nothing_left(backend):
        async with launch("channel_abuser.py:Abuser", channel="socket", backend=backend, max_payload=1 << 20) as host:
            with pytest.raises(PeerProtocolError):
                await host.call("abuse", abuse)
            ended = await host.wait()
    assert ended.signal == "SIGKILL"
    assert ended.reason.startswith("it broke the protocol: ")


async def test_an_answer_too_many_ends_the_child() -> None:
    """A second answer to one call is taken for none of another."""
    async with launch("channel_abuser.py:Abuser", channel="socket") as host:
        assert await host.call("answer_twice") is None
        ended = await host.wait()
    assert (ended.signal, ended.reason) == (
        "SIGKILL",
        "it broke the protocol: an answer came to call 1, which is not under way",
    )


async def test_an_answer_of_another_process_is_refused() -> None:
    """A fork of the child that answers in its place breaks the protocol."""
    policy = Policy(subprocesses=True)
    async with launch("channel_abuser.py:Abuser", channel="socket", backend="none", policy=policy) as host:
        with pytest.raises(PeerProtocolError, match="a message came from process"):
            await host.call("answer_from_a_fork")
        assert (await host.wait()).signal == "SIGKILL"


async def test_a_call_before_the_child_is_ready(tmp_path: Path) -> None:
    """A call on a host that was not entered is a mistake in the program, and says so."""
    with pytest.raises(RuntimeError, match="enter the host with 'async with'"):
        await launch().call("add", 1)


async def test_large_results_among_small_ones() -> None:
    """What is collected for one datagram fits one, however the sizes of the answers come."""
    async with launch() as host, anyio.create_task_group() as tasks:
        for _ in range(20):  # from here on the child knows that the method is quick
            await host.call("echo", b"x")

        async def echo(size: int) -> None:
            assert len(await host.call("echo", bytes(size))) == size

        for size in (1000, MAX_INLINE - 100) * 20:
            tasks.start_soon(echo, size)
