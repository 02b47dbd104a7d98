"""Reading, writing and listing what is the host's, by every kind of name."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from .book import Kept, Target, attack, in_fork
from .calls import AT_FDCWD, buffer, call

READ, WRITE, LIST = "read a file", "write a file", "list a directory"
_MAX_HANDLE = 128


def _content(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode(errors="replace")
    finally:
        os.close(fd)


@attack("read a file of the host", READ)
def read_file(target: Target) -> str:
    return _content(f"{target.folder}/secret")


@attack("read /etc/passwd", READ)
def read_passwd(target: Target) -> None:
    _content("/etc/passwd")


@attack("read a file by openat2", READ)
def read_openat2(target: Target) -> str:
    path = f"{target.folder}/secret".encode()
    fd = call("openat2", AT_FDCWD, path, buffer(struct.pack("QQQ", os.O_RDONLY, 0, 0)), 24)
    with open(fd) as file:
        return file.read()


@attack("read a file through /proc/self/root", READ)
def read_proc_root(target: Target) -> str:
    return _content(f"/proc/self/root{target.folder}/secret")


@attack("read a file through .. of the working directory", READ)
def read_dots(target: Target) -> str:
    return _content("../" * 40 + target.folder.lstrip("/") + "/secret")


@attack("read a file through .. of a folder that the policy may name", READ)
def read_beside(target: Target) -> str:
    return _content(f"{target.shared}/../{os.path.basename(target.folder)}/secret")


@attack("read a file through a link in a folder that the policy may name", READ)
def read_link(target: Target) -> str:
    return _content(f"{target.shared}/link")


@attack("read a file through O_PATH and /proc/self/fd", READ)
def read_o_path(target: Target) -> str:
    fd = os.open(f"{target.folder}/secret", os.O_PATH | os.O_CLOEXEC)
    try:
        return _content(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


@attack("read a file by its handle, open_by_handle_at", READ, needs_root=True)
def read_handle(target: Target) -> str:
    handle, mount = buffer(struct.pack("Ii", _MAX_HANDLE, 0) + bytes(_MAX_HANDLE)), buffer(bytes(4))
    call("name_to_handle_at", AT_FDCWD, f"{target.folder}/secret".encode(), handle, mount, 0)
    folder = os.open(target.folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with open(call("open_by_handle_at", folder, handle, os.O_RDONLY)) as file:
            return file.read()
    finally:
        os.close(folder)


@attack("read the environment of another process", READ)
def read_environment(target: Target) -> str:
    return _content(f"/proc/{target.victim_pid}/environ")


@attack("open what another process has open", READ)
def read_other_fd(target: Target) -> str:
    return _content(f"/proc/{target.victim_pid}/fd/0")


@attack("read a file through another process's root", READ)
def read_other_root(target: Target) -> str:
    return _content(f"/proc/{target.victim_pid}/root{target.folder}/secret")


def _folders() -> Iterator[int]:
    """Yield the directories that early init left open; there must be one."""
    found = [number for number in range(3, 256) if _is_folder(number)]
    if not found:
        raise Kept("no such fd")
    yield from found


def _is_folder(number: int) -> bool:
    try:
        return stat.S_ISDIR(os.fstat(number).st_mode)
    except OSError:
        return False


@attack("read a file below a folder that the policy lets it keep", READ, policy="folder allowed", apart=True)
@attack("read a file with no file name but an fd that it kept", READ, policy="folder kept", apart=True)
def read_kept_folder(target: Target) -> str:
    folder = next(_folders())
    with open(os.open(f"{target.folder}/secret".lstrip("/"), os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)) as file:
        return file.read()


@attack("go into a folder that the policy lets it keep", READ, policy="folder allowed", apart=True)
@attack("leave a chroot by fchdir", READ, policy="folder kept", apart=True)
def leave_by_fchdir(target: Target) -> str:
    os.fchdir(next(_folders()))
    return _content("../" * 40 + target.folder.lstrip("/") + "/secret")


@attack("write a new file", WRITE)
def write_new(target: Target) -> None:
    os.close(os.open(f"{target.folder}/written", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


@attack("write a new file by creat", WRITE)
def write_creat(target: Target) -> None:
    os.close(call(85, f"{target.folder}/created".encode(), 0o644))


@attack("write a file without a name, O_TMPFILE", WRITE)
def write_tmpfile(target: Target) -> None:
    fd = os.open(target.folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    os.close(fd)


@attack("write a new file below a folder that the policy lets it keep", WRITE, policy="folder allowed", apart=True)
def write_kept_folder(target: Target) -> None:
    name = f"{target.folder}/below".lstrip("/")
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644, dir_fd=next(_folders())))


@attack("rename a file below a folder that the policy lets it keep", WRITE, policy="folder allowed", apart=True)
def rename_kept_folder(target: Target) -> None:
    folder, below = next(_folders()), target.folder.lstrip("/")
    os.rename(f"{below}/movable", f"{below}/moved below", src_dir_fd=folder, dst_dir_fd=folder)


@attack("list a folder that the policy lets it keep", LIST, policy="folder allowed", apart=True)
def list_kept_folder(target: Target) -> None:
    os.listdir(next(_folders()))


@attack("truncate a file", WRITE)
def truncate(target: Target) -> None:
    os.truncate(f"{target.folder}/victim", 0)


@attack("make a directory", WRITE)
def make_directory(target: Target) -> None:
    os.mkdir(f"{target.folder}/made")


@attack("remove a file", WRITE)
def remove(target: Target) -> None:
    os.unlink(f"{target.folder}/removable")


@attack("rename a file", WRITE)
def rename(target: Target) -> None:
    os.rename(f"{target.folder}/movable", f"{target.folder}/moved")


@attack("make a hard link", WRITE)
def hard_link(target: Target) -> None:
    os.link(f"{target.folder}/secret", f"{target.folder}/linked")


@attack("make a symbolic link", WRITE)
def symbolic_link(target: Target) -> None:
    os.symlink("/", f"{target.folder}/symbolic")


@attack("make a named pipe", WRITE)
def named_pipe(target: Target) -> None:
    os.mkfifo(f"{target.folder}/fifo")


@attack("make a device node", WRITE, needs_root=True)
def device_node(target: Target) -> None:
    os.mknod(f"{target.folder}/node", 0o020600, os.makedev(1, 3))


@attack("change a file's mode", WRITE)
def change_mode(target: Target) -> None:
    os.chmod(f"{target.folder}/victim", 0o4755)


@attack("change a file's plain mode", WRITE)
def change_plain_mode(target: Target) -> None:
    os.chmod(f"{target.folder}/moded", 0o711)


@attack("change a file's times", WRITE)
def change_times(target: Target) -> None:
    os.utime(f"{target.folder}/timed", (1, 1))


@attack("change a file's owner", WRITE, needs_root=True)
def change_owner(target: Target) -> None:
    os.chown(f"{target.folder}/owned", 12345, -1)


@attack("write an extended attribute", WRITE)
def write_attribute(target: Target) -> None:
    os.setxattr(f"{target.folder}/victim", "user.belljar", b"written")


@attack("put a file into /dev/shm", WRITE)
def write_shm(target: Target) -> None:
    os.close(os.open(f"/dev/shm/{target.word}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


@attack("overwrite a file of the package", WRITE, needs_root=True)
def write_package(target: Target) -> None:
    os.close(os.open(target.package, os.O_WRONLY | os.O_CLOEXEC))


@attack("overwrite the interpreter through /proc/self/exe", WRITE, needs_root=True)
def write_interpreter(target: Target) -> None:
    fd = os.open("/proc/self/exe", os.O_PATH | os.O_CLOEXEC)
    try:
        os.close(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno != errno.ETXTBSY:
            raise
        # It runs, which the kernel says before it asks anybody else. CVE-2019-5736 waits until it does not run; here
        # it is enough to write what can be written meanwhile: its times, to what they are.
        found = os.stat(f"/proc/self/fd/{fd}")
        os.utime(f"/proc/self/fd/{fd}", ns=(found.st_atime_ns, found.st_mtime_ns))
    finally:
        os.close(fd)


@attack("write to a harmless device, /dev/null", WRITE)
def write_null(target: Target) -> None:
    os.close(os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC))


@attack("make a terminal, /dev/ptmx", WRITE)
def make_terminal(target: Target) -> None:
    os.close(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))


@attack("write to a raw device, /dev/kmsg", WRITE, needs_root=True)
def write_device(target: Target) -> None:
    os.close(os.open("/dev/kmsg", os.O_WRONLY | os.O_CLOEXEC))


@attack("write a sysctl", WRITE, needs_root=True)
def write_sysctl(target: Target) -> None:
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY | os.O_CLOEXEC))


@attack("list the root", LIST)
def list_root(target: Target) -> None:
    if "etc" not in os.listdir("/"):
        raise Kept("empty")


@attack("list a folder of the host", LIST)
def list_folder(target: Target) -> str:
    return ",".join(sorted(os.listdir(target.folder)))


@attack("list /tmp through /proc/self/cwd", LIST)
def list_cwd(target: Target) -> None:
    os.listdir("/proc/self/cwd/../../../tmp")


@attack("change root to a folder of the host", LIST, needs_root=True)
def list_after_chroot(target: Target) -> None:
    def list_inside() -> None:
        os.chroot(target.folder)
        os.listdir("/")

    in_fork(list_inside)


@attack("lock a file")
def lock(target: Target) -> None:
    with _memfd() as fd:
        fcntl.fcntl(fd, fcntl.F_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))


@attack("lock a file, high bits")
def lock_high(target: Target) -> None:
    with _memfd() as fd:
        call("fcntl", fd, fcntl.F_SETLK | 1 << 32, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))


@attack("lock an open file description")
def lock_description(target: Target) -> None:
    with _memfd() as fd:
        fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))  # F_OFD_SETLK


@attack("lock a file by flock")
def lock_whole(target: Target) -> None:
    with _memfd() as fd:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


@attack("take a lease on a file")
def lease(target: Target) -> None:
    with _memfd() as fd:
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except BlockingIOError:  # the kernel's own: a memfd has no lease, but the call was let through
            return


@contextmanager
def _memfd() -> Iterator[int]:
    """A file that every child can have; nobody else can lock it, but the call is the same."""
    fd = os.memfd_create("lock", os.MFD_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
