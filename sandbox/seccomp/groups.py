"""System calls by what a program wants with them. `rules` says which group gets which answer.

The names are libseccomp's. A name that an architecture does not have (``open`` on aarch64) is left out there. A name
that the installed libseccomp does not know is a mistake, unless it stands in `NEWER`: then the kernel meets the number
as an unknown call, which is refused in any case. No name stands in two groups; a test sees to it.
"""

from __future__ import annotations

from typing import Final


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NEWER: Final = frozenset(
    _names("""
    fchmodat2 futex_requeue futex_wait futex_wake getxattrat listmount listxattrat mseal open_tree_attr removexattrat
    setxattrat statmount
    """)
)
"""Calls that libseccomp 2.5.4, the oldest that we build on, does not know yet."""

# ---- always allowed: what a thread needs to compute ----

MEMORY: Final = _names("""
    brk get_mempolicy madvise membarrier memfd_create mlock mlock2 mremap mseal msync munlock munlockall munmap
    pkey_alloc pkey_free
""")
"""Memory, but for what could make it executable. memfd_create stays: large results travel in sealed memfds."""

THREADS: Final = _names("""
    futex futex_requeue futex_wait futex_waitv futex_wake getcpu gettid rseq sched_get_priority_max
    sched_get_priority_min sched_yield set_robust_list set_tid_address
""")
"""What threads that already run do; to start one is clone(2), of which `rules` looks at the flags."""

DESCRIPTORS: Final = _names("""
    close close_range dup dup2 dup3 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait fadvise64 fallocate fdatasync fstat
    fsync ftruncate lseek poll ppoll pread64 preadv preadv2 pselect6 pwrite64 pwritev pwritev2 read readv select
    timerfd_gettime timerfd_settime write writev
""")
"""Work on descriptors that are open; none of these opens one by name or makes a channel."""

SOCKET_IO: Final = _names("getpeername getsockname recvfrom recvmmsg recvmsg sendmmsg sendmsg shutdown")
"""Talk on sockets that are there. sendmsg can carry an address, which no filter sees; the kernel itself refuses it on
connected stream and seqpacket sockets, the only kinds that a child without network can have (`rules`, socketpair)."""

SIGNALS: Final = _names("""
    pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack
""")
"""Handlers, masks and waiting; to send a signal is to aim it."""

AIMED: Final = _names("""
    capget getpgid getpriority getsid kill sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_setaffinity tgkill tkill
""")
"""Calls that name a process by its number: signals to itself, which abort(), raise() and pthread_kill() need, and
questions. A pid namespace leaves nobody else to hit; where there is none, `own_pid` looks at the number."""

TIME: Final = _names("""
    alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time timer_create
    timer_delete timer_getoverrun timer_gettime timer_settime times
""")
"""Clocks, sleep and timers. A timer that starts a thread (SIGEV_THREAD) goes through clone(2), as any thread."""

SELF: Final = _names("""
    exit exit_group getegid geteuid getgid getgroups getpgrp getpid getppid getrandom getresgid getresuid getrlimit
    getrusage getuid restart_syscall sysinfo uname wait4 waitid
""")
"""What a process may know of itself and of the machine, and how it ends."""

ALWAYS: Final = MEMORY + THREADS + DESCRIPTORS + SOCKET_IO + SIGNALS + AIMED + TIME + SELF

# ---- allowed by a policy, else EACCES ----

FILE_READS: Final = _names("""
    access chdir faccessat faccessat2 fchdir fgetxattr flistxattr fstatfs getcwd getdents getdents64 getxattr lgetxattr
    listxattr llistxattr lstat readlink readlinkat stat statfs
""")
"""Looking at files by name, and into folders: a directory fd, should one have been left open, is a way out."""

FILE_WRITES: Final = _names("""
    link linkat mkdir mkdirat rename renameat renameat2 rmdir symlink symlinkat truncate umask unlink unlinkat
""")
"""Changing files by name."""

FILE_TIMES: Final = _names("futimesat utime utimensat utimes")
"""Setting the times of files, which only a mount namespace can limit to some: landlock knows no access for it."""

FILE_NEVER: Final = _names("""
    chown fchmodat2 fchown fchownat fremovexattr fsetxattr getxattrat lchown listxattrat lremovexattr lsetxattr mknod
    mknodat removexattr removexattrat setxattr setxattrat
""")
"""No policy grants these: owners, device nodes, extended attributes, and newer forms of calls that have rules."""

WATCHING: Final = _names("inotify_add_watch inotify_init inotify_init1 inotify_rm_watch")
"""Watching what others do to files; granted by name only."""

CHANNELS: Final = _names("epoll_create epoll_create1 eventfd eventfd2 pipe timerfd_create")
"""New descriptors that begin and end in the child, as an event loop needs; pipe2 and socketpair have rules."""

NETWORK: Final = _names("accept accept4 bind connect listen")
"""Reaching out and being reached; to make a socket has rules."""

# ---- allowed with sub-processes, else EPERM ----

PROCESSES: Final = _names("fork setpgid setsid vfork")
"""New processes and their groups; clone and execve have rules."""

# ---- allowed as a covert channel, else EPERM; locks EACCES, as all that files are asked for ----

KEYS: Final = _names("add_key keyctl request_key")
LOCKS: Final = _names("flock")
SYSV_IPC: Final = _names("msgctl msgget msgrcv msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget")
POSIX_QUEUES: Final = _names("mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink")
"""Keys, locks, System V and POSIX IPC: they have names that two children could share, to talk past the host. With locks
go commands of fcntl; shmat can map executable memory, and has a rule."""

# ---- granted by name only ----

KERNEL_COPIES: Final = _names("copy_file_range sendfile splice tee vmsplice")
"""Moving bytes between descriptors inside the kernel: much code, little use, and callers fall back to read, write."""

PRIORITY: Final = _names("""
    ioprio_set mbind mlockall remap_file_pages sched_setattr sched_setparam sched_setscheduler set_mempolicy
    set_mempolicy_home_node setpriority
""")
"""A larger share of the machine, and old ways to arrange memory."""

RISKY: Final = _names("modify_ldt userfaultfd")
"""Nothing of the seal rests on these two, but many an exploit did: segments for 16-bit code (Wine), and page faults
that user space answers, by which a race in the kernel can be won at leisure."""

UNUSED: Final = _names("""
    cachestat get_thread_area io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit ioprio_get
    map_shadow_stack memfd_secret mincore readahead riscv_flush_icache set_thread_area signalfd signalfd4 sync
    sync_file_range syncfs
""")
"""Answered ENOSYS, for children do well without: asynchronous I/O as it was before io_uring, hints, and the like."""

# ---- never allowed ----

OBSOLETE: Final = _names("""
    afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms getpmsg nfsservctl putpmsg query_module
    security tuxcall vserver
""")
"""Numbers that are taken, and that no kernel of today answers."""

ABSENT: Final = _names("clone3 io_uring_enter io_uring_register io_uring_setup statx")
"""Answered ENOSYS, as unknown calls are, so that libraries fall back: glibc from clone3 to clone (with EPERM no thread
would start), from statx to fstat. The flags of clone3 lie behind a pointer and io_uring runs calls that no filter sees,
so neither can ever be allowed."""

OTHER_PROCESSES: Final = _names("""
    get_robust_list kcmp migrate_pages move_pages pidfd_getfd pidfd_open pidfd_send_signal process_madvise
    process_mrelease process_vm_readv process_vm_writev ptrace rt_sigqueueinfo rt_tgsigqueueinfo
""")
"""Other processes and their memory; also forged signals."""

CONFINEMENT: Final = _names("""
    capset landlock_add_rule landlock_create_ruleset landlock_restrict_self personality seccomp setfsgid setfsuid setgid
    setgroups setns setregid setresgid setresuid setreuid setrlimit setuid unshare
""")
"""Who the child is, and what confines it. personality(2) can make all readable memory executable."""

MOUNTS: Final = _names("""
    chroot fanotify_init fanotify_mark fsconfig fsmount fsopen fspick listmount mount mount_setattr move_mount
    name_to_handle_at open_by_handle_at open_tree open_tree_attr pivot_root quotactl quotactl_fd statmount sysfs umount2
    ustat
""")
"""The tree of files, and ways around names."""

MACHINE: Final = _names("""
    _sysctl acct adjtimex bpf clock_adjtime clock_settime delete_module finit_module init_module ioperm iopl
    kexec_file_load kexec_load lookup_dcookie perf_event_open reboot setdomainname sethostname settimeofday swapoff
    swapon syslog uselib vhangup
""")
"""The kernel and the machine."""

FORBIDDEN: Final = OTHER_PROCESSES + CONFINEMENT + MOUNTS + MACHINE

# ---- calls whose answer hangs on their arguments: `rules` ----

PROTECTION: Final = _names("mmap mprotect pkey_mprotect")
OPENING: Final = _names("chmod creat fchmod fchmodat newfstatat open openat openat2")
STARTING: Final = _names("clone execve execveat")
SOCKETS: Final = _names("getsockopt sendto setsockopt socket socketpair")
COMMANDS: Final = _names("arch_prctl fcntl ioctl pipe2 prctl prlimit64")

ARGUED: Final = PROTECTION + OPENING + STARTING + SOCKETS + COMMANDS

INTENTIONS: Final[dict[str, tuple[str, ...]]] = {
    "use memory": MEMORY + PROTECTION,
    "run threads": THREADS,
    "use open descriptors": DESCRIPTORS + KERNEL_COPIES,
    "ask and command by number": COMMANDS,
    "handle signals": SIGNALS,
    "aim at a process": AIMED,
    "tell the time and wait": TIME,
    "know itself": SELF,
    "open files": OPENING,
    "look at files": FILE_READS,
    "change files": FILE_WRITES + FILE_TIMES,
    "change what files are": FILE_NEVER,
    "watch files": WATCHING,
    "make local channels": CHANNELS,
    "make and set sockets": SOCKETS,
    "talk on sockets": SOCKET_IO,
    "reach out": NETWORK,
    "start threads and processes": STARTING + PROCESSES,
    "share keys": KEYS,
    "share locks": LOCKS,
    "share System V IPC": SYSV_IPC,
    "share POSIX queues": POSIX_QUEUES,
    "take a larger share": PRIORITY,
    "help an exploit": RISKY,
    "do rare things": UNUSED,
    "do what hides from filters": ABSENT,
    "reach into other processes": OTHER_PROCESSES,
    "change its confinement": CONFINEMENT,
    "mount": MOUNTS,
    "steer the machine": MACHINE,
    "call what is gone": OBSOLETE,
}
"""What a program wants -> the calls that it makes. Each call that belljar knows stands in exactly one."""
