"""What a program finds that it can do in its sandbox: prints one JSON object. Standard library only; run inside."""

import ctypes
import errno
import fcntl
import json
import os
import socket
import sys
import termios

libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {  # x86-64, aarch64
    "unshare_user": (272, 97), "setns": (308, 268), "mount": (165, 40), "bpf": (321, 280), "keyctl": (250, 219),
    "add_key": (248, 217), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "perf_event_open": (298, 241),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "chroot": (161, 51), "open_tree": (428, 428),
    "fsopen": (430, 430), "init_module": (175, 105), "open_by_handle_at": (304, 265), "swapon": (167, 224),
}  # fmt: skip


def call(name, *arguments):
    number = NUMBERS[name][os.uname().machine == "aarch64"]
    libc.syscall.restype = ctypes.c_long
    done = libc.syscall(ctypes.c_long(number), *(ctypes.c_void_p(a) if isinstance(a, int) else a for a in arguments))
    return "ok" if done >= 0 else errno.errorcode.get(ctypes.get_errno(), "?")


def attempt(do):
    try:
        do()
        return "ok"
    except OSError as error:
        return errno.errorcode.get(error.errno, "?")


def in_child(do):
    """The same in a process of its own: what it changes goes with it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, do().encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    said = os.read(reading, 100).decode()
    os.close(reading)
    return said or "ok"  # another program has taken its place


def create(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.unlink(path)


def tiocsti():
    master, slave = os.openpty()
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return attempt(lambda: fcntl.ioctl(slave, termios.TIOCSTI, b"x"))


def environments():
    found = b""
    for name in os.listdir("/proc"):
        if name.isdigit():
            for part in ("environ", "cmdline"):
                try:
                    with open(f"/proc/{name}/{part}", "rb") as file:
                        found += file.read()
                except OSError:
                    pass
    return found.decode("latin-1")


def main():
    secret, paths = sys.argv[1][::-1], sys.argv[2:]  # backwards: or this command line would tell it
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    calls = {
        "unshare_user": lambda: call("unshare_user", 0x10000000),
        "unshare_mount": lambda: call("unshare_user", 0x00020000),
        "setns": lambda: call("setns", 0, 0x00020000),
        "mount": lambda: call("mount", b"tmpfs", b"/tmp", b"tmpfs", 0, 0),
        "bpf": lambda: call("bpf", 0, 0, 0),
        "keyctl": lambda: call("keyctl", 0, -3 & 0xFFFFFFFF, 1),
        "add_key": lambda: call("add_key", b"user", b"x", b"y", 1, -3 & 0xFFFFFFFF),
        "userfaultfd": lambda: call("userfaultfd", 0),
        "io_uring_setup": lambda: call("io_uring_setup", 1, ctypes.create_string_buffer(120)),
        "perf_event_open": lambda: call("perf_event_open", ctypes.create_string_buffer(128), 0, -1, -1, 0),
        "ptrace": lambda: call("ptrace", 16, 1, 0, 0),
        "process_vm_readv": lambda: call("process_vm_readv", 1, 0, 0, 0, 0, 0),
        "chroot": lambda: call("chroot", b"/tmp"),
        "open_tree": lambda: call("open_tree", -1, b"/", 1),
        "fsopen": lambda: call("fsopen", b"tmpfs", 0),
        "init_module": lambda: call("init_module", b"x", 1, b""),
        "open_by_handle_at": lambda: call("open_by_handle_at", -100, ctypes.create_string_buffer(32), 0),
        "swapon": lambda: call("swapon", b"/tmp/x", 0),
        "vsock": lambda: attempt(lambda: socket.socket(40, socket.SOCK_STREAM).close()),
        "device": lambda: attempt(lambda: os.mknod("device", 0o20600, os.makedev(1, 1))),
        "whiteout": lambda: attempt(lambda: os.mknod("README.md.gone", 0o20600, 0)),
        "chown": lambda: attempt(lambda: os.chown("README.md", 0, 0)),
        "setuid": lambda: attempt(lambda: os.setuid(0)),
        "tiocsti": tiocsti,
        "core_pattern": lambda: attempt(lambda: os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))),
        "sysrq": lambda: attempt(lambda: os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))),
        "network": lambda: attempt(lambda: socket.create_connection(("1.1.1.1", 443), 2).close()),
        "noexec": lambda: noexec(),
    }
    print(json.dumps({
        "uid": os.getuid(),
        "groups": sorted({os.getgid(), *os.getgroups()}),
        "capabilities": sorted({status[name] for name in status if name.startswith("Cap")}),
        "no_new_privs": status.get("NoNewPrivs"),
        "seccomp": status.get("Seccomp"),
        "descriptors": descriptors(),
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "environment": sorted(os.environ),
        "told": secret in environments(),
        "hostname": os.uname().nodename,
        "written": {path: attempt(lambda path=path: create(path)) for path in (
            "/new", "/usr/new", "/etc/new", "/var/new", "/bin/new", "/tmp/new", os.environ["HOME"] + "/new", "new")},
        "seen": [path for path in paths if os.path.lexists(path) or os.path.lexists("/proc/1/root" + path)],
        "calls": {name: in_child(do) for name, do in calls.items()},
        "nosuid": bool(os.statvfs(".").f_flag & os.ST_NOSUID),
    }))  # fmt: skip


def descriptors():
    found = []
    for fd in range(256):
        try:
            os.fstat(fd)
            found.append(fd)
        except OSError:
            pass
    return found


def noexec():
    with open("/tmp/program", "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod("/tmp/program", 0o755)
    return attempt(lambda: os.execv("/tmp/program", ["program"]))


main()
