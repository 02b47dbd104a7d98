"""``scripts/bench syscalls``: what the filter of the media policy costs each allowed call, and what it costs to have.

Three processes on one core take turns: without a filter, with one that allows everything in a single instruction, and
with belljar's. The middle one is the floor: the kernel enters its seccomp code for every call of a process that has any
filter at all, and no filter can be cheaper. A constant rule is served from the kernel's bitmap and should cost the
floor; a rule on arguments runs the filter. The loops are machine code (`machine_code`): the interpreter is not in them,
but for the last row, which is what Python sees.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from belljar import Policy
from belljar.sandbox.confine import forbid_new_privileges
from belljar.sandbox.seccomp.compile import bind_pid, compile_policy, number_names
from belljar.sandbox.seccomp.install import install

from .machine_code import Loop

GOAL = 1.3
POLICY = Policy.media()
ALLOW_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF_0000)
COMPILE = """
import time
from belljar import Policy
from belljar.sandbox.seccomp.compile import compile_policy
policy = Policy.media()
began = time.perf_counter()
compile_policy(policy, listener=True)
print(time.perf_counter() - began)
"""

Samples = dict[str, list[float]]


class Rows:
    """The loops to time, with the descriptors and memory that they work on."""

    def __init__(self) -> None:
        """Open all that is needed, before any filter is on."""
        number = {name: number for number, name in number_names().items()}
        self.zero = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
        self.ours, self.other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.memory = mmap.mmap(-1, 4 * mmap.PAGESIZE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        page, other_page = base + mmap.PAGESIZE, base + 2 * mmap.PAGESIZE
        fixed = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10
        read_write = mmap.PROT_READ | mmap.PROT_WRITE
        send = (number["sendto"], self.ours.fileno(), base, 64, 0, 0, 0)
        receive = (number["recvfrom"], self.other.fileno(), base, 64, 0, 0, 0)
        self.loops: dict[str, Callable[[int], int]] = {
            "getppid": Loop([(number["getppid"],)]),
            "clock_gettime": Loop([(number["clock_gettime"], 1, base)]),
            "read 1 byte": Loop([(number["read"], self.zero, base, 1)]),
            "futex wake": Loop([(number["futex"], base, 1 | 128, 0)]),
            "fcntl F_GETFL *": Loop([(number["fcntl"], self.zero, 3)]),
            "mprotect *": Loop([(number["mprotect"], page, mmap.PAGESIZE, read_write)]),
            "mmap * and munmap": Loop(
                [(number["mmap"], other_page, 4096, read_write, fixed, -1, 0), (number["munmap"], other_page, 4096)]
            ),
            "send * and receive": Loop([send, receive]),
            "Python: os.getppid()": _getppid,
        }


def _getppid(count: int) -> int:
    for _ in range(count):
        os.getppid()
    return 0


class Worker:
    """A process on one core, with *program* as its filter if there is one, that runs a loop when asked."""

    def __init__(self, rows: Rows, program: bytes | None) -> None:
        """Fork it."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            self._socket.close()
            _work(rows, program, theirs)
        theirs.close()

    def time(self, row: str, count: int) -> float:
        """Return the nanoseconds of one turn of the loop *row*."""
        self._socket.send(f"{count} {row}".encode())
        nanoseconds, result = self._socket.recv(100).split()
        if int(result) < 0:
            raise SystemExit(f"{row} failed: {os.strerror(-int(result))}")
        return int(nanoseconds) / count

    def end(self) -> None:
        """Let it end, and wait for it."""
        self._socket.close()
        os.waitpid(self._pid, 0)


def _work(rows: Rows, program: bytes | None, control: socket.socket) -> None:
    if program is not None:
        forbid_new_privileges()
        install(program, listener=False)
    while request := control.recv(100):
        count, row = request.decode().split(" ", 1)
        loop = rows.loops[row]
        began = time.perf_counter_ns()
        result = loop(int(count))
        took = time.perf_counter_ns() - began
        control.send(f"{took} {result}".encode())
    os._exit(0)


def time_calls(rounds: int, count: int) -> dict[str, Samples]:
    """Return nanoseconds by row and by filter, measured in turns."""
    rows = Rows()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    filters = {"none": None, "floor": ALLOW_ALL, "belljar": compile_policy(POLICY, listener=False)}
    workers = {name: Worker(rows, program) for name, program in filters.items()}
    samples: dict[str, Samples] = {row: {name: [] for name in workers} for row in rows.loops}
    for _ in range(rounds):
        for row, found in samples.items():
            for name, worker in workers.items():
                found[name].append(worker.time(row, count))
    for worker in reversed(workers.values()):
        worker.end()
    return samples


def time_install(threads: int) -> float:
    """Return the microseconds to install the filter on a fresh process with so many threads more."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        done = threading.Event()
        for _ in range(threads):
            threading.Thread(target=done.wait, daemon=True).start()
        forbid_new_privileges()
        program = compile_policy(POLICY, listener=False)
        began = time.perf_counter_ns()
        install(program, listener=False)
        os.write(writer, str(time.perf_counter_ns() - began).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    took = int(os.read(reader, 100)) / 1000
    os.close(reader)
    os.close(writer)
    return took


def time_compile(cache: str) -> float:
    """Return the milliseconds that a fresh process needs to have the filter, with *cache* as its cache."""
    environment = {**os.environ, "XDG_CACHE_HOME": cache}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout) * 1000


def time_repeated(action: Callable[[], object], count: int = 1000) -> float:
    """Return the microseconds of *action*."""
    began = time.perf_counter()
    for _ in range(count):
        action()
    return (time.perf_counter() - began) / count * 1e6


def costs(rounds: int) -> dict[str, float]:
    """Return what the filter costs outside of calls: size, installation, compilation."""
    template = compile_policy(POLICY, listener=True, own_pid_only=True)
    compiles: Samples = {"cold": [], "from disk": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            compiles["cold"].append(time_compile(cache))
            compiles["from disk"].append(time_compile(cache))
    return {
        "instructions": len(compile_policy(POLICY, listener=True)) // 8,
        "instructions, own pid only": len(template) // 8,
        "install, 1 thread, us": statistics.median(time_install(0) for _ in range(rounds)),
        "install, 9 threads, us": statistics.median(time_install(8) for _ in range(rounds)),
        "compile, cold, ms": statistics.median(compiles["cold"]),
        "compile, from disk, ms": statistics.median(compiles["from disk"]),
        "compile, from memory, us": time_repeated(lambda: compile_policy(POLICY, listener=True)),
        "bind the own pid, us": time_repeated(lambda: bind_pid(template, os.getpid())),
    }


def main() -> None:
    """Run the rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cost = costs(max(options.rounds // 3, 3))
    samples = time_calls(options.rounds, options.count)
    medians = {
        row: {name: statistics.median(values) for name, values in found.items()} for row, found in samples.items()
    }
    if options.json:
        print(json.dumps({"title": "cost of the filter", "goal": GOAL, "ns per turn": medians, "cost": cost}))
    else:
        show_calls(medians)
        show_costs(cost)


def show_calls(medians: dict[str, dict[str, float]]) -> None:
    """Print nanoseconds and ratios, and which rows miss the goal and why."""
    table = Table(title="the filter of media, ns a turn (* has a rule on arguments)", title_justify="left")
    table.add_column("", no_wrap=True)
    for heading in ("no filter", "any", "belljar", "x any", "x belljar", ""):
        table.add_column(heading)
    for row, found in medians.items():
        floor, ours = found["floor"] / found["none"], found["belljar"] / found["none"]
        verdict = "" if ours <= GOAL else f"over {GOAL}"
        table.add_row(row, *(f"{value:.0f}" for value in found.values()), f"{floor:.2f}", f"{ours:.2f}", verdict)
    Console().print(table)
    entered = statistics.median(found["floor"] - found["none"] for found in medians.values())
    print(f"Entering seccomp at all costs about {entered:.0f} ns here, so with any filter a call that takes less than")
    print(f"{entered / (GOAL - 1):.0f} ns without one misses {GOAL}. A rule on arguments adds one run of the filter.")


def show_costs(cost: dict[str, float]) -> None:
    """Print size and times."""
    table = Table("", "", title="outside of calls", title_justify="left")
    for name, value in cost.items():
        table.add_row(name, f"{value:.0f}" if value >= 100 else f"{value:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
