"""What a child logs is a record of the application's own logging: typed, cleaned, and never too much."""

from __future__ import annotations

import logging
import time
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.child.log_records import MAX_KEPT
from belljar.host.errors import ConfigError, LaunchError
from belljar.host.log_records import ChildLog, initial_level
from belljar.host.sync_host import SyncHost
from belljar.ipc.allowance import LEAST, LOG_BURST
from belljar.ipc.frames import Log

from ..helpers import CHILDREN, launch, process

NAME = "belljar.child.test"

frames = st.builds(
    Log,
    logger=st.text(max_size=40),
    level=st.integers(1, 100),
    text=st.text(max_size=200),
    time=st.floats(),
    module=st.text(max_size=20),
    line=st.integers(0, 2**53),
    traceback=st.text(max_size=200),
    dropped=st.integers(0, 2**53),
)


class Records(logging.Handler):
    """Keeps what comes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record)


@pytest.fixture(scope="module")
def records() -> Any:
    """What is logged in the name of children."""
    handler, logger = Records(), logging.getLogger("belljar.child")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@given(frame=frames)
def test_whatever_a_child_says_is_one_clean_record(records: Records, frame: Log) -> None:
    """No name, text or traceback can look like another record, and the time lies within the child's life."""
    records.seen.clear()
    logging.getLogger(NAME).setLevel(1)
    began = time.time()
    ChildLog("test").take(frame)
    record = records.seen[-1]
    formatter = logging.Formatter("%(levelname)s %(name)s %(module)s %(processName)s %(message)s %(msecs)d")
    first, *rest = formatter.format(record).split("\n")
    assert all(char.isprintable() or char == "\t" for line in (first, *rest) for char in line)
    assert all(line.startswith("  | ") for line in rest)
    assert 1 <= record.levelno <= 50
    assert began - 1 <= record.created <= time.time() + 1


def test_names_of_a_child_make_no_loggers(records: Records) -> None:
    """The nearest logger that the application has decides, and a thousand names leave nothing behind."""
    logging.getLogger(f"{NAME}.quiet").setLevel(logging.ERROR)
    log = ChildLog("test")
    known = len(logging.Logger.manager.loggerDict)
    records.seen.clear()
    for number in range(1000):
        log.take(Log(f"quiet.n{number}", logging.WARNING, "no", 0.0))
        log.take(Log(f"n{number}.deep", logging.WARNING, "yes", 0.0))
    assert len(logging.Logger.manager.loggerDict) == known
    assert [record.name for record in records.seen] == [f"{NAME}.n{number}.deep" for number in range(1000)]


def test_a_process_with_a_dot_in_its_name_is_not_below_another(records: Records) -> None:
    """No child can speak by the logger of another process type, of which each may have a level of its own."""
    logging.getLogger("belljar.child.dotted.parser").setLevel(logging.CRITICAL)
    records.seen.clear()
    ChildLog("dotted.parser").take(Log("", logging.WARNING, "from one process type", 0.0))
    ChildLog("dotted").take(Log("parser", logging.CRITICAL, "from another", 0.0))
    names = [record.name for record in records.seen]
    assert names == ["belljar.child.dotted%2Eparser", "belljar.child.dotted.parser"]
    assert ChildLog("dotted%2Eparser")._own.name == "belljar.child.dotted%252Eparser"
    assert initial_level("dotted.parser", "host") < logging.CRITICAL


def test_a_filter_that_fails_ends_nothing(records: Records, capsys: pytest.CaptureFixture[str]) -> None:
    """What raises in the application's logging is shown; it does not reach what reads the child, nor what it said."""

    def fails(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    logger, log = logging.getLogger(NAME), ChildLog("test")
    logger.addFilter(fails)
    try:
        log.take(Log("", 30, "lost", time.time()))
        log.write("stderr", 30, "lost too")
    finally:
        logger.removeFilter(fails)
    assert capsys.readouterr().err.count("\nZeroDivisionError") == 2
    log.take(Log("", 30, "heard", time.time()))
    assert records.seen[-1].getMessage() == "heard"


def test_a_flood_is_cut_and_counted(records: Records) -> None:
    """So many characters are logged at once and no more; what is dropped is counted, here and in the child."""
    records.seen.clear()
    log = ChildLog("test")
    most = 2 * LOG_BURST // LEAST
    for _ in range(most + 1000):
        log.take(Log("", logging.WARNING, "%s", 0.0, dropped=1))
    log.close()
    texts = [record.getMessage() for record in records.seen]
    assert most <= texts.count("%s") <= most + 500  # what grows back meanwhile
    told = sum(int(text.split()[0]) for text in texts if text != "%s")
    assert told == 2 * (most + 1000) - texts.count("%s")


@pytest.mark.anyio
async def test_records_come_from_every_stage_and_thread(records: Records) -> None:
    """Early init, the import, calls and threads: level, name, pid, traceback; what the child forks has stderr."""
    records.seen.clear()
    step = f"{CHILDREN / 'logs.py'}:warms"
    async with launch("logs.py:Logs", backend="none", load="early", early_init=(step,)) as host:
        await host.call("fail")
        await host.call("from_a_thread")
        await host.call("say", logging.WARNING, "x" * 10_000)
        assert await host.call("fork") == 0
        await host.call("say", logging.INFO, "below the level")
        host.set_log_level("info", "codec")
        logging.getLogger("belljar.child.logs").setLevel("INFO")
        await host.call("say", logging.INFO, "at the level")
        logging.getLogger("belljar.child.logs").setLevel(logging.NOTSET)
    seen = {record.getMessage(): record for record in records.seen}
    assert {record.process for record in records.seen} == {host.child_pid}
    assert seen["early"].name == "belljar.child.logs.warm"
    assert (seen["imported as the plugin"].module, seen["imported as the plugin"].processName) == ("logs", "logs")
    assert seen["could not"].levelno == logging.ERROR
    assert "  | ValueError: invalid literal for int()" in str(seen["could not"].exc_text)
    assert seen["from a thread"].name == seen["at the level"].name == "belljar.child.logs.codec.parser"
    assert seen["from a fork"].name == "belljar.child.logs.stderr"
    assert "below the level" not in seen
    assert 4090 < max(map(len, seen)) <= 4096


@pytest.mark.anyio
@pytest.mark.parametrize("fields", [{}, {"early_init": ("asyncio",)}, {"channel": "zmq"}], ids=str)
async def test_a_sealed_child_that_logs_without_end_is_held_back(records: Records, fields: dict[str, Any]) -> None:
    """It drops what is too much itself, its call goes on, and the count is right."""
    records.seen.clear()
    async with launch("logs.py:Logs", log_level="warning", **fields) as host:
        await host.call("flood", 20_000)
    texts = [record.getMessage() for record in records.seen]
    dropped = sum(int(text.split()[0]) for text in texts if "records were dropped" in text)
    numbers = [text for text in texts if text.startswith("number ")]
    lost = 20_000 - len(numbers) - dropped
    assert MAX_KEPT < len(numbers) < 2 * LOG_BURST // LEAST
    assert (
        lost >= 0 if host.process.channel == "zmq" else lost == 0
    )  # libzmq loses what the kernel holds when an end closes


def test_a_sync_host_hears_records_too(records: Records) -> None:
    """From import to the last call."""
    records.seen.clear()
    logging.getLogger("belljar.child.logs").setLevel("INFO")
    with SyncHost(process("logs.py:Logs", backend="none")) as host:
        host.set_log_level("info", "codec")
        host.call("say", logging.INFO, "last")
    assert [record.getMessage() for record in records.seen] == ["imported as the plugin", "last"]


@pytest.mark.anyio
async def test_what_a_child_logged_before_it_failed_is_not_lost(records: Records) -> None:
    """A child that is never ready writes its records to stderr."""
    records.seen.clear()
    with pytest.raises(LaunchError, match="no"):
        await launch("logs.py:Fails").__aenter__()
    lines = [record.getMessage() for record in records.seen if record.name.endswith(".stderr")]
    assert lines == ["WARNING:codec.parser:imported as the plugin", "WARNING:codec.parser:about to fail"]


@pytest.mark.anyio
async def test_levels_that_do_not_exist_are_refused() -> None:
    """A wrong level is an error at once, in the process type and at run time, and so is a child that is not there."""
    with pytest.raises(ConfigError, match=r"log_level: no such level: 'inof'; did you mean 'info'\?"):
        process(log_level="inof").resolve()
    host = launch()
    with pytest.raises(ValueError, match="there is no level 'loud'"):
        host.set_log_level("loud")
    with pytest.raises(RuntimeError, match="not ready"):
        host.set_log_level("info")
    await anyio.lowlevel.checkpoint()
