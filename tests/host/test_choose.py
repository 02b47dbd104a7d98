"""Which backend a launch gets on a machine that is known: the strongest that works and meets the floor, said aloud."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.host.choose import DEFAULT_FLOOR, choose, foreseen
from belljar.host.config.process_type import Process
from belljar.host.errors import LaunchError
from belljar.sandbox.backends import BACKENDS, host_half
from belljar.sandbox.errors import SandboxError
from belljar.sandbox.layers import Layer
from belljar.sandbox.policy import Policy
from belljar.sandbox.probe import FEATURES, LayerProbe, Machine
from belljar.sandbox.protection.operations import GROUPS, Operation, Verdict, requirement_names, unmet

from ..helpers import launch

OWN = tuple(name for name in BACKENDS if name != "none")


def machine(*missing: str, abi: int = 7) -> Machine:
    """Return a machine on which all but *missing* works."""
    details = {"landlock": f"ABI {abi}"}
    results = {name: LayerProbe(name, True, detail=details.get(name, "")) for name in FEATURES}
    lost = {name: LayerProbe(name, False, f"{name} broke", f"mend {name}") for name in missing}
    return Machine(results | lost)


def process(**fields: Any) -> Process:
    """Return a process type that is only looked at."""
    return Process(**{"plugin": "plugin.py:Plug", "backend": "auto", "policy": Policy.compute(), **fields})


def chosen(*missing: str, abi: int = 7, **fields: Any) -> str:
    """Return the name of the choice."""
    return choose(process(**fields), machine(*missing, abi=abi)).name


def refused(*missing: str, **fields: Any) -> str:
    """Return the sentence with which all are refused."""
    with pytest.raises(SandboxError) as caught:
        choose(process(**fields), machine(*missing))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ((), "namespaces"),
        (("userns",), "chrome-sandbox"),
        (("userns", "chrome-sandbox"), "bubblewrap"),
        (("userns", "chrome-sandbox", "bwrap"), "landlock"),
        (("userns", "chrome-sandbox", "landlock"), "seccomp"),
        (("seccomp-listener", "passpidfd"), "namespaces"),
    ],
)
def test_auto_takes_the_strongest_that_works(missing: tuple[str, ...], expected: str) -> None:
    """Of those whose features are there, the first in the order of strength; optional features do not count."""
    assert chosen(*missing) == expected


def test_auto_never_takes_none_by_itself() -> None:
    """Where nothing that confines works, ``auto`` is an error that names cause and remedy for each backend."""
    sentence = refused("no-new-privs")
    assert sentence.startswith("no backend works here and meets the floor of this process type: ")
    assert "none" not in sentence.partition(": ")[2]
    assert f"{', '.join(OWN)}: no-new-privs: no-new-privs broke; mend no-new-privs" in sentence


def test_each_refused_backend_has_its_own_reason() -> None:
    """Reasons that differ stand beside each other, each behind the backends that it holds for."""
    sentence = refused("userns", "bwrap", "chrome-sandbox", "landlock", require=("landlock",))
    for part in ("namespaces: userns: userns broke; mend userns", "bubblewrap: bwrap: bwrap broke; mend bwrap"):
        assert part in sentence
    assert "seccomp: it is below the floor, require = ['landlock']: it has no landlock; choose another" in sentence


def test_prefer_is_the_order() -> None:
    """``prefer`` says which are tried, and in which order; others are not taken, however well they work."""
    assert chosen(prefer=("seccomp", "namespaces")) == "seccomp"
    assert chosen("landlock", prefer=("landlock", "bubblewrap", "seccomp")) == "seccomp"
    assert "namespaces" not in refused("landlock", prefer=("landlock", "bubblewrap"))


def test_none_takes_a_name_and_no_floor() -> None:
    """``none`` is taken if ``prefer`` names it and ``require = []`` says that nothing is asked for."""
    assert chosen("seccomp", prefer=("seccomp", "none"), require=()) == "none"
    sentence = refused("seccomp", prefer=("seccomp", "none"))
    assert f"none: it is below the floor, require = {list(DEFAULT_FLOOR)}: it has no seccomp" in sentence


def test_a_backend_that_is_named_has_no_floor_but_its_own() -> None:
    """Without ``require``, whoever names a backend gets it; with it, that one is refused and no other is taken."""
    assert chosen(backend="none") == "none"
    assert chosen(backend="seccomp", require=("seccomp", "files")) == "seccomp"
    sentence = refused(backend="seccomp", require=("empty-root", "seccomp"))
    assert sentence.startswith("backend 'seccomp' cannot be used here: it is below the floor")
    assert "it has no empty-root; choose another backend, or ask for less in require" in sentence
    assert "it has no seccomp" not in sentence


MEETING: dict[str, set[str]] = {
    "user-namespace": {"namespaces", "bubblewrap"},
    "pid-namespace": {"namespaces", "chrome-sandbox", "bubblewrap"},
    "net-namespace": {"namespaces", "chrome-sandbox", "bubblewrap"},
    "ipc-namespace": {"namespaces", "bubblewrap"},
    "mount-namespace": {"namespaces", "bubblewrap"},
    "uts-namespace": {"namespaces", "bubblewrap"},
    "cgroup-namespace": {"namespaces", "bubblewrap"},
    "empty-root": {"namespaces", "chrome-sandbox"},
    "capabilities": {*OWN},
    "no-new-privs": {*OWN},
    "landlock": {"bubblewrap", "landlock"},
    "seccomp": {*OWN},
    "rlimits": {*OWN},
    "files": {*OWN},
    "network": {*OWN},
    "processes": {*OWN},
    "stat a file": {"namespaces", "chrome-sandbox"},
    "see processes": {"namespaces", "chrome-sandbox", "bubblewrap"},
    "make a thread": set(),
}
"""Word of ``require`` -> the backends that meet it for a child that computes. Words that are not here: all of them."""


@pytest.mark.parametrize("word", requirement_names())
def test_each_word_of_require_is_met_by_some(word: str) -> None:
    """A layer, an operation or a group is met by those backends that promise it, and `none` meets none."""
    meeting = MEETING.get(word, set(OWN))
    for name in OWN:
        if name in meeting:
            assert chosen(prefer=(name,), require=(word,)) == name
        else:
            assert "it is below the floor" in refused(prefer=(name,), require=(word,))
    assert "it is below the floor" in refused(prefer=("none",), require=(word,))


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_all_of_its_operations(group: str) -> None:
    """A group is met exactly where each of its operations is."""
    policy = Policy(read_only=("/usr",), network=("inet",))
    for name in ("namespaces", "bubblewrap", "landlock"):
        half = host_half(name)
        status = foreseen(half, policy, machine())
        missed = unmet((group,), half.promises(policy), status)
        by_one = [unmet((one,), half.promises(policy), status) for one in GROUPS[group]]
        assert missed == [problem for problems in by_one for problem in problems]


@pytest.mark.parametrize(
    ("policy", "unable", "parts"),
    [
        (Policy(read_only=("/usr",)), {"chrome-sandbox", "seccomp"}, ("/usr", "take that out of the policy")),
        (Policy(network=("inet",)), {"chrome-sandbox"}, ("network = ['inet'] leads nowhere", "choose another backend")),
        (
            Policy(network=("unix",)),
            {"landlock", "seccomp"},
            ("sockets from those of the machine", "choose another backend"),
        ),
    ],
)
def test_a_policy_that_a_backend_would_widen(policy: Policy, unable: set[str], parts: tuple[str, ...]) -> None:
    """A backend that cannot give what the policy grants without more is passed over, or refused with that reason."""
    for name in unable:
        sentence = refused(backend=name, policy=policy)
        assert all(part in sentence for part in parts)
    rest = [name for name in OWN if name not in unable]
    assert chosen(policy=policy, prefer=(*sorted(unable), *rest)) == rest[0]


def test_what_was_not_chosen_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    """Each backend that stands before the chosen one is a warning with cause and remedy; a first choice is silent."""
    chosen("userns", "chrome-sandbox")
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert caplog.messages[0] == ("plug: auto chose bubblewrap and not namespaces: userns: userns broke; mend userns")
    caplog.clear()
    assert chosen() == "namespaces"
    assert not caplog.records


def test_a_machine_that_could_not_be_tried() -> None:
    """Where probing itself failed, that is the one reason, for ``auto`` as for a named backend."""
    broken = Machine(machine(*FEATURES).results, "could not start the probing process; raise the limit")
    for backend in ("auto", "namespaces", "none"):
        with pytest.raises(SandboxError, match=r"^what works here could not be tried: could not start the probing"):
            choose(process(backend=backend), broken)


@settings(deadline=None, max_examples=200)
@given(
    missing=st.sets(st.sampled_from(FEATURES), max_size=4),
    prefer=st.none() | st.lists(st.sampled_from(tuple(BACKENDS)), min_size=1, unique=True).map(tuple),
    require=st.none() | st.lists(st.sampled_from(requirement_names()), max_size=3).map(tuple),
    abi=st.integers(1, 10),
    paths=st.booleans(),
)
def test_a_choice_is_the_first_that_can_be_taken(
    *, missing: set[str], prefer: tuple[str, ...] | None, require: tuple[str, ...] | None, abi: int, paths: bool
) -> None:
    """Whatever is missing and asked for, the choice meets the floor, and all before it are refused when named alone."""
    wanted = process(prefer=prefer, require=require, policy=Policy(read_only=("/usr",) if paths else ()))
    here = machine(*missing, abi=abi)
    candidates = prefer or OWN
    try:
        half = choose(wanted, here)
    except SandboxError as error:
        assert all(name in str(error) for name in candidates)
        return
    assert not set(half.requires) & missing
    floor = DEFAULT_FLOOR if require is None else require
    assert unmet(floor, half.promises(wanted.policy), foreseen(half, wanted.policy, here)) == []
    for name in candidates[: candidates.index(half.name)]:
        with pytest.raises(SandboxError):
            choose(process(prefer=(name,), require=require, policy=wanted.policy), here)


@pytest.mark.parametrize("operation", Operation)
def test_an_older_landlock_enforces_no_more(operation: Operation) -> None:
    """What landlock does for an operation never gets less with a newer ABI."""
    order = [Verdict.OPEN, Verdict.GRANTED, Verdict.PARTLY, Verdict.ENFORCED]
    for policy in (Policy.compute(), Policy(read_write=("/srv",)), Policy(network=("inet",), subprocesses=True)):
        verdicts = [
            next(
                status.verdict
                for status in foreseen(host_half("landlock"), policy, machine(abi=abi))
                if status[0] is operation
            )
            for abi in range(1, 11)
        ]
        assert verdicts == sorted(verdicts, key=order.index)


@pytest.mark.anyio
async def test_the_floor_holds_at_the_seal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was foreseen and is not there when the host looks ends the launch at stage 8, promised or not."""
    monkeypatch.setattr("belljar.host.stages.choose", lambda process, machine: host_half(process.backend))
    with pytest.raises(LaunchError, match=r"stage 8 .*below the floor.*it has no seccomp"):
        await launch(backend="none", require=(Layer.SECCOMP.value,)).__aenter__()
