"""Compile a policy to a seccomp filter: raw classic BPF that a child installs without any library.

Only the host compiles, and rarely: what libseccomp made is kept in memory and on disk (`cache`). The kernel's side of
it is told in `rules` (what can be seen of a call) and in `assemble` (how the program is laid out).
"""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Final

from ..errors import SandboxError
from ..policy import Policy
from . import cache
from .answers import Rights, Rules
from .groups import INTENTIONS
from .own_pid import bind_pid as bind_pid
from .rules import rules_for

_compiled: Final[dict[tuple[Rights, bool], bytes]] = {}
_lock: Final = threading.Lock()


def compile_policy(policy: Policy, *, listener: bool, own_pid_only: bool = False) -> bytes:
    """Return the filter for *policy*: an array of ``struct sock_filter``. See seccomp(2).

    Takes microseconds from memory, about a millisecond from disk, else about a tenth of a second.

    Args:
        policy: Checked first.
        listener: Hand refused opens, executions and new sockets to the listener (SECCOMP_RET_USER_NOTIF) instead of
            answering EACCES. Install it with a listener then: without one those calls answer ENOSYS.
        own_pid_only: The child has no pid namespace: let it signal and ask about itself only, unless the policy grants
            sub-processes. Such a filter must go through `bind_pid` before it is installed, else it refuses both.

    Raises:
        PolicyError: The policy contradicts itself.
        SandboxError: libseccomp is missing or cannot express the filter.
    """
    policy.check()
    key = (Rights.of(policy, own_pid_only=own_pid_only), listener)
    with _lock:
        if key not in _compiled:
            _compiled[key] = _load_or_build(rules_for(key[0]), listener)
        return _compiled[key]


def is_compiled(policy: Policy, *, listener: bool, own_pid_only: bool = False) -> bool:
    """Tell whether `compile_policy` would answer from memory."""
    return (Rights.of(policy, own_pid_only=own_pid_only), listener) in _compiled


def build(rules: Rules, *, listener: bool) -> bytes:
    """Compile *rules* afresh.

    Raises:
        SandboxError: libseccomp is missing or cannot express the filter.
    """
    assembler = _assembler()
    try:
        program: bytes = assembler.assemble(rules, listener=listener)
    except OSError as error:
        hint = "libseccomp must be 2.5.4 or newer"
        raise SandboxError(f"could not compile the filter: {error.strerror} ({hint})") from error
    return program


def _load_or_build(rules: Rules, listener: bool) -> bytes:
    key = cache.key_of(rules, listener=listener)
    program = cache.load(key)
    if program is None:
        program = build(rules, listener=listener)
        cache.store(key, program)
    return program


def number_names() -> dict[int, str]:
    """Return the calls of this machine's architecture: number -> name.

    Raises:
        SandboxError: libseccomp is missing.
    """
    number_of = _assembler().number_of
    names = (name for group in INTENTIONS.values() for name in group)
    return {number: name for name in names if (number := number_of(name)) is not None}


def _assembler() -> ModuleType:
    try:
        from . import assemble
    except (ImportError, OSError, RuntimeError) as error:
        raise SandboxError(f"could not load libseccomp: {error} (install libseccomp2 and pyseccomp)") from error
    return assemble
