"""Become a process that sees an overlay mount: unshare, mount, execute the rest of the command line.

A program of its own (``Mount.enter`` starts it with ``python -I -S``), standard library only, imported by nobody:

    enter.py KEY=VALUE... -- COMMAND ARGUMENTS...

mode    ``kernel`` (a mount namespace; needs CAP_SYS_ADMIN) or ``userns`` (a user namespace around it, ``userxattr``)
lower, upper, work, merged   the layer; ``at`` (optional): a directory that the mount shadows as well
below0, below1 ...           (optional) further lower layers, the topmost first
owner   (optional, ``kernel`` only) a uid: what we own in the layer is shown as its, and what it makes becomes ours
base    (optional, with ``owner``) ``only``: no overlay, but the lower layer itself, read-only
image   (optional, ``kernel`` only) a descriptor in /proc of a mount that is nowhere yet: it holds upper and work, which
        are named as in ``merged``, where it is put for the moment that the overlay needs it
stay    (optional, ``kernel`` only) ``yes``: mount in the namespace that we come from, where the mount then stays
try     (optional) ``yes``: no COMMAND; use the mount as one would, on the lower layer {"f": TEXT, "d": {"x": TEXT}}
parent  the process that must be our parent; we, and what we execute, die when it dies
status  (optional) a file for one JSON line: {"error": TEXT, "hint": TEXT} when COMMAND was not executed. Without it
        the error goes to standard error. Empty means that COMMAND was executed

Exit status, unless it is COMMAND's: 125 nothing was mounted, 126 COMMAND cannot be executed, 127 there is none;
with ``try`` 0 or 1, which standard error explains in a line.
The mount is in a mount namespace of this process alone and goes with its last process (but for ``stay``). Nothing
that is opened here is inheritable. mount_setattr(2), fsopen(2), user_namespaces(7), overlayfs.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

NOT_MOUNTED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
# The same numbers on every architecture.
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT, _SYS_MOUNT_SETATTR = *range(428, 433), 442
_SET_FLAG, _SET_STRING, _SET_FD, _CREATE = 0, 1, 5, 6  # fsconfig commands (linux/mount.h)
_CLOEXEC = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV, _ATTR_IDMAP = 1, 2, 4, 0x00100000
_MOVE_FROM_EMPTY, _MOVE_TO_EMPTY = 0x04, 0x40
_TREE_CLONE, _AT_EMPTY_PATH, _MNT_DETACH = 1, 0x1000, 2
_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _CAP_SYS_ADMIN, _SIGKILL = 1, 24, 21, 9
_SIGPIPE, _SIGXFSZ, _SIG_DFL = 13, 25, 0

# The whole upper format is then whiteouts, opaque directories and full copies: nothing in it points elsewhere.
# nofollow, not off: off means "follow" where redirect_always_follow is set, and userxattr refuses that (EINVAL).
# xino: with the layers on different file systems, a file keeps its device and inode number when it is copied up.
_OPTIONS = {"redirect_dir": "nofollow", "metacopy": "off", "index": "off", "xino": "auto"}

# statfs(2): file systems that cannot carry an upperdir.
_UNFIT = {0x794C7630: "overlayfs", 0x65735546: "FUSE", 0x6969: "NFS", 0x01021997: "9p", 0x4D44: "FAT"}

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


class Failed(Exception):
    """Why nothing was mounted: one line, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def main(argv: list[str]) -> int:
    """Do what the module says. Returns the exit status of a failure; does not return otherwise."""
    split = argv.index("--")
    options = dict(word.split("=", 1) for word in argv[:split])
    command = argv[split + 1 :]
    # Opened first: below, the path may be shadowed.
    status = os.open(options["status"], os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW) if "status" in options else None
    try:
        home = os.open("/proc/self/ns/mnt", os.O_RDONLY) if "stay" in options else None
        _isolate(options["mode"])
        _die_with(int(options["parent"]))
        if "base" in options:
            _mount_base(options)
        else:
            _mount(options, home)
        _leave_shadowed(options)
        if "try" in options:
            return _try(options)
        if options["mode"] == "userns" and os.geteuid() == 0:
            # execve(2) would give root all capabilities of the namespace again, and with them umount(2).
            _libc.prctl(_PR_CAPBSET_DROP, _CAP_SYS_ADMIN, 0, 0, 0)
    except Failed as failure:
        _tell(status, str(failure), failure.hint)
        return NOT_MOUNTED
    except OSError as error:
        _tell(status, f"{error.filename or 'mount'}: {error.strerror}")
        return NOT_MOUNTED
    for ignored in (_SIGPIPE, _SIGXFSZ):  # by Python's start; execve(2) would hand that on
        _libc.signal(ignored, ctypes.c_void_p(_SIG_DFL))
    try:
        os.execvpe(command[0], command, _own_environment())
    except OSError as error:
        _tell(status, f"cannot execute {command[0]!r}: {error.strerror}")
        return NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE


def _isolate(mode: str) -> None:
    uid, gid = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNS | (_CLONE_NEWUSER if mode == "userns" else 0)
    if _libc.unshare(flags):
        number = ctypes.get_errno()
        what = "user namespace" if mode == "userns" else "mount namespace"
        raise Failed(f"no {what} of our own (unshare: {os.strerror(number)})", _hint(mode, number))
    if mode == "userns":
        try:
            # Only ourselves, under our own ids: all that an unprivileged process may map (user_namespaces(7)).
            for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
                fd = os.open(f"/proc/self/{name}", os.O_WRONLY)
                try:
                    os.write(fd, text.encode())
                finally:
                    os.close(fd)
        except OSError as error:
            raise Failed(f"cannot map our own ids (/proc/self/{name}: {error.strerror})", _hint(mode, 1)) from error
    # Nothing that is mounted from here on may reach the namespace that we come from.
    if _libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None):
        raise Failed(f"cannot make the mounts private ({os.strerror(ctypes.get_errno())})", "is this a chroot?")


def _hint(mode: str, number: int) -> str:
    if mode != "userns":
        return "this needs CAP_SYS_ADMIN; in a container use --backend copy"
    if number == errno.ENOSPC:
        return "user namespaces are switched off: sysctl user.max_user_namespaces"
    return "seccomp or AppArmor forbids it: see sysctl kernel.apparmor_restrict_unprivileged_userns"


def _die_with(parent: int) -> None:
    # After unshare(CLONE_NEWUSER), which clears it as every change of credentials does (prctl(2)).
    if _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0) or os.getppid() != parent:
        raise Failed("the process that started this is gone")


def _mount(options: dict[str, str], home: int | None) -> None:
    # By descriptors: a path as an option eats \ : and , and ends at 255 bytes. Opened after unshare(2), since
    # overlayfs takes layers of its own mount namespace only.
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
    below = [os.open(options[f"below{n}"], flags) for n in range(sum(name.startswith("below") for name in options))]
    target = os.open(options["merged"], flags)
    if "image" in options:
        _put(options["image"], target)
    if "owner" in options:
        layers = _owned(options, target)
    else:
        layers = {name: os.open(options[name], flags) for name in ("lower", "upper", "work")}
    shadowed = os.open(options["at"], os.O_PATH | os.O_DIRECTORY) if "at" in options else None
    flag = ("userxattr",) if options["mode"] == "userns" else ()
    made = _new_mount(layers, below, flag)
    if made is None and ("owner" in options or "image" in options or home is not None):
        raise Failed("this kernel is too old for a container or a file system of its own", "use --sandbox bwrap")
    if home is not None:
        if _libc.setns(home, _CLONE_NEWNS):
            raise Failed(f"cannot return to the mount namespace (setns: {os.strerror(ctypes.get_errno())})")
        os.close(target)
        target = os.open(options["merged"], flags)
        os.close(home)
    else:
        for _ in range(2 * ("owner" in options) + ("image" in options)):  # what _owned and _put put there
            _libc.umount2(os.fsencode(options["merged"]), _MNT_DETACH)
    if made is None:
        made = _old_mount(layers, below, flag, target, options["merged"])
    elif _syscall(_SYS_MOVE_MOUNT, made, b"", target, b"", _MOVE_FROM_EMPTY | _MOVE_TO_EMPTY):
        raise Failed(f"cannot mount at {options['merged']!r}: {os.strerror(ctypes.get_errno())}")
    if shadowed is not None and _libc.mount(_fd(made), _fd(shadowed), None, ctypes.c_ulong(_MS_BIND), None):
        raise Failed(f"cannot mount over {options['at']!r}: {os.strerror(ctypes.get_errno())}")
    for fd in (*layers.values(), *below, target, made, *(() if shadowed is None else (shadowed,))):
        os.close(fd)


def _put(image: str, target: int) -> None:
    fd = os.open(image, os.O_PATH | os.O_DIRECTORY)
    if _syscall(_SYS_MOVE_MOUNT, fd, b"", target, b"", _MOVE_FROM_EMPTY | _MOVE_TO_EMPTY):
        raise Failed(f"cannot mount the file system of the upperdir (move_mount: {os.strerror(ctypes.get_errno())})")
    os.close(fd)


def _mount_base(options: dict[str, str]) -> None:
    target = os.open(options["merged"], os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    users = _exchange(os.geteuid(), int(options["owner"]))
    os.close(_mapped(options["lower"], users, target, _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV))
    os.close(users)
    os.close(target)


def _owned(options: dict[str, str], target: int) -> dict[str, int]:
    """The layers by way of idmapped mounts (mount_setattr(2)) that exchange our ids and the owner's.

    They are put on ``target``, one over the other, because overlayfs takes layers of its own namespace only; upperdir
    and workdir must be of one mount, so their parent is mapped.
    """
    parent = os.path.dirname(options["upper"])
    if parent != os.path.dirname(options["work"]):
        raise Failed("upperdir and workdir are not in one directory")
    users = _exchange(os.geteuid(), int(options["owner"]))
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
    layers = {}
    for source, names in ((parent, ("upper", "work")), (options["lower"], ("lower",))):
        tree = _mapped(source, users, target)
        for name in names:
            layers[name] = os.open(os.path.basename(options[name]) if name != "lower" else ".", flags, dir_fd=tree)
        os.close(tree)
    os.close(users)
    return layers


def _mapped(source: str, users: int, target: int, flags: int = 0) -> int:
    """Mount ``source`` at ``target`` with the ids of the user namespace ``users``; a descriptor of it."""
    tree = int(_syscall(_SYS_OPEN_TREE, -1, os.fsencode(source), _TREE_CLONE | os.O_CLOEXEC))
    # struct mount_attr: what is set, what is cleared, propagation, the user namespace
    attr = struct.pack("=QQQQ", _ATTR_IDMAP | flags, 0, 0, users)
    if (
        tree < 0
        or _syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attr, ctypes.c_size_t(len(attr)))
        or _syscall(_SYS_MOVE_MOUNT, tree, b"", target, b"", _MOVE_FROM_EMPTY | _MOVE_TO_EMPTY)
    ):
        raise Failed(
            f"cannot show the layer as another user's (mount_setattr: {os.strerror(ctypes.get_errno())})",
            "this needs Linux 5.19, and a state directory on ext4, xfs, btrfs or tmpfs; or use --sandbox bwrap",
        )
    return tree


def _exchange(ours: int, theirs: int) -> int:
    """A descriptor of a user namespace in which ``ours`` is ``theirs``, and the other way round.

    Not only one way: overlayfs makes its own entries as us, which no id of a one-way map would stand for.
    """
    ready, ready_in = os.pipe()
    done, done_in = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(done_in)
        os.write(ready_in, b"-" if _libc.unshare(_CLONE_NEWUSER) else b"+")
        os.read(done, 1)
        os._exit(0)
    os.close(ready_in)
    try:
        if os.read(ready, 1) != b"+":
            raise Failed("no user namespace to map ids by", _hint("userns", errno.ENOSPC))
        for name in ("uid_map", "gid_map"):
            fd = os.open(f"/proc/{child}/{name}", os.O_WRONLY)
            os.write(fd, f"{ours} {theirs} 1\n{theirs} {ours} 1\n".encode())
            os.close(fd)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
    finally:
        for fd in (ready, done, done_in):
            os.close(fd)
        os.waitpid(child, 0)


def _new_mount(layers: dict[str, int], below: list[int], flags: tuple[str, ...]) -> int | None:
    """Mount by fsopen(2), nowhere yet; a descriptor of the mount, or None where the kernel has no such call."""
    fs = _syscall(_SYS_FSOPEN, b"overlay", _CLOEXEC)
    if fs < 0:
        number = ctypes.get_errno()
        if number in (errno.ENOSYS, errno.EPERM):  # EPERM: also an old seccomp profile; mount(2) will tell
            return None
        raise Failed(f"no overlayfs (fsopen: {os.strerror(number)})", "modprobe overlay")
    try:
        for name in flags:
            _config(fs, _SET_FLAG, name, None, 0)
        for name, value in _OPTIONS.items():
            _config(fs, _SET_STRING, name, value.encode(), 0)
        names = {"lower": "lowerdir+", "upper": "upperdir", "work": "workdir"}
        # Linux 6.13 takes descriptors; before, a magic link has no letter that an option would eat.
        if _syscall(_SYS_FSCONFIG, fs, _SET_FD, b"lowerdir+", None, layers["lower"]) == 0:
            for fd in below:
                _config(fs, _SET_FD, "lowerdir+", None, fd)
            _config(fs, _SET_FD, "upperdir", None, layers["upper"])
            _config(fs, _SET_FD, "workdir", None, layers["work"])
        else:
            names["lower"] = "lowerdir"
            for name, fd in layers.items():
                _config(fs, _SET_STRING, names[name], _stacked(fd, below) if name == "lower" else _fd(fd), 0)
        if _syscall(_SYS_FSCONFIG, fs, _CREATE, None, None, 0):
            raise _refused(fs, ctypes.get_errno(), layers)
        mount = int(_syscall(_SYS_FSMOUNT, fs, _CLOEXEC, _ATTR_NOSUID | _ATTR_NODEV))
        if mount < 0:
            raise _refused(fs, ctypes.get_errno(), layers)
        return mount
    finally:
        os.close(fs)


def _config(fs: int, command: int, key: str, value: bytes | None, aux: int) -> None:
    if _syscall(_SYS_FSCONFIG, fs, command, key.encode(), value, aux):
        raise _refused(fs, ctypes.get_errno(), {})


def _refused(fs: int, number: int, layers: dict[str, int]) -> Failed:
    """The kernel's own words, which a read of the file system descriptor gives line by line."""
    said = []
    try:
        while True:
            said.append(os.read(fs, 4096).decode(errors="replace").partition(" ")[2].strip())
    except OSError:
        pass  # ENODATA: that was all
    text = "; ".join(word for word in said if word)
    return _explained(f"{os.strerror(number)}: {text}" if text else os.strerror(number), layers)


def _old_mount(layers: dict[str, int], below: list[int], flags: tuple[str, ...], target: int, merged: str) -> int:
    words = [*flags, *(f"{name}={value}" for name, value in _OPTIONS.items())]
    stacked = {name: _stacked(fd, below) if name == "lower" else _fd(fd) for name, fd in layers.items()}
    data = ",".join([*words, *(f"{name}dir={path.decode()}" for name, path in stacked.items())])
    mode = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV)
    if _libc.mount(b"overlay", _fd(target), b"overlay", mode, data.encode()):
        raise _explained(os.strerror(ctypes.get_errno()), layers)
    return os.open(merged, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)


def _explained(reason: str, layers: dict[str, int]) -> Failed:
    """With what the kernel says to its log only: the file systems and owners that it does not accept."""
    if "clone" in reason:  # in a user namespace a mount is locked to what is mounted on it (mount_namespaces(7))
        return Failed(f"overlayfs refuses the layer: {reason}", "is something mounted inside the workspace?")
    for name, fd in layers.items():
        st = os.fstat(fd)
        if st.st_gid != os.getegid() or st.st_uid != os.geteuid():
            hint = f"{name} is not of our own user and group: is a directory above it set-group-ID (chmod g-s)?"
            return Failed(f"overlayfs refuses the layer: {reason}", hint)
    if "upper" in layers:
        about = ctypes.create_string_buffer(256)  # struct statfs, which begins with the type
        if _libc.fstatfs(layers["upper"], about) == 0:
            kind = _UNFIT.get(ctypes.c_long.from_buffer(about).value)
            if kind:
                return Failed(f"overlayfs refuses an upperdir on {kind}: {reason}", "use --backend copy")
    return Failed(f"overlayfs refuses the layer: {reason}", "the kernel's log (dmesg) may say more")


def _fd(fd: int) -> bytes:
    return b"/proc/self/fd/%d" % fd


def _stacked(lower: int, below: list[int]) -> bytes:
    return b":".join(_fd(fd) for fd in (lower, *below))


def _leave_shadowed(options: dict[str, str]) -> None:
    # The working directory still is what the mount covers (the real workspace): go there again by name.
    try:
        os.chdir(os.getcwd())
    except OSError:
        os.chdir(options.get("at", options["merged"]))


def _try(options: dict[str, str]) -> int:
    """Copy-up, deletion and an opaque directory: without ``userxattr`` in a user namespace, or with a group that
    cannot be mapped, the mount succeeds and only these fail."""
    if os.geteuid() != 0 and _libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)):
        raise Failed(f"cannot drop the namespace's capabilities (capset: {os.strerror(ctypes.get_errno())})")
    try:
        os.chdir(options["merged"])
        with open("f", "a") as file:
            file.write("more")
        os.unlink("d/x")
        os.rmdir("d")
        os.mkdir("d")
        if os.listdir("d"):
            raise OSError(errno.ENOTEMPTY, "a directory that was made anew shows the old one's files", "d")
    except OSError as error:
        print(f"{error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _own_environment() -> dict[str, str]:
    """The environment as it was before Python coerced the C locale (PEP 538)."""
    environment = dict(os.environ)
    with open("/proc/self/environ", "rb") as f:
        given = f.read().split(b"\0")
    if not any(word.startswith(b"LC_CTYPE=") for word in given):
        environment.pop("LC_CTYPE", None)
    return environment


def _tell(status: int | None, error: str, hint: str = "") -> None:
    import json

    if status is None:
        print(f"enter: {error}" + (f"\nhint: {hint}" if hint else ""), file=sys.stderr)
    else:
        os.write(status, json.dumps({"error": error, "hint": hint}).encode() + b"\n")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
