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

from belljar.sandbox.danger import (
    COVERT_CHANNELS,
    DEVICES,
    EXECUTABLE_MEMORY,
    NETWORK,
    SYSCALLS,
    Danger,
)
from belljar.sandbox.errors import PolicyError
from belljar.sandbox.policy import CovertChannel, Family, Limits, Policy
from belljar.sandbox.policy_check import dangers
from belljar.sandbox.seccomp.grantable import GRANTABLE

MEDIA_HASH = "4e4974e4c7a10f78608480ce7c5cbcbc8733c9ccaab860c731f62d96da18c6fe"
FAMILIES: tuple[Family, ...] = ("inet", "inet6", "netlink", "unix")
CHANNELS: tuple[CovertChannel, ...] = ("keys", "locks", "vsock", "sysv-ipc", "posix-queues")
LISTS = ("read_only", "read_write", "devices", "network", "covert_channels", "syscalls", "danger")
GRAPHICS_LIMITS = Limits(memory=4 << 30, open_files=256, file_size=256 << 20)

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
    gpu=st.booleans(),
    network=st.lists(st.sampled_from(FAMILIES), unique=True).map(tuple),
    subprocesses=st.booleans(),
    threads=st.booleans(),
    executable_memory=st.booleans(),
    local_channels=st.booleans(),
    covert_channels=st.lists(st.sampled_from(CHANNELS), unique=True).map(tuple),
    syscalls=st.lists(st.sampled_from(sorted(GRANTABLE)), unique=True, max_size=4).map(tuple),
    limits=limits,
).map(lambda policy: msgspec.structs.replace(policy, danger=tuple(dangers(policy))))


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
        danger = ["network"]
        limits = { memory = "512MiB", cpu = "30s", open_files = 64, file_size = 1000 }
    """
    expected = Limits(memory=512 << 20, cpu=30, open_files=64, file_size=1000)
    assert Policy.from_toml(text) == Policy(
        read_only=("/usr/share/fonts",), network=("inet",), danger=(NETWORK,), limits=expected
    )
    assert Policy.from_toml("") == Policy()


def test_toml_is_written_for_people() -> None:
    """Every right stands in the TOML, and limits have units."""
    assert Policy.media().to_toml() == (
        "read_only = []\nread_write = []\ndevices = []\ngpu = false\nnetwork = []\nsubprocesses = false\n"
        "threads = true\nexecutable_memory = false\nlocal_channels = false\ncovert_channels = []\n"
        "open_directories = false\nsyscalls = []\ndanger = []\n\n"
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
        fields = msgspec.structs.asdict(policy)
        return {key: sorted(value) if key in LISTS else value for key, value in fields.items()}

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
        "read only /a /b, threads; no read write, no devices, no gpu, no network, no subprocesses, "
        "no executable memory, no local channels, no covert channels, "
        "no open directories, no extra syscalls; memory 1GiB, cpu 5s"
    )
    assert str(Policy.compute()).startswith("threads, local channels; no read only")


def test_presets_are_what_their_names_say() -> None:
    """No preset has files, network or processes; only graphics needs a token; only computing has an event loop."""
    for preset in (Policy.compute(), Policy.media(), Policy.graphics(), Policy.graphics(jit=False)):
        preset.check()
        assert [key for key in (*LISTS, "subprocesses") if getattr(preset, key) and key != "danger"] == []
        assert preset.limits.processes is None
    assert (Policy.compute().local_channels, Policy.media().local_channels) == (True, False)
    assert Policy.compute().danger == Policy.media().danger == ()
    assert Policy.graphics() == Policy(executable_memory=True, danger=(EXECUTABLE_MEMORY,), limits=GRAPHICS_LIMITS)
    assert Policy.graphics(jit=False) == Policy(gpu=True, threads=True, danger=(DEVICES,), limits=GRAPHICS_LIMITS)
    assert Policy.preset("media") == Policy.media()
    assert Policy.preset("graphics") == Policy.graphics()
    with pytest.raises(PolicyError, match="policy has no preset 'medai' \\(did you mean 'media'\\?\\)"):
        Policy.preset("medai")


def test_words_add_one_right_each() -> None:
    """Each word returns a policy with one right more, and its token, and leaves the old one as it was."""
    least = Policy()
    built = (
        least.allow_threads()
        .allow_local_channels()
        .allow_subprocesses()
        .allow_files("/srv/fonts", "/usr/share")
        .allow_files_read_write("/srv/out")
        .allow_local_sockets()
        .allow_network(("inet", "inet6"), NETWORK)
        .allow_devices("/dev/dri/renderD128", DEVICES)
        .allow_gpu(DEVICES)
        .allow_executable_memory(EXECUTABLE_MEMORY)
        .allow_covert_channels("locks", COVERT_CHANNELS)
        .allow_syscalls("inotify_init1", SYSCALLS)
        .allow_syscalls(("inotify_add_watch",), danger=SYSCALLS)
        .with_limits(memory="512MiB", cpu=3)
        .with_limits(cpu=None, open_files=64)
    )
    assert built == Policy(
        read_only=("/srv/fonts", "/usr/share"),
        read_write=("/srv/out",),
        devices=("/dev/dri/renderD128",),
        gpu=True,
        network=("unix", "inet", "inet6"),
        subprocesses=True,
        threads=True,
        executable_memory=True,
        local_channels=True,
        covert_channels=("locks",),
        syscalls=("inotify_init1", "inotify_add_watch"),
        danger=(NETWORK, DEVICES, EXECUTABLE_MEMORY, COVERT_CHANNELS, SYSCALLS),
        limits=Limits(memory=512 << 20, open_files=64),
    )
    assert least == Policy()
    assert built.allow_files("/srv/fonts") == built


def test_words_refuse_at_once() -> None:
    """A word that makes no sense is an error where it stands, not at the launch."""
    wrong: list[tuple[Any, str]] = [
        (lambda: Policy().allow_executable_memory(NETWORK), 'needs the danger token "executable-memory"'),
        (lambda: Policy().allow_executable_memory("executable-memory"), "import it from belljar.sandbox.danger"),  # type: ignore[arg-type]
        (lambda: Policy().allow_network("unix", NETWORK), 'nothing here needs "network"'),
        (lambda: Policy().allow_files("srv"), "is relative"),
        (lambda: Policy().allow_devices(["/dev/null"], DEVICES), "[0]: expected a str, got ['/dev/null']"),  # type: ignore[arg-type]
        (lambda: Policy().with_limits(memry=None), "policy.limits has no key 'memry' (did you mean 'memory'?)"),
        (lambda: Policy().with_limits(memory="12parsec"), "policy.limits.memory: expected a size"),
    ]
    for word, text in wrong:
        with pytest.raises(PolicyError) as caught:
            word()
        assert text in str(caught.value)


DANGEROUS: list[tuple[dict[str, Any], Danger]] = [
    ({"executable_memory": True}, EXECUTABLE_MEMORY),
    ({"network": ("inet",)}, NETWORK),
    ({"network": ("unix", "inet6")}, NETWORK),
    ({"network": ("netlink",)}, NETWORK),
    ({"devices": ("/dev/null",)}, DEVICES),
    ({"covert_channels": ("keys",)}, COVERT_CHANNELS),
    ({"syscalls": ("splice",)}, SYSCALLS),
]


@pytest.mark.parametrize(("fields", "token"), DANGEROUS, ids=[str(fields) for fields, _ in DANGEROUS])
def test_dangerous_right_needs_its_token(fields: dict[str, Any], token: Danger) -> None:
    """Without its token a dangerous right is refused in words for Python and TOML; with it, it is granted."""
    [key] = fields
    with pytest.raises(PolicyError) as caught:
        Policy(**fields).check()
    assert str(caught.value) == (
        f'policy.{key}: needs the danger token "{token}"; import {token.name} from belljar.sandbox.danger and name it '
        f'in danger, or write danger = ["{token}"] in TOML'
    )
    Policy(**fields, danger=(token,)).check()
    with pytest.raises(PolicyError, match="needs the danger token"):
        Policy(**fields, danger=(next(other for other in Danger if other is not token),)).check()


@pytest.mark.parametrize("token", list(Danger))
def test_token_that_nothing_needs_is_refused(token: Danger) -> None:
    """A token without its right would mislead a reviewer; Unix sockets and sub-processes need none."""
    with pytest.raises(PolicyError, match=f'policy.danger: nothing here needs "{token}"'):
        Policy(network=("unix",), subprocesses=True, danger=(token,)).check()
    Policy(network=("unix",), subprocesses=True).check()


def test_tokens_can_be_looked_for() -> None:
    """Each token is a name of the module, so that one search finds every import of it."""
    from belljar.sandbox import danger

    assert [getattr(danger, token.name) for token in Danger] == list(Danger)


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
    (
        {"limits": Limits(memory=-1)},
        "policy.limits.memory: -1 is too little for a child to answer; give at least 16MiB",
    ),
    ({"limits": Limits(cpu=0)}, "policy.limits.cpu: 0 is too little"),
    ({"limits": Limits(open_files=3)}, "give at least 16, or leave it out"),
    ({"limits": Limits(file_size=1 << 63)}, "is more than the kernel counts; leave it out for no limit"),
    ({"danger": ("network",)}, "policy.danger: 'network' is no Danger; import it from belljar.sandbox.danger"),
    ({"danger": (NETWORK, NETWORK), "network": ("inet",)}, "policy.danger: 'network' stands there twice"),
    ({"covert_channels": ("lokcs",)}, "policy.covert_channels[0]: invalid enum value 'lokcs'"),
    ({"covert_channels": ("keys", "keys")}, "policy.covert_channels: 'keys' stands there twice"),
    ({"syscalls": ("splice", "splice")}, "policy.syscalls: 'splice' stands there twice"),
    (
        {"syscalls": ("inotify_ini",)},
        "policy.syscalls: there is no call 'inotify_ini' (did you mean 'inotify_init'?)",
    ),
    ({"syscalls": ("read",)}, "policy.syscalls: 'read' is allowed to every child; leave it out"),
    ({"syscalls": ("flock",)}, "no policy can grant 'flock' by name: it belongs to covert_channels; grant that"),
    ({"syscalls": ("eventfd2",)}, "it belongs to local_channels; grant that"),
    ({"syscalls": ("seccomp",)}, "no policy can grant 'seccomp': it changes who the child is or what confines it"),
    ({"syscalls": ("io_uring_setup",)}, "what it does lies behind a pointer"),
    ({"syscalls": ("ptrace",)}, "it reaches into other processes"),
    ({"syscalls": ("ioctl",)}, "its arguments have rules, which a grant by name would lift"),
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


WRONG_TYPES: list[tuple[type[Policy] | type[Limits], dict[str, Any], str]] = [
    (Policy, {"read_only": "/etc"}, "policy.read_only: expected a tuple of str such as ('/etc',), got '/etc'"),
    (Policy, {"read_only": ["/etc"]}, "policy.read_only: expected a tuple of str, got ['/etc']"),
    (Policy, {"read_only": (b"/etc",)}, "policy.read_only[0]: expected a str, got b'/etc'"),
    (Policy, {"devices": (Path("/dev/null"),)}, "policy.devices[0]: expected a str, got PosixPath('/dev/null')"),
    (Policy, {"network": "inet"}, "policy.network: expected a tuple of str such as ('inet',), got 'inet'"),
    (Policy, {"threads": "yes"}, "policy.threads: expected True or False, got 'yes'"),
    (Policy, {"threads": 1}, "policy.threads: expected True or False, got 1"),
    (Policy, {"limits": None}, "policy.limits: expected Limits such as Limits(memory=1 << 30), got None"),
    (
        Policy,
        {"limits": {"memory": 5}},
        "policy.limits: expected Limits such as Limits(memory=1 << 30), got {'memory': 5}",
    ),
    (
        Policy,
        {"danger": NETWORK},
        "policy.danger: expected a tuple of str such as (Danger.NETWORK,), got Danger.NETWORK",
    ),
    (
        Limits,
        {"memory": "1GiB"},
        "policy.limits.memory: expected a number of bytes such as 64 << 20 "
        "(with_limits and TOML take text such as '64MiB') or None, got '1GiB'",
    ),
    (Limits, {"cpu": 1.5}, "policy.limits.cpu: expected a whole number of seconds such as 30 or None, got 1.5"),
    (Limits, {"processes": True}, "policy.limits.processes: expected a whole number or None, got True"),
]


@pytest.mark.parametrize(("kind", "fields", "words"), WRONG_TYPES)
def test_value_of_the_wrong_type_is_refused_where_it_is_made(
    kind: type[Policy] | type[Limits], fields: dict[str, Any], words: str
) -> None:
    """A policy or limits made in Python with a value of the wrong type are an error at once, in Python's words."""
    with pytest.raises(PolicyError) as caught:
        kind(**fields)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


BAD_TOML = [
    ("threads =", "could not read the policy: Invalid value"),
    ("thread = true", "policy has no key 'thread' (did you mean 'threads'?)"),
    ("qqq = true", "policy has no key 'qqq' (expected one of read_only, read_write, devices"),
    ("danger = ['netwrok']", "policy.danger[0]: invalid enum value 'netwrok'"),
    ("executable_memory = true", 'or write danger = ["executable-memory"] in TOML'),
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
    written = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0]
    assert Policy.from_toml(written) == Policy.media()
    assert [key for key in (*Policy.__struct_fields__, *Limits.__struct_fields__) if f"| `{key}` |" not in page] == []
