"""Jobs for one sealed child: one after the other, and a new child whenever one dies over its work."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from belljar import BelljarError, Process, ProcessHost, State

Job = TypeVar("Job")
Result = TypeVar("Result")


async def run_jobs(
    process: Process,
    jobs: Iterable[Job],
    work: Callable[[ProcessHost, Job], Awaitable[Result]],
    *,
    launched: Callable[[ProcessHost], None],
    done: Callable[[Job, Result | Exception], None],
) -> None:
    """Do *work* for each of *jobs* in a child of type *process*, and tell *done* what came of it.

    A job may fail: by the plugin's error, by an answer that the host does not believe (ValueError), by its child's
    death, or by its ``call_timeout``. The next job gets a child that works: a new one if need be.

    Raises:
        BelljarError: a child could not be launched.
    """
    waiting = deque(jobs)
    while waiting:
        async with ProcessHost(process) as host:
            launched(host)
            while waiting and host.state is State.READY:
                job = waiting.popleft()
                try:
                    result: Result | Exception = await work(host, job)
                except (BelljarError, ValueError) as error:
                    result = error
                done(job, result)
