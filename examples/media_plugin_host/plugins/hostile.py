"""A plugin that attacks. Each method tries one thing, undoes what it did, and says truthfully what came of it.

Under the backend `none` the attempts succeed, as far as the user who runs the demo may do such things; that is what a
plugin without a sandbox can do. Nothing here harms the machine: signal 0, a mount in a namespace of its own, a line in
a file that the demo made for this.

Some attempts use up a process of their own, so that what they change ends with it. Where the seal refuses that
process, they are tried in this one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import stat
import struct
from collections.abc import Callable

from interfaces import Attempt

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_REC_PRIVATE = 0x4000 | 1 << 18
PTRACE_SEIZE = 0x4206

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


class Hostile:
    def lie_about_pid(self, host_pid: int) -> Attempt:
        return _attempt(lambda: _forge_credentials(host_pid))

    def read_passwords(self) -> Attempt:
        return _attempt(_read_passwords)

    def open_tcp_socket(self) -> Attempt:
        return _attempt(_listen_on_tcp)

    def open_abstract_socket(self) -> Attempt:
        return _attempt(_bind_abstract)

    def fork(self) -> Attempt:
        return _attempt(lambda: f"started process {_end(_fork(lambda: None))}")

    def signal_host(self, host_pid: int) -> Attempt:
        return _attempt(lambda: _signal(host_pid))

    def list_processes(self) -> Attempt:
        return _attempt(_list_processes)

    def trace_process(self, host_pid: int) -> Attempt:
        return _attempt(lambda: _trace(host_pid))

    def mount(self) -> Attempt:
        return _attempt(lambda: _apart(_mount))

    def unshare_user_namespace(self) -> Attempt:
        return _attempt(lambda: _apart(_unshare))

    def write_host_file(self, path: str) -> Attempt:
        return _attempt(lambda: _write(path))


def _attempt(action: Callable[[], str]) -> Attempt:
    try:
        return Attempt("succeeded", action())
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "error")
        step = f"{error.filename}: " if error.filename else ""
        return Attempt("refused", f"{step}{name} ({os.strerror(error.errno or 0)})", name)


def _checked(result: int, step: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused", step)
    return result


def _forge_credentials(host_pid: int) -> str:
    """Send a message that claims the host's pid: over a socket pair, or else over the control channel itself."""
    credentials = struct.pack("3i", host_pid, os.getuid(), os.getgid())
    forged = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)]
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    except PermissionError:
        return _forge_on_control_channel(forged)
    with ours, theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ours.sendmsg([b"x"], forged)
        _, [(_, _, received)], _, _ = theirs.recvmsg(1, socket.CMSG_SPACE(12))
    return f"a message arrived as if from pid {struct.unpack('3i', received)[0]}"


def _forge_on_control_channel(forged: list[tuple[int, int, bytes]]) -> str:
    with socket.socket(fileno=os.dup(_control_channel())) as channel:
        try:
            channel.sendmsg([b"x"], forged)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "sendmsg on the control channel") from None
    return "claimed the host's pid on the control channel"


def _control_channel() -> int:
    for fd in range(256):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                return fd
        except OSError:
            continue
    raise OSError(errno.ENOTSOCK, "no socket", "control channel")


def _read_passwords() -> str:
    with open("/etc/passwd", encoding="utf-8") as file:
        return f"read {len(file.readlines())} accounts"


def _listen_on_tcp() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        return f"listened on port {listener.getsockname()[1]}"


def _bind_abstract() -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"\0hostile-{os.getpid()}")
        listener.listen()
        return "listened on a name that all of the machine can reach"


def _signal(host_pid: int) -> str:
    os.kill(host_pid, 0)
    return f"signal 0 reached pid {host_pid}"


def _list_processes() -> str:
    return f"saw {sum(name.isdecimal() for name in os.listdir('/proc'))} processes"


def _trace(host_pid: int) -> str:
    """Take control of a process of our own making, or of the host where none can be made."""
    try:
        victim = _fork(signal.pause)
    except PermissionError:
        _seize(host_pid)
        return "took control of the host"
    try:
        _seize(victim)
    finally:
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
    return f"took control of pid {victim}"


def _seize(pid: int) -> None:
    _checked(_libc.ptrace(PTRACE_SEIZE, pid, None, None), "ptrace")


def _mount() -> None:
    """Cover the whole file system with an empty one, in a mount namespace that ends with this process."""
    namespaces = CLONE_NEWNS if os.geteuid() == 0 else CLONE_NEWNS | CLONE_NEWUSER
    _checked(_libc.unshare(namespaces), "unshare")
    _checked(_libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None), "mount")
    _checked(_libc.mount(b"tmpfs", b"/", b"tmpfs", 0, None), "mount")


def _unshare() -> None:
    _checked(_libc.unshare(CLONE_NEWUSER), "unshare")


def _write(path: str) -> str:
    with open(path, "a", encoding="utf-8") as file:
        file.write("a hostile plugin was here\n")
    return "changed a file of the host"


def _apart(action: Callable[[], None]) -> str:
    """Run *action* in a process of its own; in this one where the seal allows no other."""
    try:
        return f"done in process {_end(_fork(action))}"
    except PermissionError as error:
        if error.filename != "fork":
            raise
    action()
    return "done in the plugin's own process"


def _fork(action: Callable[[], object]) -> int:
    """Start a process that runs *action* and ends, its errno as exit code; return its pid."""
    try:
        pid = os.fork()
    except OSError as error:
        raise OSError(error.errno, error.strerror, "fork") from None
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(code)
    return pid


def _end(pid: int) -> int:
    """Wait for *pid* and return it; raise what its exit code says."""
    _, status = os.waitpid(pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise OSError(code, "refused")
    return pid
