"""A host that launches one child, says so, and waits to be killed: ``host_program.py BACKEND idle|busy``."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from belljar import Policy, Process, ProcessHost


async def main(backend: str, work: str) -> None:
    plugin = str(Path(__file__).with_name("busy.py")) + ":Busy"
    async with (
        ProcessHost(Process(plugin=plugin, backend=backend, policy=Policy.compute())) as host,
        anyio.create_task_group() as tasks,
    ):
        if work == "busy":
            tasks.start_soon(host.call, "count_for_ever")
            await anyio.wait_all_tasks_blocked()
        print(host.child_pid, flush=True)
        await anyio.sleep_forever()


anyio.run(main, sys.argv[1], sys.argv[2])
