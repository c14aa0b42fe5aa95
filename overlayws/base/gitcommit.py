"""commit_files: the first commit of a repository, with its index, made without asking git about each file.

The formats are gitformat-index(5), version 2, and those of trees and commits (git's documentation, "Git Objects").
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from itertools import groupby
from pathlib import Path

from overlayws.base.packs import BLOB, COMMIT, TREE, Packs
from overlayws.beneath import open_directory, open_quietly

# Names that git refuses, or may by its settings for other systems (core.protectHFS, core.protectNTFS), and the ones it
# takes for files only: it is asked about these. Letters that HFS+ ignores can be in the middle of a name.
_ODD = re.compile(rb"(?i)(?:\A|/)(?:\.git(?:[^a-z]|mod|\Z)|git~|gitmod~|gi7)|\\|\xe2\x80|\xe2\x81|\xef\xbb\xbf")


@dataclass(frozen=True, slots=True)
class _Entry:
    path: bytes
    mode: int
    name: bytes  # of the object
    st: os.stat_result


def ordinary(paths: Iterable[bytes]) -> bool:
    """Whether ``commit_files`` can make what git would: nothing here has a name that git looks at closer."""
    return _ODD.search(b"/".join(paths)) is None


def commit_files(root: int, repository: Path, paths: Sequence[bytes], author: str, message: str) -> str:
    """Write packs and index below ``repository`` with one commit of the files and links ``paths`` below ``root``; its
    name in hex. Raises OSError."""
    directory = repository / "objects/pack"
    directory.mkdir(mode=0o755, exist_ok=True)
    packs = Packs(directory)
    entries = _entries(root, sorted(paths), packs)
    packs.finish()  # what follows is no content: a later base that drops contents drops a pack of these as it is
    made = Packs(directory)
    tree = _trees(entries, made)
    now = f"{author} {int(time.time())} +0000"
    text = f"tree {tree.hex()}\nauthor {now}\ncommitter {now}\n\n{message}\n"
    commit = made.add(COMMIT, text.encode())
    made.finish()
    (repository / "index").write_bytes(_index(entries))
    return commit.hex()


def _entries(root: int, paths: Sequence[bytes], packs: Packs) -> list[_Entry]:
    found = []
    for parent, group in groupby(paths, key=lambda path: path.rpartition(b"/")[0]):
        directory = open_directory(root, os.fsdecode(parent))
        try:
            for path in group:
                name = os.fsdecode(path.rpartition(b"/")[2])
                st = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISLNK(st.st_mode):
                    target = os.readlink(os.fsencode(name), dir_fd=directory)
                    found.append(_Entry(path, 0o120000, packs.add(BLOB, target), st))
                    continue
                fd = open_quietly(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, directory)
                try:
                    mode = 0o100755 if st.st_mode & 0o100 else 0o100644
                    found.append(_Entry(path, mode, packs.add_file(fd, st.st_size), st))
                finally:
                    os.close(fd)
        finally:
            os.close(directory)
    return found


def _trees(entries: Sequence[_Entry], packs: Packs) -> bytes:
    """The name of the tree of all ``entries``, which are sorted."""
    # Each directory on the way down: its entries so far. git sorts a directory as if its name ended in a slash, and
    # so do the paths of what is in it.
    open_: list[tuple[bytes, list[bytes]]] = [(b"", [])]

    def close() -> None:
        path, lines = open_.pop()
        tree = packs.add(TREE, b"".join(lines))
        open_[-1][1].append(b"40000 %b\0%b" % (path.rpartition(b"/")[2], tree))

    for entry in entries:
        above, _, name = entry.path.rpartition(b"/")
        while open_[-1][0] and not (above + b"/").startswith(open_[-1][0] + b"/"):
            close()
        here = open_[-1][0]
        for part in above[len(here) :].split(b"/") if above != here else ():
            if part:
                here = here + b"/" + part if here else part
                open_.append((here, []))
        open_[-1][1].append(b"%o %b\0%b" % (entry.mode, name, entry.name))
    while len(open_) > 1:
        close()
    return packs.add(TREE, b"".join(open_[0][1]))


def _index(entries: Sequence[_Entry]) -> bytes:
    parts = [b"DIRC", (2).to_bytes(4), len(entries).to_bytes(4)]
    for entry in entries:
        st = entry.st
        numbers = (
            *divmod(st.st_ctime_ns, 1_000_000_000), *divmod(st.st_mtime_ns, 1_000_000_000),
            st.st_dev, st.st_ino, entry.mode, st.st_uid, st.st_gid, st.st_size,
        )  # fmt: skip
        parts += [(number & 0xFFFFFFFF).to_bytes(4) for number in numbers]
        parts += [entry.name, min(len(entry.path), 0xFFF).to_bytes(2), entry.path]
        parts.append(b"\0" * (8 - (62 + len(entry.path)) % 8))
    data = b"".join(parts)
    return data + sha1(data).digest()
