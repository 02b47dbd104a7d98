"""The step zmq: sockets connected before the seal talk after it, and nothing new can be made."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from belljar.host.errors import ChildEnded, LaunchError, PlanError
from belljar.host.plan.step import Step
from belljar.host.process_host import ProcessHost
from belljar.ipc.stage import Stage
from belljar.sandbox.backends import host_half
from belljar.sandbox.danger import NETWORK
from belljar.sandbox.policy import Policy
from belljar.sandbox.probe import probe

from ...helpers import launch

pytestmark = pytest.mark.anyio

STRICTEST = Policy()


@contextmanager
def echo(endpoint: str) -> Iterator[str]:
    """Run a ROUTER at *endpoint* that answers each message with its parts in reverse; yield where it really is."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.PAIR) as end:
        router.linger = 0
        router.bind(endpoint)
        end.bind("inproc://end")

        def run() -> None:
            with context.socket(zmq.PAIR) as ending:
                ending.connect("inproc://end")
                poller = zmq.Poller()
                poller.register(router, zmq.POLLIN)
                poller.register(ending, zmq.POLLIN)
                while ending not in dict(poller.poll()):
                    sender, *parts = router.recv_multipart()
                    router.send_multipart([sender, *reversed(parts)])

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield router.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()  # type: ignore[union-attr]
        finally:
            end.send(b"")
            thread.join()


def talks(backend: str, *sockets: str, policy: Policy = STRICTEST, folders: Any = (), **declared: Any) -> ProcessHost:
    """Return a host of a child with *sockets*."""
    options = {"sockets": sockets, "folders": [str(folder) for folder in folders]}
    step = Step("zmq", options=options, declared=declared)  # type: ignore[arg-type]
    return launch("steps/talks.py:Talks", backend=backend, policy=policy, preload=("zmq",), early_init=(step,))


@pytest.mark.parametrize("policy", [STRICTEST, Policy.compute()], ids=["strictest", "compute"])
async def test_without_the_step_libzmq_aborts(policy: Policy, backend: str) -> None:
    """A context made after the seal ends the child, unless there is no seal."""
    with echo("tcp://127.0.0.1:*") as endpoint:
        async with launch("steps/talks.py:Talks", backend=backend, policy=policy, preload=("zmq",)) as host:
            if backend == "none":
                assert await host.call("connect_late", endpoint, 5000, returns=str) == "answered"
                return
            # As pid 1 of its namespace it gets no signal of its own, and abort(3) then goes on to an illegal access.
            with pytest.raises(ChildEnded, match=r"SIGABRT|SIGSEGV"):
                await host.call("connect_late", endpoint, 5000, returns=str)


async def test_a_socket_over_ipc_works_after_the_seal(backend: str, tmp_path: Path) -> None:
    """Real messages, there and back, under the policy that grants nothing; what stays is as declared."""
    with echo(f"ipc://{tmp_path}/echo") as endpoint:
        async with talks(backend, f"jobs DEALER {endpoint}", folders=[tmp_path]) as host:
            report = host.early_init["zmq"]
            assert (report.undeclared, set(report.left.threads)) == (None, {"ZMQbg/IO/0", "ZMQbg/Reaper"})
            for size in (1, 1000, 1 << 20):
                answer = await host.call("ask", "jobs", [b"first", bytes(size)], returns=list[bytes])
                assert answer == [bytes(size), b"first"]


async def test_a_socket_over_tcp_works_where_there_is_a_network(backend: str) -> None:
    """The host's network, which the policy grants where the backend would else take it away."""
    policy = Policy().allow_network("inet", NETWORK) if backend in ("namespaces", "bubblewrap") else STRICTEST
    with echo("tcp://127.0.0.1:*") as endpoint:
        if backend == "chrome-sandbox":  # has a network of its own, and no policy can change that
            assert "leads nowhere" in host_half(backend).unable(Policy().allow_network("inet", NETWORK), probe())
            with pytest.raises(LaunchError, match=f"could not connect to {endpoint}: .*has no network"):
                await talks(backend, f"jobs DEALER {endpoint}").__aenter__()
            return
        async with talks(backend, f"jobs DEALER {endpoint}", policy=policy) as host:
            assert await host.call("ask", "jobs", [b"a", b"b"], returns=list[bytes]) == [b"b", b"a"]


async def test_a_network_that_is_not_there_can_be_declared() -> None:
    """With ``needs = ["network"]`` in the entry the plan refuses it before anything starts."""
    host = talks("namespaces", "jobs DEALER tcp://127.0.0.1:9", needs=["files", "threads", "network"])
    with pytest.raises(PlanError, match="zmq needs network, but namespaces gives the child a network namespace"):
        await host.__aenter__()


async def test_a_lost_peer_is_lost_for_good(backend: str, tmp_path: Path) -> None:
    """The child outlives its peer, does not connect to the next one of that name, and notices by its timeout."""
    with ExitStack() as first:
        endpoint = first.enter_context(echo(f"ipc://{tmp_path}/echo"))
        async with talks(backend, f"jobs DEALER {endpoint}", folders=[tmp_path]) as host:
            assert await host.call("ask", "jobs", [b"a"], returns=list[bytes]) == [b"a"]
            first.close()
            with echo(endpoint):
                assert await host.call("ask_alone", "jobs", 300, returns=str) == "again"


@pytest.mark.parametrize(
    ("sockets", "reason"),
    [
        (["jobs DEALER"], "expected a socket as 'name TYPE endpoint', got 'jobs DEALER'"),
        (["jobs DEALR ipc:///x"], "there is no socket type 'DEALR' .did you mean 'DEALER'"),
        (["jobs DEALER ipc:///nowhere/x"], "could not connect to ipc:///nowhere/x: there is no such file"),
        (["jobs DEALER tcp://127.0.0.1:9"], "could not connect to tcp://127.0.0.1:9: nobody listens there"),
        (["jobs DEALER what:ever"], "could not connect to what:ever: "),
    ],
)
async def test_what_cannot_be_connected_is_named(sockets: list[str], reason: str) -> None:
    """The launch ends in early init, with the socket and the remedy."""
    with pytest.raises(LaunchError, match=f"zmq: .*{reason}") as caught:
        await talks("namespaces", *sockets).__aenter__()
    assert caught.value.stage is Stage.EARLY_INIT
