"""The hello is believed if and only if every rule holds."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from belljar.ipc.credentials import Credentials
from belljar.ipc.errors import HelloError
from belljar.ipc.hello import Expected, Facts, choose_version, judge_hello, judge_sender
from belljar.ipc.messages import HIGHEST, LOWEST, FromChild, Hello, Ready, Sealed, StageFailed, StepBegan

few = st.integers(0, 4)
facts = st.builds(
    Facts,
    message=st.just(Hello(LOWEST, HIGHEST, 1)),
    credentials=st.lists(st.builds(Credentials, few, few, few), max_size=2),
    fd_count=st.integers(0, 2),
    pidfd_pid=st.none() | st.integers(-1, 4),
    ancestors=st.lists(few, max_size=4),
)
expectations = st.builds(Expected, uid=few, outer_pid=st.integers(-1, 4), related=st.booleans())


def holds(seen: Facts, expected: Expected) -> bool:
    """The rules once more, as one expression."""
    if len(seen.credentials) != 1:
        return False
    sender = seen.credentials[0]
    if expected.related:
        is_launched = sender.sender_pid != expected.outer_pid and expected.outer_pid in seen.ancestors
    else:
        is_launched = sender.sender_pid == expected.outer_pid
    return (
        seen.fd_count == 0
        and sender.sender_pid > 0
        and sender.uid == expected.uid
        and seen.pidfd_pid in (None, sender.sender_pid)
        and is_launched
    )


@given(facts, expectations)
def test_a_sender_is_believed_if_and_only_if_every_rule_holds(seen: Facts, expected: Expected) -> None:
    """One credential, no fd, a visible pid, the uid, the same pidfd and the launched process: all, or HelloError."""
    if holds(seen, expected):
        assert judge_sender(seen, expected) == seen.credentials[0]
    else:
        with pytest.raises(HelloError):
            judge_sender(seen, expected)


GOOD = Facts(Hello(LOWEST, HIGHEST, 1), [Credentials(7, 0, 0)], 0, 7)
LAUNCHED = Expected(uid=0, outer_pid=7)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"credentials": []}, "0 credentials instead of one"),
        ({"credentials": [Credentials(7, 0, 0)] * 2}, "2 credentials"),
        ({"fd_count": 250}, "250 surplus fds"),
        ({"credentials": [Credentials(0, 0, 0)]}, "pid 0"),
        ({"credentials": [Credentials(7, 65534, 0)]}, "uid 65534 instead of 0"),
        ({"pidfd_pid": 8}, "pidfd is of process 8"),
        ({"credentials": [Credentials(8, 0, 0)], "pidfd_pid": 8}, "which the backend did not launch"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_broken_rule_is_named(change: dict[str, object], reason: str) -> None:
    """The error names the rule that the first message breaks."""
    assert judge_sender(GOOD, LAUNCHED) == GOOD.credentials[0]
    with pytest.raises(HelloError, match=reason):
        judge_sender(dataclasses.replace(GOOD, **change), LAUNCHED)  # type: ignore[arg-type]


def test_a_helper_is_not_its_own_child() -> None:
    """Behind a helper, only a descendant of the launched process is believed, not the helper itself."""
    expected = Expected(uid=0, outer_pid=5, related=True)
    below = dataclasses.replace(GOOD, ancestors=[7, 5, 1])
    assert judge_sender(below, expected).sender_pid == 7
    for liar in (
        dataclasses.replace(GOOD, ancestors=[7, 1]),
        Facts(GOOD.message, [Credentials(5, 0, 0)], 0, 5, [5, 1]),
    ):
        with pytest.raises(HelloError, match="did not launch"):
            judge_sender(liar, expected)


messages: st.SearchStrategy[FromChild] = st.one_of(
    st.builds(Hello, few, st.integers()),
    st.just(Ready((), {})),
    st.just(Sealed({})),
    st.just(StepBegan(0)),
    st.just(StageFailed(1, 0, "")),
)


@given(messages)
def test_only_a_hello_is_a_hello(message: FromChild) -> None:
    """The first message is a hello, or HelloError."""
    seen = dataclasses.replace(GOOD, message=message)
    if isinstance(message, Hello):
        assert judge_hello(seen) is message
    else:
        with pytest.raises(HelloError):
            judge_hello(seen)


@given(few, few, few, few)
def test_the_highest_common_version_is_chosen(lowest: int, highest: int, oldest: int, newest: int) -> None:
    """Child and host speak the highest version that both know, or the error says which of the two to update."""
    assume(oldest <= newest)
    hello = Hello(lowest, highest, 1)
    both = set(range(lowest, highest + 1)) & set(range(oldest, newest + 1))
    if both:
        assert choose_version(hello, oldest, newest) == max(both)
        return
    with pytest.raises(HelloError) as caught:
        choose_version(hello, oldest, newest)
    if lowest <= highest:
        assert str(caught.value).endswith(f"update the {'child' if highest < oldest else 'host'}")


@given(st.integers(), st.integers())
def test_the_claimed_pid_never_counts(first: int, second: int) -> None:
    """Two hellos that claim different pids get the same verdict."""
    assume(first != second)
    for claimed in (first, second):
        seen = dataclasses.replace(GOOD, message=Hello(LOWEST, HIGHEST, claimed))
        assert judge_sender(seen, LAUNCHED) == GOOD.credentials[0]
