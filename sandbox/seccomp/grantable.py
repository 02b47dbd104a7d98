"""Which single calls a policy may grant by name, and why not the others.

A grant by name widens a filter past its groups, so it is for what no key of a policy grants and what the seal does not
rest on. A call that belljar does not know is never granted: nobody has thought about what it would open.
"""

from __future__ import annotations

import difflib
from typing import Final

from . import groups

GRANTABLE: Final = frozenset(groups.KERNEL_COPIES + groups.PRIORITY + groups.RISKY + groups.UNUSED + groups.WATCHING)
"""The calls that stand in no key's group and do not touch the seal."""

_BY_A_KEY: Final[dict[str, tuple[str, ...]]] = {
    "read_only": groups.FILE_READS,
    "read_write": groups.FILE_WRITES + groups.FILE_TIMES,
    "local_channels": groups.CHANNELS,
    "network": groups.NETWORK,
    "subprocesses": groups.PROCESSES,
    "covert_channels": groups.KEYS + groups.LOCKS + groups.SYSV_IPC + groups.POSIX_QUEUES,
}

_NEVER: Final[dict[str, tuple[str, ...]]] = {
    "it changes who the child is or what confines it": groups.CONFINEMENT,
    "it works on the tree of files, past the paths that a policy names": groups.MOUNTS,
    "it reaches into other processes": groups.OTHER_PROCESSES,
    "it steers the machine": groups.MACHINE,
    "what it does lies behind a pointer, where no filter can see it": groups.ABSENT,
    "what it does to files outlives the child, or passes by a rule": groups.FILE_NEVER,
    "its arguments have rules, which a grant by name would lift": groups.ARGUED,
    "no kernel of today has it": groups.OBSOLETE,
}


def refusal(name: str) -> str:
    """Return why no policy may name *name* under syscalls, and what to do instead; empty if it may."""
    if name in GRANTABLE:
        return ""
    if name in groups.ALWAYS:
        return f"{name!r} is allowed to every child; leave it out"
    for key, names in _BY_A_KEY.items():
        if name in names:
            return f"no policy can grant {name!r} by name: it belongs to {key}; grant that"
    for why, names in _NEVER.items():
        if name in names:
            return f"no policy can grant {name!r}: {why}"
    known = [each for names in groups.INTENTIONS.values() for each in names]
    near = difflib.get_close_matches(name[:100], known, 1)
    return f"there is no call {name[:100]!r}" + (f" (did you mean {near[0]!r}?)" if near else "")
