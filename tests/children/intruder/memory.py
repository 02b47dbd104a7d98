"""Memory that is to become code, and ways into the kernel that no filter of 64-bit calls expects."""

from __future__ import annotations

import ctypes
import mmap
import os

from .book import Kept, Target, attack
from .calls import call, libc, reaches

CODE = "new executable memory"
_RETURN_42 = bytes.fromhex("b82a000000 c3")
_ALL = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
_READ_EXEC = mmap.PROT_READ | mmap.PROT_EXEC
_READ_IMPLIES_EXEC = 0x0400000

libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]


def _run(address: int) -> str:
    return str(ctypes.CFUNCTYPE(ctypes.c_int)(address)())


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


@attack("run code in memory that is writable and executable", CODE)
def writable_and_executable(target: Target) -> str:
    memory = mmap.mmap(-1, 4096, prot=_ALL)
    memory.write(_RETURN_42)
    return _run(_address(memory))


@attack("run code in memory that becomes executable", CODE)
def becomes_executable(target: Target) -> str:
    memory = mmap.mmap(-1, 4096)
    memory.write(_RETURN_42)
    call("mprotect", _address(memory), 4096, _READ_EXEC)
    return _run(_address(memory))


@attack("make memory executable, high bits", CODE)
def becomes_executable_high(target: Target) -> str:
    """The kernel takes the whole word of prot, so bits above make it EINVAL; a filter must not care."""
    memory = mmap.mmap(-1, 4096)
    memory.write(_RETURN_42)
    try:
        call("mprotect", _address(memory), 4096, _READ_EXEC | 1 << 32)
    except OSError as error:
        if error.errno != 22:  # EINVAL, the kernel's own
            raise
        return "42"
    return _run(_address(memory))


@attack("make memory executable by pkey_mprotect", CODE)
def becomes_executable_by_key(target: Target) -> str:
    memory = mmap.mmap(-1, 4096)
    memory.write(_RETURN_42)
    call(329, _address(memory), 4096, _READ_EXEC, 2**64 - 1)
    return _run(_address(memory))


@attack("run code of a memfd that is mapped twice", CODE)
def mapped_twice(target: Target) -> str:
    fd = os.memfd_create("code", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, 4096)
        os.pwrite(fd, _RETURN_42, 0)
        address = libc.mmap(None, 4096, _READ_EXEC, mmap.MAP_SHARED, fd, 0)
        if address in (None, 2**64 - 1):
            raise OSError(ctypes.get_errno(), "mmap")
        return _run(address)
    finally:
        os.close(fd)


@attack("make all readable memory executable, personality", CODE)
def readable_is_executable(target: Target) -> str:
    before = call("personality", 0xFFFFFFFF)
    call("personality", before | _READ_IMPLIES_EXEC)
    try:
        memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        call("personality", before)
    memory.write(_RETURN_42)
    return _run(_address(memory))


@attack("attach shared memory as executable", CODE)
def attached(target: Target) -> str:
    segment = call("shmget", 0, 4096, 0o1700)  # IPC_PRIVATE | IPC_CREAT
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(segment, None, 0o100000)  # SHM_EXEC
    libc.shmctl(segment, 0, None)  # IPC_RMID, once detached
    if address in (None, 2**64 - 1):
        raise OSError(ctypes.get_errno(), "shmat")
    ctypes.memmove(address, _RETURN_42, len(_RETURN_42))
    return _run(address)


@attack("write into code through /proc/self/mem", CODE)
def write_code(target: Target) -> str:
    """The page of the warm-up (tests/children/intruder_warm.py) is executable and read-only."""
    page = int(os.environ.get("BELLJAR_ATTACK_CODE", "0"))
    if not page:
        raise Kept("no code page")
    fd = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(fd, _RETURN_42, page + 2048)
    finally:
        os.close(fd)
    return _run(page + 2048)


attack("hide memory from the kernel, memfd_secret")(reaches("memfd_secret", 0))


@attack("enter the kernel by int 0x80, as i386", apart=True)
def enter_as_i386(target: Target) -> None:
    """The warm-up's page holds: mov eax, 20 (getpid); int 0x80; ret."""
    page = int(os.environ.get("BELLJAR_ATTACK_CODE", "0"))
    if not page:
        raise Kept("no code page")
    if int(_run(page)) != os.getpid():
        raise Kept("ENOSYS")


_NO_X32 = "a kernel without x32 knows no such call; tests/escape/test_filters.py shows what a filter must see"


@attack("enter the kernel with the bit of x32", apart=True, proof=_NO_X32)
def enter_as_x32(target: Target) -> None:
    call(0x4000_0000 | 39)
