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
    futex futex_requeue futex_wait futex_waitv futex_wake getcpu getpriority gettid rseq sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_setaffinity sched_yield set_robust_list set_tid_address
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
    kill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack tgkill
    tkill
""")
"""Signals to itself: abort(), raise() and pthread_kill() need them. A filter is compiled before the pid is known, so it
cannot see at whom a signal is aimed: the pid namespace is what leaves nobody else to hit."""

TIME: Final = _names("""
    alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time timer_create
    timer_delete timer_getoverrun timer_gettime timer_settime times
""")
"""Clocks, sleep and timers. A timer that starts a thread (SIGEV_THREAD) goes through clone(2), as any thread."""

SELF: Final = _names("""
    capget exit exit_group getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getrandom getresgid getresuid
    getrlimit getrusage getsid getuid restart_syscall sysinfo uname wait4 waitid
""")
"""What a process may know of itself and of the machine, and how it ends."""

ALWAYS: Final = MEMORY + THREADS + DESCRIPTORS + SOCKET_IO + SIGNALS + TIME + SELF

# ---- allowed by a policy, else EACCES ----

FILE_READS: Final = _names("""
    access chdir faccessat faccessat2 fchdir fgetxattr flistxattr fstatfs getcwd getdents getdents64 getxattr lgetxattr
    listxattr llistxattr lstat readlink readlinkat stat statfs
""")
"""Looking at files by name, and into folders: a directory fd, should one have been left open, is a way out."""

FILE_WRITES: Final = _names("""
    flock futimesat link linkat mkdir mkdirat rename renameat renameat2 rmdir symlink symlinkat truncate umask unlink
    unlinkat utime utimensat utimes
""")
"""Changing files by name, and the locks that databases take."""

FILE_NEVER: Final = _names("""
    chown fchmodat2 fchown fchownat fremovexattr fsetxattr getxattrat inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch lchown listxattrat lremovexattr lsetxattr mknod mknodat removexattr removexattrat setxattr
    setxattrat
""")
"""No policy grants these: owners, device nodes, extended attributes, and watching what others open."""

CHANNELS: Final = _names("epoll_create epoll_create1 eventfd eventfd2 pipe timerfd_create")
"""New descriptors that begin and end in the child, as an event loop needs; pipe2 and socketpair have rules."""

NETWORK: Final = _names("accept accept4 bind connect listen")
"""Reaching out and being reached; to make a socket has rules."""

# ---- allowed with sub-processes, else EPERM ----

PROCESSES: Final = _names("fork setpgid setsid vfork")
"""New processes and their groups; clone and execve have rules."""

# ---- never allowed ----

ABSENT: Final = _names("clone3 io_uring_enter io_uring_register io_uring_setup statx")
"""Answered ENOSYS, as unknown calls are, so that libraries fall back: glibc from clone3 to clone (with EPERM no thread
would start), from statx to fstat. The flags of clone3 lie behind a pointer and io_uring runs calls that no filter sees,
so neither can ever be allowed."""

OTHER_PROCESSES: Final = _names("""
    get_robust_list kcmp pidfd_getfd pidfd_open pidfd_send_signal process_madvise process_mrelease process_vm_readv
    process_vm_writev ptrace rt_sigqueueinfo rt_tgsigqueueinfo
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
    kexec_file_load kexec_load lookup_dcookie modify_ldt perf_event_open reboot setdomainname sethostname settimeofday
    swapoff swapon syslog uselib userfaultfd vhangup
""")
"""The kernel and the machine."""

NAMED_IPC: Final = _names("""
    add_key keyctl mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd
    request_key semctl semget semop semtimedop shmat shmctl shmdt shmget
""")
"""Keys, System V and POSIX IPC: they have names that others could share. shmat(2) can also map executable memory."""

KERNEL_COPIES: Final = _names("copy_file_range sendfile splice tee vmsplice")
"""Moving bytes between descriptors inside the kernel: much code, little use, and callers fall back to read, write."""

PRIORITY: Final = _names("""
    ioprio_set mbind migrate_pages mlockall move_pages remap_file_pages sched_setattr sched_setparam sched_setscheduler
    set_mempolicy set_mempolicy_home_node setpriority
""")
"""A larger share of the machine, and old ways to arrange memory."""

FORBIDDEN: Final = OTHER_PROCESSES + CONFINEMENT + MOUNTS + MACHINE + NAMED_IPC + KERNEL_COPIES + PRIORITY
