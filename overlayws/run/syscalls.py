"""The seccomp profile of a container: the system calls that programs need, and no other (EPERM).

An allowlist in the engine's format (OCI runtime-spec, linux.seccomp; seccomp(2)). Not in it, although a program may ask
for it: new namespaces and mounts (a hole in the kernel most often begins there), keyrings, ptrace and the memory of
other processes, bpf, userfaultfd, perf events, io_uring, kernel modules, clocks, swap, quota, handles of files by
number. Of the rest by argument:

- clone(2) without namespaces; clone3(2) says ENOSYS, so that C libraries take clone(2), whose flags a filter can see
- socket(2) without AF_VSOCK: in a virtual machine it reaches the host
- mknod(2) of FIFOs only
- ioctl(2) without TIOCSTI and TIOCLINUX (CVE-2017-5226); the kernel looks at the low half of a request only, and so
  does the rule (CVE-2019-10063)
- personality(2) with the harmless ones
- fallocate(2), and the requests of ioctl(2) that do the same, unless the disk is limited (disk.py): it takes gigabytes
  at once. C libraries then write instead

A name that the engine's libseccomp does not know is left out by the engine.
"""

from __future__ import annotations

from typing import Any

from overlayws.run.seccomp import RESERVING

_FILES = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat
getcwd getdents getdents64 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lchown
lchown32 lgetxattr link linkat listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64
memfd_create mkdir mkdirat name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64
pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir
sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statx symlink symlinkat sync
sync_file_range sync_file_range2 arm_sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime
utimensat utimensat_time64 utimes vmsplice write writev
"""
_MEMORY = """
brk cachestat get_mempolicy madvise map_shadow_stack mbind membarrier mincore mlock mlock2 mlockall mmap mmap2 mprotect
mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages
set_mempolicy set_mempolicy_home_node cacheflush
"""
_PROCESSES = """
alarm arch_prctl capget capset execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait
futex_waitv futex_wake get_robust_list get_thread_area getcpu getegid getegid32 geteuid geteuid32 getgid getgid32
getgroups getgroups32 getitimer getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid getresuid32
getrlimit getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset
landlock_restrict_self pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq rt_sigaction rt_sigpending
rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
sched_yield seccomp set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid
setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
setresuid32 setreuid setreuid32 setrlimit setsid setuid setuid32 sigaction sigaltstack signal signalfd signalfd4
sigpending sigprocmask sigreturn sigsuspend tgkill tkill ugetrlimit vfork wait4 waitid waitpid breakpoint set_tls
"""
_TIME_AND_WAITING = """
clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 epoll_create
epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 gettimeofday
nanosleep _newselect pause poll ppoll ppoll_time64 pselect6 pselect6_time64 select time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
timerfd_gettime64 timerfd_settime timerfd_settime64 times
"""
_TALKING = """
accept accept4 bind connect getpeername getsockname getsockopt ipc listen mq_getsetattr mq_notify mq_open
mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd recv
recvfrom recvmmsg recvmmsg_time64 recvmsg semctl semget semop semtimedop semtimedop_time64 send sendmmsg sendmsg sendto
setsockopt shmat shmctl shmdt shmget shutdown socketpair io_cancel io_destroy io_getevents io_pgetevents
io_pgetevents_time64 io_setup io_submit
"""
_ABOUT_THE_MACHINE = "getrandom olduname oldolduname sysinfo uname"

_EPERM, _ENOSYS, _EOPNOTSUPP = 1, 38, 95
_NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW* flag of clone(2)
_AF_VSOCK = 40
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_S_IFMT, _S_IFIFO = 0o170000, 0o010000
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # PER_LINUX, PER_LINUX32, with UNAME26; what it is now
_SUBARCHITECTURES = {
    "SCMP_ARCH_X86_64": ["SCMP_ARCH_X86"],
    "SCMP_ARCH_AARCH64": ["SCMP_ARCH_ARM"],
}


def profile(*, gvisor: bool = False, limited: bool = False) -> dict[str, Any]:
    """The profile as JSON data, for ``--security-opt seccomp=``.

    ``gvisor``: runsc knows no error but EPERM. To be traced where no tracer is means ENOSYS (seccomp(2)); nobody inside
    can become one, since ptrace is refused. ``limited``: for a disk that is.
    """
    all_names = f"{_FILES}{_MEMORY}{_PROCESSES}{_TIME_AND_WAITING}{_TALKING}{_ABOUT_THE_MACHINE}".split()
    reserving = RESERVING if limited else ()
    rules: list[dict[str, Any]] = [
        _rule(sorted({*all_names} - ({"fallocate"} if limited else set()))),
        _rule(["clone"], _argument(0, _NEW_NAMESPACES, "SCMP_CMP_MASKED_EQ", 0)),
        _rule(["socket"], _argument(0, _AF_VSOCK, "SCMP_CMP_LT")),
        _rule(["socket"], _argument(0, _AF_VSOCK, "SCMP_CMP_GT")),
        _rule(["mknod"], _argument(1, _S_IFMT, "SCMP_CMP_MASKED_EQ", _S_IFIFO)),
        _rule(["mknodat"], _argument(2, _S_IFMT, "SCMP_CMP_MASKED_EQ", _S_IFIFO)),
        *(_rule(["personality"], _argument(0, value, "SCMP_CMP_EQ")) for value in _PERSONALITIES),
        # Ranges instead of exceptions: rules of one action are alternatives, never exceptions of each other.
        *(_rule(["ioctl"], *between) for between in _but(_TIOCSTI, _TIOCLINUX, *reserving)),
        _missing(["clone3"], gvisor=gvisor),
    ]
    if limited:
        rules.append(_missing(["fallocate"], gvisor=gvisor, errno=_EOPNOTSUPP))
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "archMap": [
            {"architecture": architecture, "subArchitectures": others}
            for architecture, others in _SUBARCHITECTURES.items()
        ],
        "syscalls": rules,
    }


def _missing(names: list[str], *, gvisor: bool, errno: int = _ENOSYS) -> dict[str, Any]:
    """A rule by which calls say ``errno``; under gVisor always ENOSYS."""
    if gvisor:
        return {"names": names, "action": "SCMP_ACT_TRACE"}
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno}


def _rule(names: list[str], *arguments: dict[str, Any]) -> dict[str, Any]:
    return {"names": names, "action": "SCMP_ACT_ALLOW", "args": list(arguments)}


def _argument(index: int, value: int, how: str, two: int | None = None) -> dict[str, Any]:
    found = {"index": index, "value": value, "op": how}
    return found if two is None else {**found, "valueTwo": two}


def _but(*requests: int) -> list[list[dict[str, Any]]]:
    """Rules for every value of ioctl(2)'s request whose low half is none of ``requests``: the subtrees of bits, from
    the highest down, that hold none of them."""
    rules = []
    subtrees = [(0, 0, 1 << 31)]
    while subtrees:
        mask, value, bit = subtrees.pop()
        if not any(request & mask == value for request in requests):
            rules.append([_argument(1, mask, "SCMP_CMP_MASKED_EQ", value)])
        elif bit:
            subtrees += [(mask | bit, value, bit >> 1), (mask | bit, value | bit, bit >> 1)]
    return rules
