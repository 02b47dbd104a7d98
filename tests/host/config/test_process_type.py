"""A process type that is made in Python: each value has the type that its field declares, or is an error at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from belljar.host.config.process_type import Process
from belljar.host.errors import ConfigError
from belljar.host.plan.step import Step
from belljar.sandbox.policy import Policy

SIZE = "expected a number of bytes such as 64 << 20 (text such as '64MiB' is for TOML)"
SECONDS = "expected a number of seconds such as 2.5 (text such as '2.5s' is for TOML)"
POLICY = "policy: expected a Policy such as Policy.media()"
STEP = "Step('fonts', options={'files': ('a.ttf',)})"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"max_payload": "64MiB"}, f"max_payload: {SIZE}, got '64MiB'"),
        ({"max_payload": True}, f"max_payload: {SIZE}, got True"),
        ({"shared_memory": "0"}, f"shared_memory: {SIZE}, got '0'"),
        ({"shared_memory": 2.5}, f"shared_memory: {SIZE}, got 2.5"),
        ({"launch_timeout": "5s"}, f"launch_timeout: {SECONDS}, got '5s'"),
        ({"step_timeout": None}, f"step_timeout: {SECONDS}, got None"),
        ({"call_timeout": "5s"}, f"call_timeout: {SECONDS} or None, got '5s'"),
        ({"cancel_grace": ()}, f"cancel_grace: {SECONDS}, got ()"),
        ({"policy": "media"}, f"{POLICY}, got 'media'"),
        ({"policy": Policy.compute}, f"{POLICY}, got the function Policy.compute, which is not called"),
        ({"policy": Policy}, f"{POLICY}, got the class Policy"),
        (
            {"early_init": "asyncio"},
            f"early_init: expected a tuple of names and Steps such as ('asyncio', {STEP}), got 'asyncio'",
        ),
        (
            {"early_init": [{"step": "fonts"}]},
            f"early_init[0]: expected a step's name, or a Step such as {STEP}, got {{'step': 'fonts'}}",
        ),
        ({"env": {"A": 1}}, "env.A: expected a str, got 1"),
        ({"env": {1: "A"}}, "env.1: expected a str, got 1"),
        ({"env": "A=1"}, "env: expected a dict, got 'A=1'"),
        ({"files": "api.py"}, "files: expected a tuple of str such as ('api.py',), got 'api.py'"),
        ({"files": (Path("api.py"),)}, "files[0]: expected a str, got PosixPath('api.py')"),
        ({"preload": "numpy"}, "preload: expected a tuple of str such as ('numpy',), got 'numpy'"),
        ({"preload": (5,)}, "preload[0]: expected a str, got 5"),
        ({"prefer": "landlock"}, "prefer: expected a tuple of str such as ('landlock',) or None, got 'landlock'"),
        ({"require": (1,)}, "require[0]: expected a str, got 1"),
        ({"backend": None}, "backend: expected a str, got None"),
        ({"load": 1}, "load: expected a str, got 1"),
        ({"channel": b"zmq"}, "channel: expected a str, got b'zmq'"),
        ({"unresponsive": True}, "unresponsive: expected a str, got True"),
        ({"log_level": 10}, "log_level: expected a str, got 10"),
        ({"run_as": 1000}, "run_as: expected a str, got 1000"),
        ({"force_plan": "no"}, "force_plan: expected True or False, got 'no'"),
    ],
)
def test_a_process_made_in_python_has_the_types_that_it_declares(fields: dict[str, Any], sentence: str) -> None:
    """A value of the wrong type is an error where it is given: process, key, what is expected, and the value."""
    with pytest.raises(ConfigError) as caught:
        Process(plugin="plugins/thumbnailer.py:Thumbnailer", name="thumbs", **fields)
    assert str(caught.value) == f"process thumbs: {sentence}"


def test_each_field_of_a_process_is_checked() -> None:
    """No field of a process type takes a value of any type, so that none can be forgotten."""
    for key in Process.__struct_fields__:
        fields: dict[str, Any] = {"plugin": "a.py:A", key: object()}
        with pytest.raises(ConfigError, match=rf"{key}: expected .*, got <object "):
            Process(**fields)


def test_a_process_has_the_name_that_it_would_have_in_its_error() -> None:
    """The error of a process type without a name has that of its class, if there is one."""
    with pytest.raises(ConfigError, match=r"^process able: env: "):
        Process(plugin="a.py:Able", env=())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=r"^process: plugin: expected a str such as .*, got the class Policy$"):
        Process(plugin=Policy)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_a_list_is_a_tuple_to_a_process() -> None:
    """A process type made in Python takes a list where it has a tuple."""
    listed: Any = ["numpy"]
    assert Process(plugin="a.py:A", preload=listed) == Process(plugin="a.py:A", preload=("numpy",))


def test_a_step_made_in_python_has_the_types_that_it_declares() -> None:
    """A step whose name is none, or whose options are no dict, is an error where it is made."""
    wrong: Any = ["a.ttf"]
    with pytest.raises(ConfigError, match=r"^step fonts: options: expected a dict, got \['a\.ttf'\]$"):
        Step("fonts", options=wrong)
    with pytest.raises(ConfigError, match=r"^step: step: expected a str, got \['a\.ttf'\]$"):
        Step(wrong)
