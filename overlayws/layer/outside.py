"""The same layer for a container, whose engine is no child of ours and cannot enter our mount namespace.

As root the overlay is mounted at ``merged`` in the caller's own namespace, only until the container has started: the
container holds a mount of its own then, which goes with it. What we own is shown as the program's (an idmapped mount),
so that the program needs no uid of ours. Without root the engine itself mounts: ``volume`` is what to tell it.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from overlayws.layer.mount import Mount, MountError, check_entered, shown

_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_libc = ctypes.CDLL(None, use_errno=True)


def owned(mount: Mount, owner: int) -> Mount:
    """The mount with ``owner`` in the place of root, for a program that runs as it and not as root."""
    if mount.mode != "kernel":
        raise MountError(
            f"{shown(mount.merged)} cannot be shown to another user by this backend", hint="use --backend kernel"
        )
    if mount.layer is not None and mount.layer.below:
        # Only root's own files are shown as the program's, and a workspace may be anybody's.
        raise MountError("a live base cannot be shown to another user", hint="use --base copy, or not as root")
    return replace(mount, enter=(*mount.enter[:-1], f"owner={owner}", "--"))


def base_shown(mount: Mount, owner: int) -> Mount:
    """A mount whose ``merged`` is the lowerdir alone, read-only, with ``owner`` in the place of root."""
    mount = owned(mount, owner)
    return replace(mount, enter=(*mount.enter[:-1], "base=only", "--"))


@contextmanager
def staying(mount: Mount, owner: int) -> Iterator[None]:
    """The mount, made where every process of this namespace sees it (see ``owned``). Raises MountError."""
    mount = owned(mount, owner)
    drop(mount.merged)
    try:
        command = [*mount.enter[:-1], "stay=yes", "--", "/bin/true"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        check_entered(mount)
        if done.returncode:
            raise MountError(f"cannot mount {shown(mount.merged)}: status {done.returncode}")
        yield
    finally:
        drop(mount.merged)


def drop(merged: Path) -> None:
    """Take away whatever is mounted at ``merged`` in this namespace; containers that have it keep theirs."""
    while _is_mounted(merged):
        if _libc.umount2(os.fsencode(merged), _MNT_DETACH | _UMOUNT_NOFOLLOW):
            reason = os.strerror(ctypes.get_errno())
            raise MountError(f"cannot unmount {shown(merged)}: {reason}", hint=f"umount {shown(merged)}")


def _is_mounted(merged: Path) -> bool:
    with open("/proc/self/mountinfo", "rb") as file:
        wanted = os.fsencode(os.path.realpath(merged.parent) + "/" + merged.name)
        for code, character in ((b"\\", b"\\134"), (b" ", b"\\040"), (b"\t", b"\\011"), (b"\n", b"\\012")):
            wanted = wanted.replace(code, character)
        return any(line.split(b" ")[4] == wanted for line in file)


def volume(mount: Mount) -> dict[str, str]:
    """Options of an engine's ``local`` volume that is this mount (mount(8), overlayfs.rst). Raises MountError."""
    if mount.layer is None:
        raise MountError(f"{shown(mount.merged)} is no mount")
    layer = mount.layer
    lower = (layer.lowerdir, *layer.below)
    for path in (*lower, layer.upperdir, layer.workdir):
        if set(os.fspath(path)) & set(",:\\\"'\n\t"):
            raise MountError(
                f"an engine cannot mount {shown(path)}: it takes no , : \\ or quote in a path",
                hint="set OVERLAYWS_HOME to a directory with a plain name",
            )
    words = [f"lowerdir={':'.join(map(os.fspath, lower))}", f"upperdir={layer.upperdir}", f"workdir={layer.workdir}"]
    words += ["redirect_dir=nofollow", "metacopy=off", "index=off", "nosuid", "nodev"]
    if mount.mode == "userns":
        words.append("userxattr")
    return {"type": "overlay", "device": "overlay", "o": ",".join(words)}
