"""A child's output is read to its end, but kept and logged only so far."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from belljar.host.log_records import ChildLog
from belljar.host.output import KEPT_LINES, MAX_LINE, MAX_LOGGED, Output


@pytest.fixture
def stream() -> Iterator[tuple[Output, int]]:
    """An output and the write end of its pipe."""
    reader, writer = os.pipe()
    output = Output(reader, ChildLog("test"), "stdout", logging.INFO)
    yield output, writer
    output.close()


@given(chunks=st.lists(st.binary(max_size=300), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_become_printable_lines(chunks: list[bytes]) -> None:
    """Whatever a child writes, what is kept is few lines of printable text, the same however it was cut."""
    reader, writer = os.pipe()
    os.close(writer)
    whole, pieces = (Output(reader, ChildLog("test"), stream, logging.DEBUG) for stream in ("whole", "pieces"))
    whole.feed(b"".join(chunks) + b"\n")
    for chunk in chunks:
        pieces.feed(chunk)
    pieces.feed(b"\n")
    whole.close()
    assert len(whole.last) <= KEPT_LINES
    assert all(char.isprintable() or char == "\t" for line in whole.last for char in line)
    if max(map(len, b"".join(chunks).split(b"\n"))) <= MAX_LINE:
        assert whole.last == pieces.last


def test_control_characters_cannot_reach_a_terminal(stream: tuple[Output, int]) -> None:
    """Escape sequences and bytes that are no text are shown by their numbers."""
    stream[0].feed(b"\x1b[2Jred\rover\xff\n")
    os.close(stream[1])
    assert list(stream[0].last) == ["\\x1b[2Jred\\rover\\xff"]


@pytest.mark.anyio
async def test_a_stream_is_drained_until_every_write_end_is_closed(stream: tuple[Output, int]) -> None:
    """Draining ends with the last copy of the write end, and a last line without newline counts."""
    output, writer = stream
    copy = os.dup(writer)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(output.drain)
        os.write(writer, b"first\n")
        os.close(writer)
        os.write(copy, b"last")
        assert not output.drained.is_set()
        os.close(copy)
        await output.drained.wait()
    assert list(output.last) == ["first", "last"]


def test_a_flood_is_logged_only_so_far(stream: tuple[Output, int], caplog: pytest.LogCaptureFixture) -> None:
    """After MAX_LOGGED bytes the log says once that it stops, while the last lines are still kept."""
    output, writer = stream
    os.close(writer)
    with caplog.at_level(logging.INFO):
        number = 0
        for number in range(3 * MAX_LOGGED // 1000):
            output.feed(b"%06d %s\n" % (number, b"x" * 993))
    assert sum(len(record.getMessage()) for record in caplog.records) <= MAX_LOGGED + 2 * MAX_LINE
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == [
        f"more output is not logged: the child wrote over {MAX_LOGGED} bytes"
    ]
    assert output.last[-1].startswith(f"{number:06d} ")


def test_a_line_without_end_is_cut(stream: tuple[Output, int]) -> None:
    """A stream without newlines does not pile up in memory, and no kept line is over MAX_LINE characters."""
    output, writer = stream
    os.close(writer)
    for _ in range(1000):
        output.feed(b"x" * 10_000)
    assert len(output.last) <= KEPT_LINES
    assert max(map(len, output.last)) == MAX_LINE
