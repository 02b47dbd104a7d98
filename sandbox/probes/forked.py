"""Run functions in forked processes, all at once and for a limited time.

What a probe does to its process cannot be undone, so each has a process of its own. They run side by side: one that
hangs then costs the deadline once, and hides no other's answer. Four things end a probe: its answer, the runner's
kill of its process group, the signal on the runner's end (prctl(2), PR_SET_PDEATHSIG; the runner has one thread),
and an alarm. A probe is waited for only after the kill, so its pid and process group cannot be another's.
"""

from __future__ import annotations

import errno
import json
import math
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from .. import syscalls
from ..errors import BackendUnavailable, SandboxError
from ..steps import StepFailed, step

Probe = Callable[[], str]
Outcome = dict[str, Any]
"""``works`` and ``detail``; when it does not work also ``text``, and ``remedy``, ``step`` and ``errno`` where known."""

_CROWDED = (errno.EAGAIN, errno.EMFILE)


@dataclass(frozen=True, slots=True)
class Forked:
    """A forked process that is still to answer. The reader owns ``reader`` and must reap ``launched_pid``."""

    launched_pid: int
    reader: int


def run_all(probes: Mapping[str, Probe], seconds: float) -> dict[str, Outcome]:
    """Run all *probes* side by side and return within about *seconds* what each one answered.

    Where so many processes or fds are not allowed at once, those that failed get a second turn, one by one.
    """
    deadline = time.monotonic() + seconds
    outcomes = _side_by_side(probes, seconds)
    if any(outcome.get("errno") in _CROWDED for outcome in outcomes.values()):
        for name in [name for name, outcome in outcomes.items() if not outcome["works"]]:
            outcomes |= _side_by_side({name: probes[name]}, max(1.0, deadline - time.monotonic()))
    return outcomes


def _side_by_side(probes: Mapping[str, Probe], seconds: float) -> dict[str, Outcome]:
    running: dict[str, Forked] = {}
    outcomes: dict[str, Outcome] = {}
    for name, function in probes.items():
        try:
            with step("fork a process"):
                running[name] = start(function, seconds, own_group=True)
        except StepFailed as error:
            outcomes[name] = _failure(str(error), step=error.step, number=error.errno)
    answers = _collect(running, time.monotonic() + seconds)
    return outcomes | {name: _finish(forked, answers[name], seconds) for name, forked in running.items()}


def in_fork(function: Probe, seconds: float = 10.0) -> str:
    """Run *function* in a forked process and return what it returned, or raise what it raised."""
    with step("fork a process"):
        forked = start(function, seconds)
    return result_of(forked)


def result_of(forked: Forked) -> str:
    """Wait for *forked* and return what its function returned, or raise what it raised; closes and reaps."""
    with open(forked.reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(forked.launched_pid, 0)
    outcome = _decode(answer, status)
    if outcome["works"]:
        return str(outcome["detail"])
    if outcome["step"]:
        raise StepFailed(outcome["step"], outcome["errno"], os.strerror(outcome["errno"]))
    raise SandboxError(outcome["text"])


def start(function: Probe, seconds: float, *, own_group: bool = False) -> Forked:
    """Fork a process that runs *function*, answers and ends. `OSError` as from fork(2)."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    launcher_pid = os.getpid()
    try:
        forked_pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if forked_pid == 0:
        try:
            _prepare(launcher_pid, seconds, own_group)
            os.write(writer, json.dumps(_answer(function)).encode())
            _end(0)
        finally:
            _end(1)
    os.close(writer)
    return Forked(forked_pid, reader)


def _prepare(launcher_pid: int, seconds: float, own_group: bool) -> None:
    if own_group:
        os.setpgid(0, 0)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.alarm(math.ceil(seconds))
    if os.getppid() not in (launcher_pid, 0):  # 0: it is in an outer pid namespace; else it ended before prctl
        _end(1)


def _end(code: int) -> NoReturn:
    os._exit(code)


def _answer(function: Probe) -> Outcome:
    try:
        return {"works": True, "detail": function()}
    except StepFailed as error:
        return _failure(str(error), step=error.step, number=error.errno)
    except BackendUnavailable as error:
        return _failure(error.cause, remedy=error.remedy)
    except SandboxError as error:
        return _failure(str(error))
    except OSError as error:
        failed = StepFailed("finish the probe", error.errno or 0, error.strerror or "")
        return _failure(str(failed), step=failed.step, number=failed.errno)


def _failure(text: str, *, step: str = "", number: int = 0, remedy: str = "") -> Outcome:
    return {"works": False, "detail": "", "step": step, "errno": number, "text": text, "remedy": remedy}


def _collect(running: Mapping[str, Forked], deadline: float) -> dict[str, bytes | None]:
    """Read all answers to their end; None for those that did not end in time."""
    poll = select.poll()
    names = {forked.reader: name for name, forked in running.items()}
    parts: dict[str, list[bytes]] = {name: [] for name in running}
    for reader in names:
        poll.register(reader, select.POLLIN)
    while names and (rest := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(rest * 1000):
            if chunk := os.read(fd, 65_536):
                parts[names[fd]].append(chunk)
            else:
                poll.unregister(fd)
                del names[fd]
    late = set(names.values())
    return {name: None if name in late else b"".join(chunks) for name, chunks in parts.items()}


def _finish(forked: Forked, answer: bytes | None, seconds: float) -> Outcome:
    try:
        os.killpg(forked.launched_pid, signal.SIGKILL)  # whatever it started goes too
    except ProcessLookupError:  # it was killed before it had a group
        os.kill(forked.launched_pid, signal.SIGKILL)
    _, status = os.waitpid(forked.launched_pid, 0)
    os.close(forked.reader)
    if answer is None:
        return _failure(f"it hung and was killed after {seconds:g} s")
    return _decode(answer, status)


def _decode(answer: bytes, status: int) -> Outcome:
    if answer:
        outcome: Outcome = json.loads(answer)
        return outcome
    code = os.waitstatus_to_exitcode(status)
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return _failure(f"its process {how} before it answered")
