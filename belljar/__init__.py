"""belljar: parts of an application in sealed child processes that the host has verified.

The public names, each imported when it is first used: a child loads this file too and must stay small. Those whose
home is in `host` or `testing` are the application's: no sealed child can import them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .child.publish import subscription as subscription
    from .child.services import checkpoint as checkpoint
    from .child.services import service as service
    from .child.step import StepError as StepError
    from .child.step import around_seal as around_seal
    from .child.step import early_init as early_init
    from .child.step import handed as handed
    from .child.step import require_after_seal as require_after_seal
    from .host.config.load import Config as Config
    from .host.config.load import load_config as load_config
    from .host.config.process_type import Process as Process
    from .host.ended import Ended as Ended
    from .host.errors import ChildEnded as ChildEnded
    from .host.errors import ConfigError as ConfigError
    from .host.errors import LaunchError as LaunchError
    from .host.errors import PlanError as PlanError
    from .host.errors import ProtectionError as ProtectionError
    from .host.plan.step import Step as Step
    from .host.process_host import ProcessHost as ProcessHost
    from .host.publish import Publisher as Publisher
    from .host.state import State as State
    from .host.sync_host import SyncHost as SyncHost
    from .ipc.errors import ArgumentError as ArgumentError
    from .ipc.errors import BelljarError as BelljarError
    from .ipc.errors import CallCancelled as CallCancelled
    from .ipc.errors import CallError as CallError
    from .ipc.errors import CallTimeout as CallTimeout
    from .ipc.errors import InterfaceMismatch as InterfaceMismatch
    from .ipc.errors import PeerProtocolError as PeerProtocolError
    from .ipc.errors import RemoteError as RemoteError
    from .ipc.errors import ResultError as ResultError
    from .ipc.errors import ServiceError as ServiceError
    from .ipc.errors import ServiceRefused as ServiceRefused
    from .ipc.errors import StreamBroken as StreamBroken
    from .ipc.errors import UnknownMethod as UnknownMethod
    from .ipc.interface.adapters import adapt as adapt
    from .ipc.interface.buffers import BufferLike as BufferLike
    from .ipc.interface.fd import Fd as Fd
    from .ipc.interface.markers import notify as notify
    from .ipc.interface.markers import raises as raises
    from .ipc.memory.buffer import Buffer as Buffer
    from .ipc.memory.buffer import SealedBuffer as SealedBuffer
    from .ipc.memory.buffer import SharedBuffer as SharedBuffer
    from .ipc.peer.blocking import Cancelled as Cancelled
    from .ipc.stage import Stage as Stage
    from .ipc.subscription import Subscriber as Subscriber
    from .ipc.subscription import Subscription as Subscription
    from .ipc.topics import Topic as Topic
    from .sandbox.errors import PolicyError as PolicyError
    from .sandbox.errors import SandboxError as SandboxError
    from .sandbox.launch.client import stop as stop
    from .sandbox.layers import Layer as Layer
    from .sandbox.policy import Limits as Limits
    from .sandbox.policy import Policy as Policy
    from .sandbox.probe import probe as probe
    from .sandbox.protection import Protection as Protection
    from .testing import MemoryHost as MemoryHost

__version__ = "0.1.0"

_HOMES = {
    "ArgumentError": "ipc.errors",
    "BelljarError": "ipc.errors",
    "Buffer": "ipc.memory.buffer",
    "BufferLike": "ipc.interface.buffers",
    "CallCancelled": "ipc.errors",
    "CallError": "ipc.errors",
    "CallTimeout": "ipc.errors",
    "Cancelled": "ipc.peer.blocking",
    "ChildEnded": "host.errors",
    "Config": "host.config.load",
    "ConfigError": "host.errors",
    "Ended": "host.ended",
    "Fd": "ipc.interface.fd",
    "InterfaceMismatch": "ipc.errors",
    "LaunchError": "host.errors",
    "Layer": "sandbox.layers",
    "Limits": "sandbox.policy",
    "MemoryHost": "testing",
    "PeerProtocolError": "ipc.errors",
    "PlanError": "host.errors",
    "Policy": "sandbox.policy",
    "PolicyError": "sandbox.errors",
    "Process": "host.config.process_type",
    "ProcessHost": "host.process_host",
    "Protection": "sandbox.protection",
    "ProtectionError": "host.errors",
    "Publisher": "host.publish",
    "RemoteError": "ipc.errors",
    "ResultError": "ipc.errors",
    "SandboxError": "sandbox.errors",
    "SealedBuffer": "ipc.memory.buffer",
    "ServiceError": "ipc.errors",
    "ServiceRefused": "ipc.errors",
    "SharedBuffer": "ipc.memory.buffer",
    "Stage": "ipc.stage",
    "State": "host.state",
    "Step": "host.plan.step",
    "StepError": "child.step",
    "StreamBroken": "ipc.errors",
    "Subscriber": "ipc.subscription",
    "Subscription": "ipc.subscription",
    "SyncHost": "host.sync_host",
    "Topic": "ipc.topics",
    "UnknownMethod": "ipc.errors",
    "adapt": "ipc.interface.adapters",
    "around_seal": "child.step",
    "checkpoint": "child.services",
    "early_init": "child.step",
    "handed": "child.step",
    "load_config": "host.config.load",
    "notify": "ipc.interface.markers",
    "probe": "sandbox.probe",
    "raises": "ipc.interface.markers",
    "require_after_seal": "child.step",
    "service": "child.services",
    "stop": "sandbox.launch.client",
    "subscription": "child.publish",
}

__all__ = [
    "ArgumentError",
    "BelljarError",
    "Buffer",
    "BufferLike",
    "CallCancelled",
    "CallError",
    "CallTimeout",
    "Cancelled",
    "ChildEnded",
    "Config",
    "ConfigError",
    "Ended",
    "Fd",
    "InterfaceMismatch",
    "LaunchError",
    "Layer",
    "Limits",
    "MemoryHost",
    "PeerProtocolError",
    "PlanError",
    "Policy",
    "PolicyError",
    "Process",
    "ProcessHost",
    "Protection",
    "ProtectionError",
    "Publisher",
    "RemoteError",
    "ResultError",
    "SandboxError",
    "SealedBuffer",
    "ServiceError",
    "ServiceRefused",
    "SharedBuffer",
    "Stage",
    "State",
    "Step",
    "StepError",
    "StreamBroken",
    "Subscriber",
    "Subscription",
    "SyncHost",
    "Topic",
    "UnknownMethod",
    "adapt",
    "around_seal",
    "checkpoint",
    "early_init",
    "handed",
    "load_config",
    "notify",
    "probe",
    "raises",
    "require_after_seal",
    "service",
    "stop",
    "subscription",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
