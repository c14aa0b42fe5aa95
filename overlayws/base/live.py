"""look: what a workspace holds that ``--base live`` is put over. Names only; hardly a stat is read.

The names, kinds and inode numbers of a directory come from one getdents(2); a rule that wants a file's content reads
it. So this costs a small part of a survey (base/survey.py), and of a copy nothing at all.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from overlayws.base.judge import Judge
from overlayws.base.links import end_of, read_links
from overlayws.base.manifest import REPOSITORY, Hidden
from overlayws.base.survey import Reader, topmost
from overlayws.beneath import open_directory, split
from overlayws.filter.ignorefile import printable
from overlayws.filter.match import Scope
from overlayws.filter.secrets import BUILT_IN
from overlayws.filter.verdict import describe
from overlayws.source.entry import Kind, kind_of
from overlayws.source.walk import walk

FILE, DIRECTORY, SYMLINK = "f", "d", "l"
_ANOTHER_NAME = {FILE: "hard link of a hidden file", DIRECTORY: "another name of a hidden directory"}
KINDS = {FILE: Kind.FILE, DIRECTORY: Kind.DIRECTORY, SYMLINK: Kind.SYMLINK}

# statfs(2): where getdents(2) tells the inode numbers that stat(2) tells. Elsewhere (overlayfs, FUSE) each is
# asked for.
_HONEST = {0xEF53: "ext4", 0x9123683E: "btrfs", 0x58465342: "xfs", 0x01021994: "tmpfs", 0xF2F52010: "f2fs"}


@dataclass(frozen=True, slots=True)
class Names:
    """What one directory showed: its mode, and of each visible name the kind and the inode number."""

    path: str
    mode: int
    names: dict[str, tuple[str, int]]


@dataclass(slots=True)
class Found:
    """A workspace as it was looked at. ``redacted`` are shown with their secrets replaced."""

    directories: list[Names] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    skipped: list[tuple[str, Kind]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    leaving: list[str] = field(default_factory=list)
    redacted: list[str] = field(default_factory=list)
    # Of hidden and redacted files, and hidden directories: whatever name they have or get, their bytes are not for the
    # program.
    inodes: dict[tuple[int, int], int] = field(default_factory=dict)  # (device, inode) -> mtime_ns

    def files(self) -> Iterator[str]:
        """The visible regular files, redacted ones included."""
        hidden = {h.path for h in self.hidden}
        for directory in self.directories:
            prefix = f"{directory.path}/" if directory.path else ""
            for name, (kind, _) in directory.names.items():
                if kind == FILE and prefix + name not in hidden:
                    yield prefix + name

    def count(self) -> int:
        """How many visible files and links there are."""
        listed = {directory.path: directory.names for directory in self.directories}
        total = sum(1 for names in listed.values() for kind, _ in names.values() if kind != DIRECTORY)
        late = [split(h.path) for h in self.hidden if h.kind is not Kind.DIRECTORY]
        return total - sum(1 for above, name in late if name in listed.get(above, ()))


def look(
    root: int,
    workspace: Path,
    judge: Judge,
    top: str = "",
    *,
    inodes: Mapping[tuple[int, int], int] = MappingProxyType({}),
    entering: Callable[[str, int], None] = lambda path, fd: None,
    progress: Callable[[int], None] = lambda n: None,
) -> Found:
    """Decide for every path below ``top`` of the workspace behind the descriptor ``root``, as ``survey`` does.

    ``inodes`` are of files that were hidden before: a file that got another name is hidden under it too.
    ``entering`` is called with the path and a descriptor of each directory before its names are read.
    """
    found = Found(inodes=dict(inodes))
    scope = judge.rules.top()
    for name in top.split("/") if top else ():
        _, scope = scope.child(name, True)
    looking = _Looking(root, judge, found, entering)
    stack = [(top, scope)]
    while stack:
        path, scope = stack.pop()
        try:
            fd = open_directory(root, path)
        except OSError as error:
            found.unreadable.append((path, error.strerror or str(error)))
            continue
        try:
            below = looking.directory(path, fd, scope)
        except OSError as error:
            found.unreadable.append((path, error.strerror or str(error)))
            continue
        finally:
            os.close(fd)
        progress(len(found.directories[-1].names))
        stack.extend(reversed(below))
    found.hidden += [Hidden(path, Kind.DIRECTORY, rule) for path, rule in looking.waiting.items()]
    found.hidden = topmost(found.hidden)
    _hide_hard_links(root, found)
    finish(root, workspace, found)
    return found


def look_one(root: int, judge: Judge, path: str, inodes: Mapping[tuple[int, int], int]) -> Found:
    """As ``look``, for the one name ``path`` and not for what is below it, nor for what a link leads to."""
    found = Found(inodes=dict(inodes))
    above, name = split(path)
    scope = judge.rules.top()
    for component in above.split("/") if above else ():
        _, scope = scope.child(component, True)
    try:
        fd = open_directory(root, above)
    except OSError:
        return found  # gone again
    try:
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        kind = next((letter for letter, kind in KINDS.items() if kind is kind_of(st.st_mode)), "")
        known = found.inodes.get((st.st_dev, st.st_ino)) == st.st_mtime_ns and kind in _ANOTHER_NAME
        if _Looking(root, judge, found, lambda path, fd: None).one(path, name, kind, fd, scope, []):
            found.directories.append(Names(above, 0, {name: (kind, st.st_ino)}))
            if known and path not in found.redacted:
                found.hidden.append(Hidden(path, KINDS[kind], _ANOTHER_NAME[kind]))
    except FileNotFoundError:
        return found
    finally:
        os.close(fd)
    return found


def finish(root: int, workspace: Path, found: Found) -> None:
    """Hide the symlinks to what is hidden, and leave out what lies below another hidden path."""
    _hide_symlinks(root, workspace, found)
    found.hidden = topmost(found.hidden)


class _Looking:
    def __init__(self, root: int, judge: Judge, found: Found, entering: Callable[[str, int], None]) -> None:
        self._judge, self._found, self._entering = judge, found, entering
        self._reader = Reader(root)
        self._honest = file_system(root) in _HONEST
        # A hidden directory is kept only if something below it is: it waits here until then (see survey).
        self.waiting: dict[str, str] = {}

    def directory(self, path: str, fd: int, scope: Scope) -> list[tuple[str, Scope]]:
        found, judge = self._found, self._judge
        self._entering(path, fd)
        # Once for every file of a workspace: a name that no rule can concern costs nothing but this.
        with os.scandir(fd) as entries:
            if self._honest:
                listed = {e.name: (FILE if e.is_file(follow_symlinks=False) else _kind(e), e.inode()) for e in entries}
            else:
                listed = {e.name: (_kind(e), e.stat(follow_symlinks=False).st_ino) for e in entries}
        found.directories.append(Names(path, os.fstat(fd).st_mode, listed))
        prefix = f"{path}/" if path else ""
        asked = set(listed) if judge.also else {*scope.undecided(listed), *judge.redactable(listed)}
        asked.update([name for name, (kind, _) in listed.items() if kind != FILE])
        below: list[tuple[str, Scope]] = []
        for name in sorted(asked):
            if not self.one(prefix + name, name, listed[name][0], fd, scope, below):
                del listed[name]
        if self.waiting and listed:
            self._show_parents(path, listed, below)
        return below

    def one(self, path: str, name: str, kind: str, fd: int, scope: Scope, below: list[tuple[str, Scope]]) -> bool:
        """Decide for one name; whether it is visible. A directory to go on with is added to ``below``."""
        found, judge = self._found, self._judge
        if name[0] == "." and name.casefold() == ".git":
            self._hide(path, name, fd, REPOSITORY)
            return False
        if kind == FILE:
            self._reader.path = path
            verdict, inner = scope.child(name, False, self._reader)
        else:
            verdict, inner = scope.child(name, kind == DIRECTORY)
        rule = verdict.rule
        if verdict.hidden and kind == DIRECTORY and inner.searched:
            self.waiting[path] = describe(rule)
        elif verdict.hidden and not (
            kind == FILE and rule is not None and rule.file == BUILT_IN and judge.redacts(path)
        ):
            self._hide(path, name, fd, describe(rule))
            return False
        elif path in judge.also:
            self._hide(path, name, fd, judge.also[path])
            return False
        elif not kind:
            found.skipped.append((path, kind_of(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)))
            return False
        if kind == DIRECTORY:
            below.append((path, inner))
        elif kind == FILE and judge.redacts(path):
            found.redacted.append(path)
            self._note(name, fd)
        return True

    def _hide(self, path: str, name: str, fd: int, rule: str) -> None:
        st = self._note(name, fd)
        if st is not None:
            self._found.hidden.append(Hidden(path, kind_of(st.st_mode), rule))

    def _note(self, name: str, fd: int) -> os.stat_result | None:
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if stat.S_ISREG(st.st_mode):
            self._found.inodes[st.st_dev, st.st_ino] = st.st_mtime_ns
        return st

    def _show_parents(self, path: str, listed: dict[str, tuple[str, int]], below: list[tuple[str, Scope]]) -> None:
        # Directories that wait themselves do not show what is above them.
        prefix = f"{path}/" if path else ""
        if all(prefix + name in self.waiting for name in listed):
            return
        parts = path.split("/")
        for n in range(1, len(parts) + 1):
            self.waiting.pop("/".join(parts[:n]), None)


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_file(follow_symlinks=False):
        return FILE
    if entry.is_dir(follow_symlinks=False):
        return DIRECTORY
    return SYMLINK if entry.is_symlink() else ""


def file_system(fd: int) -> int:
    """The type of the file system that ``fd`` is on (statfs(2)), or 0."""
    about = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None).fstatfs(fd, about):
        return 0
    return ctypes.c_long.from_buffer(about).value


def _hide_hard_links(root: int, found: Found) -> None:
    """Another name of a hidden or redacted file holds its bytes: hide it too. Also those below hidden directories, and
    what hidden directories themselves are called by now."""
    for hidden in found.hidden:
        if hidden.kind is Kind.DIRECTORY:
            found.inodes |= _inodes_below(root, hidden.path)
    numbers = {ino for _, ino in found.inodes}
    if not numbers:
        return
    redacted = set(found.redacted)
    known = {h.path for h in found.hidden}
    for directory in found.directories:
        prefix = f"{directory.path}/" if directory.path else ""
        for name, (kind, ino) in directory.names.items():
            if ino in numbers and kind in _ANOTHER_NAME and prefix + name not in redacted:
                st = lstat(root, prefix + name)
                if (
                    st is not None
                    and prefix + name not in known
                    and found.inodes.get((st.st_dev, st.st_ino)) == st.st_mtime_ns
                ):
                    found.hidden.append(Hidden(prefix + name, KINDS[kind], _ANOTHER_NAME[kind]))


def _inodes_below(root: int, top: str) -> dict[tuple[int, int], int]:
    """Those of a hidden directory and of all that is below it: with one name now, it can have another later."""
    found = {}
    st = lstat(root, top)
    if st is not None:
        found[st.st_dev, st.st_ino] = st.st_mtime_ns
    with suppress(OSError):  # what we cannot read, nobody that we start can
        for _, st in walk(root, top):
            if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode):
                found[st.st_dev, st.st_ino] = st.st_mtime_ns
    return found


def _hide_symlinks(root: int, workspace: Path, found: Found) -> None:
    """A link to a hidden path dangles inside; it is hidden, so that its name tells nothing either."""
    hidden = {h.path for h in found.hidden}
    found.leaving.clear()
    links = []
    for directory in found.directories:
        prefix = f"{directory.path}/" if directory.path else ""
        links += [prefix + name for name, (kind, _) in directory.names.items() if kind == SYMLINK]
    links = [path for path in links if path not in hidden]
    texts = read_links(root, links)
    for path in links:
        target = end_of(path, texts, hidden, workspace)
        if target is None:
            found.leaving.append(path)
        elif target in hidden:
            rule = f"symbolic link to the hidden {printable(target)}"
            found.hidden.append(Hidden(path, Kind.SYMLINK, rule))


def lstat(root: int, path: str) -> os.stat_result | None:
    """What is at ``path`` below ``root``, or None."""
    above, name = split(path)
    try:
        fd = open_directory(root, above)
        try:
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)
    except OSError:
        return None
