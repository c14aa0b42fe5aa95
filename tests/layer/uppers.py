"""Read an upperdir in the test's own way: what it says at each path, and what lowerdir and upperdir show together."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path

Upper = dict[str, object]


@contextmanager
def readable(path: Path):
    """A path that may be mode 000, readable for a moment."""
    st = os.lstat(path)
    closed = not stat.S_ISLNK(st.st_mode) and os.geteuid() and st.st_mode & 0o400 == 0
    if closed:
        os.chmod(path, stat.S_IMODE(st.st_mode) | 0o700)
    try:
        yield st
    finally:
        if closed:
            os.chmod(path, stat.S_IMODE(st.st_mode))


def _mark(path: Path, prefix: str, name: str) -> bytes | None:
    try:
        return os.getxattr(path, prefix + name, follow_symlinks=False)
    except OSError:
        return None


def attributes(path: Path, prefix: str) -> dict[str, bytes]:
    """The program's own attributes, by the names that the program used."""
    found = {}
    for name in os.listxattr(path, follow_symlinks=False):
        value = os.getxattr(path, name, follow_symlinks=False)
        if name.startswith(prefix + "overlay."):
            name = prefix + name[len(prefix) + 8 :]
        elif name.startswith(prefix):
            continue
        if name.startswith("user."):
            found[name] = value
    return found


def upper_tree(root: Path, prefix: str, top: str = "") -> Upper:
    """path -> "whiteout", ("dir", mode, attributes, opaque), ("file", mode, attributes, bytes), ("link", target)
    or ("special", format)."""
    found: Upper = {}
    directory = root / top
    with readable(directory):
        xwhiteouts = _mark(directory, prefix, "opaque") == b"x"
        for name in os.listdir(directory):
            path = directory / name
            key = f"{top}/{name}" if top else name
            with readable(path) as st:
                found[key] = _one(path, st, prefix, xwhiteouts)
                if stat.S_ISDIR(st.st_mode):
                    found.update(upper_tree(root, prefix, key))
    return found


def _one(path: Path, st: os.stat_result, prefix: str, xwhiteouts: bool) -> object:
    mode = stat.S_IMODE(st.st_mode)
    if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
        return "whiteout"
    if stat.S_ISLNK(st.st_mode):
        return ("link", os.readlink(path))
    if stat.S_ISDIR(st.st_mode):
        return ("dir", mode, attributes(path, prefix), _mark(path, prefix, "opaque") == b"y")
    if stat.S_ISREG(st.st_mode):
        if xwhiteouts and _mark(path, prefix, "whiteout") is not None:
            return "whiteout"
        if (device := _mark(path, prefix, "special")) is not None:
            return ("special", device.decode())
        return ("file", mode, attributes(path, prefix), path.read_bytes())
    return ("special", stat.filemode(st.st_mode)[0])


def plain_tree(root: Path) -> Upper:
    """The same of a directory without marks."""
    return upper_tree(root, "no such prefix.")


def shown_together(lower: Upper, upper: Upper) -> Upper:
    """What a mount of the two shows."""
    shown = dict(lower)
    for path in sorted(upper, key=lambda p: p.count("/")):
        said = upper[path]
        hides = said == "whiteout" or said[0] != "dir" or said[3] or shown.get(path, ("",))[0] != "dir"
        if hides:
            for below in [p for p in shown if p == path or p.startswith(path + "/")]:
                if below not in upper or below == path:
                    del shown[below]
        if said != "whiteout":
            shown[path] = (*said[:3], False) if said[0] == "dir" else said
    return shown
