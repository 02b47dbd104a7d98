"""Tokens for the rights that weaken a seal most. A policy that grants such a right without its token is refused.

So whoever reviews an application finds each dangerous grant by looking for one import (or, in TOML, for one key)::

    from belljar.sandbox.danger import EXECUTABLE_MEMORY

    policy = Policy.media().allow_executable_memory(EXECUTABLE_MEMORY)
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Danger(StrEnum):
    """What a token stands for; its value is what TOML says."""

    EXECUTABLE_MEMORY = "executable-memory"
    """Memory that can be written can become code: an overflow in a decoder is then a program."""

    NETWORK = "network"
    """Sockets of the host's network (inet, inet6, netlink): what the child knows can leave the machine."""

    DEVICES = "devices"
    """Device nodes: a driver's ioctls are kernel code that few have read."""

    COVERT_CHANNELS = "covert-channels"
    """Names and locks that two sealed children could share, to talk past the host."""

    OPEN_DIRECTORIES = "open-directories"
    """Directories that stay open over the seal: a way around an empty root, which only the filter then closes."""

    SYSCALLS = "syscalls"
    """Single system calls by name, which belljar's groups leave out on purpose."""


EXECUTABLE_MEMORY: Final = Danger.EXECUTABLE_MEMORY
NETWORK: Final = Danger.NETWORK
DEVICES: Final = Danger.DEVICES
COVERT_CHANNELS: Final = Danger.COVERT_CHANNELS
OPEN_DIRECTORIES: Final = Danger.OPEN_DIRECTORIES
SYSCALLS: Final = Danger.SYSCALLS
