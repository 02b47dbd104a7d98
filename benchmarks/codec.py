"""``scripts/bench codec``: one picture of the example's clip, decoded sealed and unsealed, in interleaved rounds.

The same process type under each backend that works here, and the decoder in this process, which hands no picture from
one process to another.
"""

# PyAV's stubs leave the type of packets open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import av
import msgspec

from belljar import ProcessHost, load_config, probe
from belljar.sandbox.backends import names
from belljar.sandbox.probe import requirements
from belljar.sandbox.user import resolve_user

from .report import show

MEDIA = Path(__file__).parents[1] / "examples" / "media_plugin_host"
HERE = "in this process"


async def run(rounds: int) -> dict[str, list[float]]:
    """Return, for each row, the milliseconds of one picture in each round."""
    sys.path.insert(0, str(MEDIA))
    interfaces: Any = importlib.import_module("interfaces")
    storage: Any = importlib.import_module("storage")
    clip = importlib.import_module("media").h264_clip().data
    config = load_config(MEDIA / "belljar.toml")
    machine = probe(resolve_user(""))
    async with AsyncExitStack() as hosts:
        profile = storage.Profile(Path(hosts.enter_context(TemporaryDirectory())))
        demuxer = (await hosts.enter_async_context(ProcessHost(config.process("demuxer")))).proxy(interfaces.Demuxer)
        track = await demuxer.open(clip)
        packets = [packet async for packet in demuxer.packets()]
        codecs: dict[str, Any] = {}
        for name in sorted(name for name in names() if not machine.missing(requirements(name))):
            sealed = msgspec.structs.replace(config.process("codec"), backend=name)
            services = {interfaces.RecordStore: hosts.enter_context(profile.records("codec", name))}
            host = ProcessHost(sealed, services=services)
            codecs[name] = (await hosts.enter_async_context(host)).proxy(interfaces.Codec)
        samples: dict[str, list[float]] = {name: [] for name in (HERE, *codecs)}
        for number in range(rounds + 1):
            for name in random.sample(list(samples), len(samples)):  # none always follows the same one
                if name == HERE:
                    took = decode_here(track.setup, packets)
                else:
                    took = await decode(codecs[name], track.setup, packets)
                samples[name] += [took] if number else []  # the first round is for warm caches
    return samples


async def decode(codec: Any, setup: bytes, packets: list[Any]) -> float:
    """Return the milliseconds of one picture that a child decodes and sends."""
    began = time.perf_counter()
    pictures = 0
    async for _ in codec.decode(setup, packets):
        pictures += 1
    return (time.perf_counter() - began) * 1000 / pictures


def decode_here(setup: bytes, packets: list[Any]) -> float:
    """Return the milliseconds of one picture that is decoded here, and left where the decoder put it."""
    began = time.perf_counter()
    context = av.CodecContext.create("h264", "r")
    context.extradata, context.thread_count = setup, 1
    given = [av.Packet(packet.data) for packet in packets]
    pictures = sum(len(context.decode(packet)) for packet in (*given, None))
    return (time.perf_counter() - began) * 1000 / pictures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    samples = anyio.run(run, options.rounds)
    show("a picture of 640 x 360, H.264, decoded", "ms", samples, "none", as_json=options.json)


if __name__ == "__main__":
    main()
