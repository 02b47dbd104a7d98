"""Install a compiled filter on every thread of this process. Stage 7, last. See seccomp(2), seccomp_unotify(2).

SECCOMP_FILTER_FLAG_TSYNC puts the filter on all threads in one step, those that graphics or a codec started
included. Without a listener, a thread that cannot be synchronised makes the call *return its tid*, which is easy to
take for success; with one, the return value is the listener's fd and TSYNC_ESRCH (Linux 5.7) turns that into ESRCH.

Whoever holds the listener decides over the calls that the filter hands to it. It is closed here as soon as it has
been sent to the host, long before any untrusted code runs, and the host looks in stage 8 whether it really is gone.
"""

from __future__ import annotations

from .. import syscalls as sc
from ..errors import SandboxError
from ..steps import step


def install(program: bytes, *, listener: bool) -> int | None:
    """Install the BPF *program*; return the listener's fd, which the caller owns, or None if none was asked for.

    Raises:
        StepFailed: the kernel refused; ESRCH means that one thread could not be synchronised.
        SandboxError: one thread could not be synchronised, without a listener.
    """
    flags = sc.SECCOMP_FILTER_FLAG_TSYNC
    if listener:
        flags |= sc.SECCOMP_FILTER_FLAG_NEW_LISTENER | sc.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
    with step("install the seccomp filter on all threads"):
        result = sc.seccomp_set_filter(program, flags)
    if listener:
        return result
    if result:
        raise SandboxError(f"could not install the seccomp filter on all threads: thread {result} refused")
    return None
