"""What belljar uses of python-prctl, which ships no annotations. See prctl(2) and capabilities(7)."""

from collections.abc import Sequence

ALL_CAPS: tuple[int, ...]
ALL_CAP_NAMES: tuple[str, ...]
ALL_FLAGS: tuple[int, ...]
ALL_FLAG_NAMES: tuple[str, ...]

CAP_AUDIT_CONTROL: int
CAP_AUDIT_READ: int
CAP_AUDIT_WRITE: int
CAP_BLOCK_SUSPEND: int
CAP_BPF: int
CAP_CHOWN: int
CAP_DAC_OVERRIDE: int
CAP_DAC_READ_SEARCH: int
CAP_EFFECTIVE: int
CAP_FOWNER: int
CAP_FSETID: int
CAP_INHERITABLE: int
CAP_IPC_LOCK: int
CAP_IPC_OWNER: int
CAP_KILL: int
CAP_LAST_CAP: int
CAP_LEASE: int
CAP_LINUX_IMMUTABLE: int
CAP_MAC_ADMIN: int
CAP_MAC_OVERRIDE: int
CAP_MKNOD: int
CAP_NET_ADMIN: int
CAP_NET_BIND_SERVICE: int
CAP_NET_BROADCAST: int
CAP_NET_RAW: int
CAP_PERFMON: int
CAP_PERMITTED: int
CAP_SETFCAP: int
CAP_SETGID: int
CAP_SETPCAP: int
CAP_SETUID: int
CAP_SYSLOG: int
CAP_SYS_ADMIN: int
CAP_SYS_BOOT: int
CAP_SYS_CHROOT: int
CAP_SYS_MODULE: int
CAP_SYS_NICE: int
CAP_SYS_PACCT: int
CAP_SYS_PTRACE: int
CAP_SYS_RAWIO: int
CAP_SYS_RESOURCE: int
CAP_SYS_TIME: int
CAP_SYS_TTY_CONFIG: int
CAP_WAKE_ALARM: int

SECBIT_KEEP_CAPS: int
SECBIT_KEEP_CAPS_LOCKED: int
SECBIT_NOROOT: int
SECBIT_NOROOT_LOCKED: int
SECBIT_NO_SETUID_FIXUP: int
SECBIT_NO_SETUID_FIXUP_LOCKED: int

class _Caps:
    """One set of capabilities: an attribute each, by the kernel's name in lower case."""

    audit_control: bool
    audit_read: bool
    audit_write: bool
    block_suspend: bool
    bpf: bool
    chown: bool
    dac_override: bool
    dac_read_search: bool
    fowner: bool
    fsetid: bool
    ipc_lock: bool
    ipc_owner: bool
    kill: bool
    last_cap: bool
    lease: bool
    linux_immutable: bool
    mac_admin: bool
    mac_override: bool
    mknod: bool
    net_admin: bool
    net_bind_service: bool
    net_broadcast: bool
    net_raw: bool
    perfmon: bool
    setfcap: bool
    setgid: bool
    setpcap: bool
    setuid: bool
    sys_admin: bool
    sys_boot: bool
    sys_chroot: bool
    sys_module: bool
    sys_nice: bool
    sys_pacct: bool
    sys_ptrace: bool
    sys_rawio: bool
    sys_resource: bool
    sys_time: bool
    sys_tty_config: bool
    syslog: bool
    wake_alarm: bool
    def drop(self, *caps: int | str) -> None: ...
    def limit(self, *caps: int | str) -> None: ...

class Capbset(_Caps): ...

class Capset(_Caps):
    flag: int

class Securebits:
    keep_caps: bool
    keep_caps_locked: bool
    noroot: bool
    noroot_locked: bool
    no_setuid_fixup: bool
    no_setuid_fixup_locked: bool

capbset: Capbset
cap_effective: Capset
cap_inheritable: Capset
cap_permitted: Capset
securebits: Securebits

def get_caps(*args: tuple[int | str | Sequence[int | str], int | Sequence[int]]) -> dict[int, dict[int, bool]]: ...
def set_caps(*args: tuple[int | str | Sequence[int | str], int | Sequence[int], bool]) -> None: ...
def capbset_drop(cap: int) -> int: ...
def capbset_read(cap: int) -> int: ...
def get_child_subreaper() -> int: ...
def set_child_subreaper(on: int) -> int: ...
def get_dumpable() -> int: ...
def set_dumpable(on: int) -> int: ...
def get_keepcaps() -> int: ...
def set_keepcaps(on: int) -> int: ...
def get_name() -> str: ...
def set_name(name: str) -> int: ...
def set_proctitle(title: str) -> None: ...
def get_no_new_privs() -> int: ...
def set_no_new_privs(on: int) -> int: ...
def get_pdeathsig() -> int: ...
def set_pdeathsig(signal: int) -> int: ...
def get_seccomp() -> int: ...
def get_securebits() -> int: ...
def set_securebits(bits: int) -> int: ...
def get_timerslack() -> int: ...
def set_timerslack(nanoseconds: int) -> int: ...
