"""Early init on every backend: what steps hand on, what they want done around the seal, and late ones."""

from __future__ import annotations

from typing import Any

import pytest

from belljar.host.errors import LaunchError, PlanError
from belljar.host.process_host import ProcessHost
from belljar.ipc.stage import Stage

from ..helpers import CHILDREN, launch, only_over_socket

pytestmark = pytest.mark.anyio

EARLY = str(CHILDREN / "early.py")


def with_steps(backend: str, *functions: str, **fields: Any) -> ProcessHost:
    """Return a host of a child that takes these steps of tests/children/early.py."""
    steps = tuple(f"{EARLY}:{function}" for function in functions)
    return launch("early_plugin.py:Plug", backend=backend, early_init=steps, **fields)


async def refused(stage: Stage, reason: str, host: ProcessHost) -> None:
    """Fail unless the launch of *host* is refused at *stage* for *reason*."""
    with pytest.raises(LaunchError, match=reason) as caught:
        await host.__aenter__()
    assert caught.value.stage is stage


@only_over_socket
async def test_a_step_hands_on_to_steps_and_plugin(backend: str) -> None:
    """What a step returns reaches later steps and the sealed plugin, and steps of one file share its module."""
    async with with_steps(backend, "question", "answer") as host:
        assert await host.call("handed", "early.py:answer", returns=int) == 42
        assert await host.call("handed", "early.py:question", returns=list[str]) == ["answer", "question"]
        assert "there is: early.py:answer, early.py:question" in await host.call("why_not", "fonts", returns=str)


async def test_an_optional_step_that_fails_is_told_and_the_launch_goes_on(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure stands in the log, in the host's report, and in the error of a plugin that asks for the step."""
    async with with_steps(backend, "unlucky", "answer") as host:
        assert host.early_init["early.py:unlucky"].failure == "FileNotFoundError: no such driver"
        assert "no such driver" in await host.call("why_not", "early.py:unlucky", returns=str)
        assert await host.call("handed", "early.py:answer", returns=int) == 42
    assert "the optional step early.py:unlucky failed: FileNotFoundError: no such driver" in caplog.text


@only_over_socket
async def test_what_rests_over_the_seal_is_stopped_before_it_and_goes_on_after_it(backend: str) -> None:
    """A watchdog has no thread while the host verifies the seal, and has one again before the plugin is loaded."""
    async with with_steps(backend, "watchdog") as host:
        assert host.protection is not None
        assert host.protection.threads == 1
        assert await host.call("watchdog", returns=list[str]) == ["stopped", "started", "2"]


async def test_calls_around_the_seal_have_an_order(backend: str) -> None:
    """Quiesced in reverse, resumed in order."""
    async with with_steps(backend, "order") as host:
        noted = await host.call("handed", "early.py:order", returns=list[str])
    assert noted == ["quiesce second", "quiesce first", "resume first", "resume second"]


async def test_what_does_not_come_to_rest_is_named(backend: str) -> None:
    """A quiesce that hangs or fails, or a resume that fails, has its stage and its step in the error."""
    reason = r"quiesce of early\.py:stubborn did not finish within 0\.2 s"
    await refused(Stage.SEAL, reason, with_steps(backend, "stubborn"))
    await refused(Stage.SEAL, r"quiesce of early\.py:restless: ZeroDivisionError", with_steps(backend, "restless"))
    reason = r"resume of early\.py:unable_to_go_on: ZeroDivisionError"
    await refused(Stage.LOAD, reason, with_steps(backend, "unable_to_go_on"))
    await refused(Stage.LOAD, r"early\.py:too_late: around_seal can only", with_steps(backend, "too_late"))


async def test_a_late_step_runs_in_the_sealed_child(backend: str) -> None:
    """A step after the seal is refused what the seal refuses; where nothing is sealed, it is not."""
    async with with_steps(backend, "late") as host:
        answer = await host.call("handed", "early.py:late", returns=str)
    assert answer == ("opened" if backend == "none" else "Permission denied")


async def test_a_step_in_the_wrong_place_is_refused_before_anything_starts(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A step that needs files after the seal is a PlanError with cause and remedy; forced, it runs and fails."""
    host = with_steps(backend, "reversed_order")
    if backend == "none":
        async with host:
            assert await host.call("handed", "early.py:reversed_order", returns=str)
        return
    with pytest.raises(PlanError, match=rf"needs files, but stands after the seal.*{backend}.*come before the seal"):
        await host.__aenter__()
    assert "launch" not in host.timeline
    forced = with_steps(backend, "reversed_order", force_plan=True)
    await refused(Stage.LOAD, r"early\.py:reversed_order: (Permission|File)", forced)
    assert "launched although the plan is refused" in caplog.text


async def test_a_right_that_a_step_finds_it_needs_is_asked_of_the_policy(backend: str) -> None:
    """require_after_seal fails the step before the seal, with the reason."""
    reason = "this step makes code: that needs executable-memory after the seal"
    await refused(Stage.EARLY_INIT, reason, with_steps(backend, "outside_of_a_step"))
