"""Try the two programs that backends stand on, as the backends use them, with an interpreter that does nothing."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

from ..backends import bubblewrap, chrome_sandbox
from ..errors import BackendUnavailable, SandboxError
from ..programs import BWRAP, CHROME_SANDBOX, check_executable, check_setuid, find
from ..steps import StepFailed, step
from .processes import status_field

_NO_BWRAP = f"let {BWRAP.variable} name bubblewrap's program, or unset it"


_NO_BWRAP = f"let {BWRAP.variable} name bubblewrap's program, or unset it"


def bwrap() -> str:
    """Start an interpreter below bwrap with all that the backend asks for."""
    path = find(BWRAP)
    check_executable(path)
    view = ["--ro-bind", "/", "/", "--proc", "/proc", "--remount-ro", "/", "--"]
    inside = [sys.executable, "-I", "-c", "import os; print(os.getpid())"]
    argv = [path, *bubblewrap.options(share_network=False), *view, *inside]
    with step(f"execute {path}"):
        done = subprocess.run(argv, capture_output=True, check=False)
    said = done.stderr.decode(errors="replace").splitlines()
    if done.returncode:
        _explain_bwrap(path, done.returncode, said)
    if done.stdout.split() != [b"2"]:
        raise BackendUnavailable(f"{path} did not start an interpreter as process 2 of a namespace", _NO_BWRAP)
    version = subprocess.run([path, "--version"], capture_output=True, check=True).stdout.decode().split()[-1]
    return f"{path}, version {version}"


def _explain_bwrap(path: str, code: int, said: list[str]) -> None:
    text = next((line.removeprefix("bwrap: ") for line in said if line.startswith("bwrap: ")), "")
    if "Unknown option" in text:
        raise BackendUnavailable(f"{path} is too old: {text}", "install bubblewrap 0.8.0 or newer")
    if known := bubblewrap.step_of(text):
        raise StepFailed(*known, text)
    raise SandboxError(f"{path} ended with exit code {code}: {text or '; '.join(said[:2]) or 'it said nothing'}")


def chrome() -> str:
    """Start an interpreter below chrome-sandbox and see that it gave both namespaces."""
    path = find(CHROME_SANDBOX)
    check_setuid(path)
    if status_field("NoNewPrivs") == "1":
        raise BackendUnavailable(
            "no_new_privs is set on this process, which keeps every setuid program from becoming root",
            "start this program without it (systemd: NoNewPrivileges=no; docker: no --security-opt no-new-privileges)",
        )
    code, out, said = _run_with_id_fd([path, sys.executable, "-I", "-c", "import os; print(*os.environ)"])
    if code:
        if found := chrome_sandbox.meaning_of(said):
            raise BackendUnavailable(*found)
        raise SandboxError(f"{path} ended with exit code {code}: {'; '.join(said[:2]) or 'it said nothing'}")
    if missing := [name for name in ("SBX_PID_NS", "SBX_NET_NS", "SBX_D") if name not in out.split()]:
        raise SandboxError(f"{path} did not give {', '.join(missing)}")
    return path


def _run_with_id_fd(argv: list[str]) -> tuple[int, str, list[str]]:
    """Run *argv* with the read end of a closed pipe as fd 7 and the request in the environment."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    out, error = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("stdout", "stderr"))
    os.close(writer)
    source = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, 8)  # dup2 of an fd onto itself would leave it close-on-exec
    actions = [(os.POSIX_SPAWN_DUP2, fd, target) for fd, target in ((out, 1), (error, 2), (source, 7))]
    with step(f"execute {argv[0]}"):
        launched_pid = os.posix_spawn(argv[0], argv, {"SBX_CHROME_API_RQ": "1"}, file_actions=actions)
    _, status = os.waitpid(launched_pid, 0)
    texts = [os.pread(fd, 65_536, 0).decode(errors="replace") for fd in (out, error)]
    return os.waitstatus_to_exitcode(status), texts[0], texts[1].splitlines()
