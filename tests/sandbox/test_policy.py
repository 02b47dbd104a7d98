"""Policies: values that print themselves, keep their hash, survive TOML, and refuse contradictions with a remedy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.sandbox.errors import PolicyError
from belljar.sandbox.policy import Family, Limits, Policy

MEDIA_HASH = "21f01143a3397c0b530841336262e9382a9a8b19a2dae3ac281b7e85bd23b4ca"
FAMILIES: tuple[Family, ...] = ("inet", "inet6", "netlink", "unix")

names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1).filter(
    lambda name: name not in (".", "..")
)


def paths(prefix: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(names, unique=True, max_size=4).map(lambda found: tuple(f"{prefix}/{name}" for name in found))


def at_least(number: int) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(number, (1 << 63) - 1)


limits = st.builds(
    Limits,
    memory=at_least(16 << 20),
    cpu=st.none() | st.integers(1, 366 * 24 * 3600),
    open_files=at_least(16),
    processes=at_least(1),
    file_size=at_least(0),
)
policies = st.builds(
    Policy,
    read_only=paths("/read"),
    read_write=paths("/write"),
    devices=paths("/dev"),
    network=st.lists(st.sampled_from(FAMILIES), unique=True).map(tuple),
    subprocesses=st.booleans(),
    threads=st.booleans(),
    executable_memory=st.booleans(),
    local_channels=st.booleans(),
    limits=limits,
)


@given(policies)
def test_toml_round_trip(policy: Policy) -> None:
    """A policy comes back from TOML equal, with the same hash."""
    back = Policy.from_toml(policy.to_toml())
    assert (back, back.hash()) == (policy, policy.hash())


def test_toml_reads_as_a_person_writes_it() -> None:
    """Sizes and times take units, and what is not written is refused or unlimited."""
    text = """
        read_only = ["/usr/share/fonts"]
        network = ["inet"]
        limits = { memory = "512MiB", cpu = "30s", open_files = 64, file_size = 1000 }
    """
    expected = Limits(memory=512 << 20, cpu=30, open_files=64, file_size=1000)
    assert Policy.from_toml(text) == Policy(read_only=("/usr/share/fonts",), network=("inet",), limits=expected)
    assert Policy.from_toml("") == Policy()


def test_toml_is_written_for_people() -> None:
    """Every right stands in the TOML, and limits have units."""
    assert Policy.media().to_toml() == (
        "read_only = []\nread_write = []\ndevices = []\nnetwork = []\nsubprocesses = false\nthreads = true\n"
        "executable_memory = false\nlocal_channels = false\n\n"
        '[limits]\nmemory = "1GiB"\nopen_files = 256\nfile_size = "256MiB"\n'
    )


def test_hash_never_changes() -> None:
    """The hash is that of the canonical form: to change it is to change the version in it."""
    assert Policy.media().hash() == MEDIA_HASH


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_hash_is_the_same_in_every_process(seed: str) -> None:
    """The hash does not hang on the process, unlike Python's own."""
    code = "from belljar.sandbox.policy import Policy; print(Policy.media().hash())"
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == MEDIA_HASH


@given(policies, st.randoms())
def test_hash_does_not_hang_on_order(policy: Policy, chance: Any) -> None:
    """The same rights named in another order have the same hash."""
    shuffled = tuple(chance.sample(policy.read_only, len(policy.read_only)))
    assert msgspec.structs.replace(policy, read_only=shuffled).hash() == policy.hash()


@given(policies, policies)
def test_hash_differs_where_rights_differ(one: Policy, two: Policy) -> None:
    """Other rights or limits, another hash."""

    def rights(policy: Policy) -> dict[str, Any]:
        lists = ("read_only", "read_write", "devices", "network")
        fields = msgspec.structs.asdict(policy)
        return {key: sorted(value) if key in lists else value for key, value in fields.items()}

    assert (one.hash() == two.hash()) == (rights(one) == rights(two))


def test_policy_is_a_frozen_value() -> None:
    """A policy cannot be changed, and can be a key."""
    policy = Policy.media()
    with pytest.raises(AttributeError):
        policy.threads = False  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    assert {policy: 1}[Policy.media()] == 1


def test_policy_prints_what_is_allowed_and_what_is_not() -> None:
    """A person reads in one line what a child may do, what not, and its limits."""
    policy = Policy(read_only=("/a", "/b"), threads=True, limits=Limits(memory=1 << 30, cpu=5))
    assert str(policy) == (
        "read only /a /b, threads; no read write, no devices, no network, no subprocesses, no executable memory, "
        "no local channels; memory 1GiB, cpu 5s"
    )
    assert str(Policy.compute()).startswith("threads, local channels; no read only")


def test_presets_are_what_their_names_say() -> None:
    """Neither preset has files, network, processes or executable memory; only computing has an event loop."""
    for preset in (Policy.compute(), Policy.media()):
        preset.check()
        refused = ("read_only", "read_write", "devices", "network", "subprocesses", "executable_memory")
        assert [key for key in refused if getattr(preset, key)] == []
        assert preset.limits.processes is None
    assert (Policy.compute().local_channels, Policy.media().local_channels) == (True, False)
    assert Policy.preset("media") == Policy.media()
    with pytest.raises(PolicyError, match="policy has no preset 'medai' \\(did you mean 'media'\\?\\)"):
        Policy.preset("medai")


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"read_only": ("etc",)}, "policy.read_only: 'etc' is relative; write it from the root, as /srv/fonts"),
    ({"read_only": ("",)}, "policy.read_only: '' is relative"),
    ({"read_only": ("/srv/../etc",)}, "policy.read_only: '/srv/../etc' is not in its plain form; write '/etc'"),
    ({"read_only": ("//srv",)}, "policy.read_only: '//srv' is not in its plain form; write '/srv'"),
    ({"read_only": ("/srv/",)}, "policy.read_only: '/srv/' is not in its plain form; write '/srv'"),
    ({"read_only": ("/",)}, "policy.read_only: '/' is the whole machine; name the folders that the child needs"),
    ({"read_write": ("/",)}, "policy.read_write: '/' is the whole machine"),
    ({"read_only": ("/a\0b",)}, "contains a NUL byte"),
    ({"read_only": ("/\udcff",)}, "is not valid UTF-8; rename the file"),
    ({"read_only": ("/proc/1/maps",)}, "policy.read_only: '/proc/1/maps' shows the machine and its processes"),
    ({"read_write": ("/sys",)}, "policy.read_write: '/sys' shows the machine"),
    ({"read_only": ("/dev/null",)}, "is below /dev; name device nodes under devices"),
    ({"devices": ("/etc/passwd",)}, "is not below /dev; name files under read_only or read_write"),
    ({"devices": ("/dev",)}, "policy.devices: '/dev' is not below /dev"),
    ({"devices": ("/dev/../etc",)}, "is not in its plain form"),
    ({"read_only": ("/a", "/a")}, "policy.read_only: '/a' stands there twice; name it once"),
    ({"read_only": ("/a",), "read_write": ("/a",)}, "policy.read_only: '/a' is under read_write too; keep one"),
    ({"read_only": ("/a/b",), "read_write": ("/a",)}, "inside '/a' of read_write and would be writable"),
    ({"network": ("inet", "inet")}, "policy.network: 'inet' stands there twice"),
    ({"network": ("inet7",)}, "policy.network[0]: invalid enum value 'inet7'"),
    ({"read_only": "/etc"}, "policy.read_only: expected `array`, got `str`"),
    ({"read_only": ["/etc"]}, "policy: paths and families must be tuples of str"),
    ({"read_only": (b"/etc",)}, "policy.read_only[0]: expected `str`, got `bytes`"),
    ({"read_only": (object(),)}, "policy: "),
    ({"threads": 1}, "policy.threads: expected `bool`, got `int`"),
    ({"limits": None}, "policy.limits: expected `object`, got `null`"),
    (
        {"limits": Limits(memory=-1)},
        "policy.limits.memory: -1 is too little for a child to answer; give at least 16MiB",
    ),
    ({"limits": Limits(cpu=0)}, "policy.limits.cpu: 0 is too little"),
    ({"limits": Limits(open_files=3)}, "give at least 16, or leave it out"),
    ({"limits": Limits(file_size=1 << 63)}, "is more than the kernel counts; leave it out for no limit"),
    ({"limits": Limits(processes=True)}, "policy.limits.processes: expected `int | null`, got `bool`"),
    ({"limits": Limits(processes=0), "subprocesses": True}, "policy.subprocesses: allowed, but limits.processes = 0"),
    ({"limits": Limits(processes=0), "threads": True}, "policy.threads: allowed, but limits.processes = 0"),
]


@pytest.mark.parametrize(("fields", "words"), CONTRADICTIONS, ids=[words[:40] for _, words in CONTRADICTIONS])
def test_contradiction_is_refused_with_a_remedy(fields: dict[str, Any], words: str) -> None:
    """A policy that contradicts itself is an error that names the key and what to do; TOML cannot hold it either."""
    policy = Policy(**fields)
    for refuse in (policy.check, policy.to_toml):
        with pytest.raises(PolicyError) as caught:
            refuse()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


BAD_TOML = [
    ("threads =", "could not read the policy: Invalid value"),
    ("thread = true", "policy has no key 'thread' (did you mean 'threads'?)"),
    ("qqq = true", "policy has no key 'qqq' (expected one of read_only, read_write, devices"),
    ("threads = 'yes'", "policy.threads: expected `bool`, got `str`"),
    ("limits = 3", 'policy.limits: expected `object`, got `int`; write it as a table, { memory = "512MiB" }'),
    ("[limits]\nmemry = 1", "policy.limits has no key 'memry' (did you mean 'memory'?)"),
    ("[limits]\nmemory = '12parsec'", "policy.limits.memory: expected a size such as 512MiB, got '12parsec'"),
    ("[limits]\nmemory = []", "policy.limits.memory: expected a size such as 512MiB, got []"),
    ("[limits]\nmemory = nan", "policy.limits.memory: expected a size such as 512MiB, got nan"),
    ("[limits]\ncpu = '1500ms'", "policy.limits.cpu: expected whole seconds"),
    ("[limits]\ncpu = true", "policy.limits.cpu: expected a duration such as 10s or 250ms, got True"),
    ("[limits]\nopen_files = 'many'", "policy.limits.open_files: expected a whole number, got 'many'"),
    ("[limits]\nmemory = '1KiB'", "policy.limits.memory: 1024 is too little"),
    ("read_only = ['srv']", "policy.read_only: 'srv' is relative"),
]


@pytest.mark.parametrize(("text", "words"), BAD_TOML, ids=[text for text, _ in BAD_TOML])
def test_bad_toml_is_refused_in_one_sentence(text: str, words: str) -> None:
    """What cannot be a policy is an error that names the key, what was expected and the nearest name."""
    with pytest.raises(PolicyError) as caught:
        Policy.from_toml(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    """Reading a policy raises nothing but PolicyError."""
    try:
        assert isinstance(Policy.from_toml(text), Policy)
    except PolicyError as error:
        assert str(error)


def test_documented_policy_is_the_preset() -> None:
    """The policy that docs/policies.md writes out is the preset that it says it is."""
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    [written] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert Policy.from_toml(written) == Policy.media()
    assert [key for key in (*Policy.__struct_fields__, *Limits.__struct_fields__) if f"| `{key}` |" not in page] == []
