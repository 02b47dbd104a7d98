"""The smallest host: one sealed child, one call that is answered, one that the seal refuses."""

from __future__ import annotations

from pathlib import Path

import anyio

from belljar import Policy, Process, ProcessHost, RemoteError


async def main() -> None:
    plugin = Path(__file__).with_name("hello_plugin.py")
    async with ProcessHost(Process(plugin=f"{plugin}:Greeter", policy=Policy.compute())) as host:
        print(await host.call("greet", "world", returns=str))
        try:
            await host.call("read", "/etc/passwd", returns=str)
        except RemoteError as error:
            print(error)
        print(host.protection)


if __name__ == "__main__":
    anyio.run(main)
