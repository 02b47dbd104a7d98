"""What ordinary code does inside of a sealed child, and how the child is set up, on every backend.

Drawn from the suites of others: Sandbox2's MinimalBinaryWorks, SystemMallocWorks, PthreadsWork and SpeculationAllowed;
Gecko's high_bits_*, memfd_sizing and clock_gettime_*; Chromium's BaselinePolicyBasicAllowed, CreateThread, Socketpair,
GetRandom and CanKillSelf; minijail's reset_signal_mask, reset_signal_handlers and no_fd_leaks; firejail's env.exp.
"""

from __future__ import annotations

import os
import resource
import subprocess

import anyio
import pytest

from belljar.sandbox.launch import client
from belljar.sandbox.launch.client import ENVIRONMENT
from belljar.sandbox.layers import Layer

from ..helpers import guard_of, launch, only_over_socket, open_fds
from .observe import Seen, engaged_by_report, fresh_import_path

WORKS: dict[str, object] = {
    "threads": list(range(8)),
    "thread_pool": 4950,
    "thread_ids": [True, False],
    "thread_name": "renamed",
    "large_block": 96 << 20,
    "growing_block": 16 << 20,
    "collected": True,
    "clocks": [True] * 5,
    "clock_with_garbage": 0,
    "fcntl_with_garbage": True,
    "sleep": True,
    "randomness": [16] * 4,
    "random_numbers": True,
    "sealed_memfd": [6, 0b1010],
    "sized_memfd": 1 << 20,
    "interval_timer": "SIGALRM",
    "thread_timer": True,
    "signal_to_itself": [10, 10, 10],
    "arithmetic": [50.0, 0.125, 1.0, 0.0],
    "text": ['{"\\u00e4": [1, null]}', "a#b#", "xx"],
    "hashes": ["e3b0c442", "1271cf25", "120fb6cf"],
    "tls": True,
    "dates": ["2000-01-01T00:00:00+00:00", "Tuesday", "1970"],
    "codecs": ["xn--bcher-kva", "ü", "e400"],
    "languages": "1.50UTF-8",
    "recent_traceback": True,
    "event_loop": ["slept", 120],
    "pipe": "through",
    "socket_pair": "hello",
    "polls": [1, 1, 1],
    "copied_fds": True,
    "open_fds": [0, 1, 2, 3],
    "inherited_fds": [],
    "blocked_signals": [],
    "signal_actions": {"SIGPIPE": "ignored", "SIGXFSZ": "ignored"},
    "standard_input": 0,
    "terminals": [False] * 3,
    "speculation": True,
    "usage": True,
    "priority": os.getpriority(os.PRIO_PROCESS, 0),
    "scheduler": True,
    "temporary_names": True,
    "answer after all of it": 3,
}
"""Each entry of `children/behaves/works.py` with what it must return."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[only_over_socket] if name == "open_fds" else []) for name in WORKS]
)
def test_ordinary_code_works(seen: Seen, name: str) -> None:
    """Computation, memory, threads, clocks, timers, memfds and channels work the same under every backend."""
    assert seen.works[name] == WORKS[name]


def test_the_environment_is_what_is_promised(seen: Seen) -> None:
    """Nothing of the host's environment and nothing of a helper's is in the child's, only what is documented."""
    assert seen.works["environment"] == {**ENVIRONMENT, "BELLJAR_OUTER_PID": str(seen.child_pid)}


def test_the_import_path_is_that_of_a_fresh_interpreter(seen: Seen) -> None:
    """``sys.path`` is what ``python -I`` has, so what was importable before the seal does not depend on the backend."""
    assert seen.works["import_path"] == fresh_import_path()


def test_all_processors_are_known(seen: Seen) -> None:
    """``os.cpu_count`` works without /sys and /proc, by the affinity of the process."""
    usable = len(os.sched_getaffinity(0))
    assert seen.works["cpus"] == [usable, usable]


def test_the_user_is_the_one_that_was_asked_for(seen: Seen) -> None:
    """The child has one uid and one gid in all three places and no more groups than that user has."""
    status = seen.outside.status
    assert (status["Uid"], status["Gid"]) == ("\t".join([str(os.getuid())] * 4), "\t".join([str(os.getgid())] * 4))
    assert set(map(int, status["Groups"].split())) <= set(os.getgroups())


def test_no_core_is_dumped(seen: Seen) -> None:
    """The core limit is a byte, too little for any, soft and hard: what data did to memory is written nowhere."""
    engaged_by_report(seen.protection, Layer.RLIMITS)
    assert seen.works["core_size"] == [1, 1]


def test_limits_that_no_policy_names_are_the_hosts(seen: Seen) -> None:
    """A backend changes no limit by itself but those of core dumps and of fds, and raises neither."""
    own = {name: list(resource.getrlimit(getattr(resource, name))) for name in seen.works["all_limits"]}
    changed = {name for name, value in seen.works["all_limits"].items() if value != own[name]}
    assert changed <= {"RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_OFILE"}
    assert seen.works["all_limits"]["RLIMIT_NOFILE"] <= own["RLIMIT_NOFILE"]


def test_the_host_name_is_hidden(seen: Seen) -> None:
    """uname(2) shows no name of the machine where there is a uts namespace."""
    engaged_by_report(seen.protection, Layer.UTS_NS)
    assert seen.works["host_name"] == "belljar"


@only_over_socket
def test_three_streams_and_the_control_channel_are_all_fds(seen: Seen) -> None:
    """From outside, too: an empty pipe (a device could be changed by its owner), two that the host reads, a socket."""
    kinds = {fd: kind.partition(":")[0] for fd, kind in seen.outside.fds.items()}
    assert kinds == {"0": "pipe", "1": "pipe", "2": "pipe", "3": "socket"}


def test_no_terminal_and_a_session_of_its_own(seen: Seen) -> None:
    """A Ctrl-C at the host's terminal does not reach the child: it is in no session of host or guard."""
    assert seen.outside.terminal == 0
    assert seen.outside.session not in (os.getsid(0), seen.guard_session)


def test_nothing_of_signals_is_inherited(seen: Seen) -> None:
    """The kernel shows no blocked signal, and as ignored only what Python ignores: SIGPIPE and SIGXFSZ."""
    status = seen.outside.status
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) == 1 << 12 | 1 << 24


def test_the_mask_of_new_files_is_the_hosts(seen: Seen) -> None:
    """umask(2) of the child is that of the host."""
    with open("/proc/self/status", encoding="utf-8") as file:
        own = next(line.split()[1] for line in file if line.startswith("Umask:"))
    assert seen.outside.status["Umask"] == own


def test_the_working_directory_leads_nowhere(seen: Seen) -> None:
    """It is the root, or a directory of a process that has ended (chrome-sandbox); never the host's."""
    cwd = seen.outside.cwd
    assert cwd == "/" or (seen.backend == "chrome-sandbox" and not os.path.exists(cwd))


def test_output_reaches_the_log_with_the_name_of_its_stream(seen: Seen) -> None:
    """Lines of print in the child come out of the host's loggers, one for each stream; what it logs has none."""
    lines = {(name, text) for name, text in seen.log if name.startswith("belljar.child.")}
    assert ("belljar.child.behaves.stdout", "one line") in lines
    assert ("belljar.child.behaves.stderr", "another line") in lines
    assert ("belljar.child.behaves", "a warning") in lines


def test_an_error_comes_with_its_traceback(seen: Seen) -> None:
    """What the plugin raised is text at the host: type, words, and the lines of it and of what came before."""
    error = seen.errors["raises"]
    assert (error.remote_type, str(error)) == ("ValueError", "'raises' raised ValueError: outer")
    assert 'raise ValueError("outer") from error' in error.remote_traceback
    assert "KeyError: 'inner'" in error.remote_traceback


def test_endless_recursion_is_an_error_of_the_plugin(seen: Seen) -> None:
    """The child lives on after a RecursionError."""
    assert seen.errors["recurses"].remote_type == "RecursionError"


def test_an_error_of_the_kernel_is_no_refusal(seen: Seen) -> None:
    """An OSError that the seal had no part in names nothing refused."""
    error = seen.errors["fails_in_the_kernel"]
    assert (error.remote_type, error.refused) == ("OSError", ())
    assert "Invalid argument" in str(error)


def test_nothing_that_the_host_left_open_is_inherited(backend: str, anyio_backend: str) -> None:
    """An fd that the host marks as inheritable reaches neither the guard nor any child, however they are started."""

    async def fds_of_a_child() -> dict[str, str]:
        async with launch(backend=backend) as host:
            return open_fds(host.child_pid or 0) | {"guard": str(open_fds(guard_of(os.getpid())))}

    client.stop()  # what runs already could not inherit it
    with open("/dev/full", "rb") as file:
        os.set_inheritable(file.fileno(), True)
        found = anyio.run(fds_of_a_child, backend=anyio_backend)
        control = subprocess.run(["/bin/ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, check=True)
    assert "/dev/full" not in str(found)
    assert b"/dev/full" in control.stdout
