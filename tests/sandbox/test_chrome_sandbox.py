"""What Chromium's setuid helper really says when it fails, and a child that does not find what it should."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from belljar.sandbox import syscalls as sc
from belljar.sandbox.backends.chrome_sandbox import ChildSide, HostSide, meaning_of
from belljar.sandbox.base import Birth
from belljar.sandbox.errors import BackendUnavailable, SandboxError
from belljar.sandbox.policy import Policy
from belljar.sandbox.probe import probe
from belljar.sandbox.probes.forked import in_fork
from belljar.sandbox.programs import CHROME_SANDBOX, check_setuid, find

IS_ROOT = os.geteuid() == 0
TRUE = "/bin/true"


@pytest.fixture
def helper() -> str:
    """The program; skips where there is none or it does not work."""
    if not probe().results["chrome-sandbox"].works:
        pytest.skip(probe().results["chrome-sandbox"].cause)
    return find(CHROME_SANDBOX)


def said_by(*argv: str, api: str = "1", fd_7: bool = True) -> tuple[int, list[str]]:
    """Run the helper behind a shell that opens or closes fd 7; return exit code and stderr."""
    script = f'exec "$@" 7{"</dev/null" if fd_7 else "<&-"}'
    command = ["/bin/sh", "-c", script, "sh", *argv]
    done = subprocess.run(command, env={"SBX_CHROME_API_RQ": api}, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.splitlines()


def explained(*argv: str, api: str = "1", fd_7: bool = True) -> str:
    """Return how a failure of the helper is told."""
    return HostSide().explain(*said_by(*argv, api=api, fd_7=fd_7))


def test_a_helper_that_works_has_nothing_to_explain(helper: str) -> None:
    """Exit code 0 is no failure, whatever was said."""
    assert explained(helper, TRUE) == ""
    assert said_by(helper, TRUE)[0] == 0


@pytest.mark.skipif(IS_ROOT, reason="root is root already")
def test_no_new_privs_keeps_the_helper_from_root(helper: str) -> None:
    """Below no_new_privs a setuid program stays who it was: that is the cause, and the remedy says how to start."""
    said = explained("/usr/bin/setpriv", "--no-new-privs", helper, TRUE)
    assert said.startswith("chrome-sandbox ended with exit code 1: the helper did not become root: no_new_privs is set")
    assert "(it said: The setuid sandbox is not running as root" in said
    assert said.endswith("; start this program without no_new_privs, and outside of user namespaces without root")


def test_inside_a_user_namespace_the_helper_has_no_right(helper: str) -> None:
    """A user namespace without the machine's root gives the helper nothing."""
    if not probe().results["userns"].works:
        pytest.skip("needs user namespaces")
    switch = "--user" if not IS_ROOT else "--user --map-user=31234"
    said = explained("/usr/bin/unshare", *switch.split(), helper, TRUE)
    assert "the helper did not become root" in said or "the kernel refused the helper its namespaces" in said


def test_a_missing_fd_is_named(helper: str) -> None:
    """Without fd 7 the two halves of the helper lose each other."""
    assert "the helper's two halves lost each other" in explained(helper, TRUE, fd_7=False)


def test_a_program_that_cannot_be_executed_is_named(helper: str) -> None:
    """The helper's execv is told as such."""
    said = explained(helper, "/nonexistent")
    assert "the helper could not execute the interpreter (it said: execv failed: No such file or directory)" in said


def test_another_protocol_is_only_a_word(helper: str) -> None:
    """The helper warns of another version and goes on; what it says has a meaning for the case that it does not."""
    code, said = said_by(helper, TRUE, api="2")
    assert code == 0
    found = meaning_of(said)
    assert found is not None
    assert found[0].startswith("the helper speaks another version of its protocol")


def test_what_is_not_known_is_not_explained() -> None:
    """A failure of the child itself is not the helper's."""
    assert HostSide().explain(1, ["Traceback", "ValueError"]) == ""
    assert HostSide().explain(None, ["execv failed: x"]) == ""
    assert meaning_of([]) is None


def test_an_end_that_the_helper_does_not_tell() -> None:
    """The helper passes an exit code on; of a child that a signal ended it says 0, which may be either."""
    assert HostSide().child_status(7 << 8) == 7 << 8
    assert HostSide().child_status(0) is None


GIVEN = {
    "SBX_CHROME_API_PRV": "1",
    "SBX_PID_NS": "",
    "SBX_NET_NS": "",
    "SBX_D": "5",
    "SBX_HELPER_PID": "2",
}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (dict.fromkeys(GIVEN), "did not give what was asked of it, but {}"),
        ({"SBX_CHROME_API_PRV": "2"}, "did not give what was asked"),
        ({"SBX_CHROME_API_PRV": None}, "did not give what was asked"),
        ({"SBX_PID_NS": None}, "did not give what was asked"),
        ({"SBX_NET_NS": None}, "did not give what was asked"),
        ({"SBX_NET_NS": "0"}, "did not give what was asked"),
        ({"SBX_D": None}, "did not say how to ask it for the empty root"),
        ({"SBX_D": "five"}, "did not say how to ask it for the empty root"),
        ({"SBX_HELPER_PID": ""}, "did not say how to ask it for the empty root"),
        ({"SBX_HELPER_PID": "-1"}, "did not say how to ask it for the empty root"),
    ],
)
def test_a_child_without_what_it_needs_does_not_go_on(
    change: dict[str, str | None], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that is missing or says something else ends stage 3 before anything is given up."""
    for name, value in (GIVEN | change).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(SandboxError, match=part):
        ChildSide(None).confine_early(Birth("chrome-sandbox", "test", Policy(), {}))


@pytest.mark.skipif(not IS_ROOT, reason="only root makes a setuid root program")
def test_a_helper_on_a_nosuid_mount_is_refused(tmp_path: Path) -> None:
    """A mount with nosuid makes the best mode useless, and that is said."""

    def look() -> str:
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount("none", "/", None, sc.MS_REC | sc.MS_PRIVATE)
        sc.mount("tmpfs", str(tmp_path), "tmpfs", sc.MS_NOSUID)
        path = tmp_path / "chrome-sandbox"
        path.touch()
        path.chmod(0o4755)
        try:
            check_setuid(str(path))
        except BackendUnavailable as error:
            return f"{error.cause}; {error.remedy}"
        return "taken"

    assert in_fork(look) == f"{tmp_path}/chrome-sandbox lies on a file system mounted nosuid; move it to another one"
