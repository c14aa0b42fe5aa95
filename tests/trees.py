"""A tree is a dict: ``make_tree(root, {"src/app.py": "x\\n", "link": Symlink("src")})``, ``read_tree(root) == {…}``.

``str`` and ``bytes`` are files of mode 0644; ``File`` gives a mode and xattrs; ``Dir`` a directory of its own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class File:
    content: bytes
    mode: int = 0o644
    xattrs: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Dir:
    mode: int = 0o755
    xattrs: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Symlink:
    target: str


@dataclass(frozen=True)
class Special:
    kind: str  # fifo, socket, char, block


Node = str | bytes | File | Dir | Symlink | Special
Tree = dict[str, File | Dir | Symlink | Special]


def make_tree(root: Path, tree: Mapping[str, Node]) -> Path:
    """Make the tree below ``root`` (created if missing); parents are made with mode 0755. Returns ``root``."""
    _make_directory(root)
    modes: dict[Path, int] = {}  # given last: a directory that may not be written takes nothing from an ordinary user
    for path, node in tree.items():
        where = root / path
        _make_directory(where.parent)
        if isinstance(node, str):
            node = File(node.encode("utf-8", "surrogateescape"))
        elif isinstance(node, bytes):
            node = File(node)
        if isinstance(node, File):
            where.write_bytes(node.content)
            os.chmod(where, node.mode)
        elif isinstance(node, Dir):
            _make_directory(where)
            modes[where] = node.mode
        elif isinstance(node, Symlink):
            os.symlink(node.target, where)
        elif node.kind == "fifo":
            os.mkfifo(where)
        elif node.kind == "socket":
            os.mknod(where, stat.S_IFSOCK | 0o644)  # not by bind(2): a path of that ends at 107 bytes
        for name, value in getattr(node, "xattrs", ()):
            os.setxattr(where, name, value, follow_symlinks=False)
    for where in reversed(modes):
        os.chmod(where, modes[where])
    return root


def _make_directory(path: Path) -> None:
    if not path.is_dir():
        _make_directory(path.parent)
        path.mkdir()
        os.chmod(path, 0o755)


def read_tree(root: Path, *, skip: tuple[str, ...] = ()) -> Tree:
    """What is below ``root``, directories included; top-level names in ``skip`` are left out."""
    found: Tree = {}
    stack = [""]
    while stack:
        parent = stack.pop()
        for entry in os.scandir(os.path.join(root, parent)):
            path = f"{parent}/{entry.name}" if parent else entry.name
            if path in skip:
                continue
            found[path] = _read(entry.path)
            if entry.is_dir(follow_symlinks=False):
                stack.append(path)
    return found


def _read(path: str) -> File | Dir | Symlink | Special:
    st = os.lstat(path)
    mode = stat.S_IMODE(st.st_mode)
    if stat.S_ISLNK(st.st_mode):
        return Symlink(os.readlink(path))
    if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode):
        names = sorted(n for n in os.listxattr(path, follow_symlinks=False) if n.startswith("user."))
        xattrs = tuple((n, os.getxattr(path, n, follow_symlinks=False)) for n in names)
        if stat.S_ISDIR(st.st_mode):
            return Dir(mode, xattrs)
        with open(path, "rb") as f:
            return File(f.read(), mode, xattrs)
    kinds = {stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "char", stat.S_IFBLK: "block"}
    return Special(kinds[stat.S_IFMT(st.st_mode)])


def stamps(root: Path) -> dict[str, tuple[int, ...]]:
    """ino, mode, size, mtime and ctime of everything below ``root`` and of ``root``: equal means untouched."""
    found: dict[str, tuple[int, ...]] = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files, "."]:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            found[path] = (st.st_ino, st.st_mode, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
    return found
