"""What a workspace holds, before anything is copied: visible, hidden, skipped, and why. Reads only names and stats
(and the first bytes of a file whose rule is decided by content)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from overlayws.base.links import end_of, read_links
from overlayws.base.manifest import REPOSITORY, Hidden
from overlayws.beneath import GONE, open_beneath
from overlayws.filter.ignorefile import printable
from overlayws.filter.match import Filter, Scope
from overlayws.filter.secrets import BUILT_IN
from overlayws.filter.verdict import describe
from overlayws.source.entry import Kind, kind_of
from overlayws.source.walk import list_directory, walk

_REG, _DIR, _LNK = stat.S_IFREG >> 12, stat.S_IFDIR >> 12, stat.S_IFLNK >> 12
_HARD_LINK = "hard link of the hidden {}"
_SYMLINK = "symbolic link to the hidden {}"


Ready = Callable[[str, list[tuple[str, os.stat_result]]], None]
"""What is told of a directory: its path, and of all that is visible in it (or above it) path and lstat."""


@dataclass(slots=True)
class Survey:
    """The workspace, sorted into what is done with it. Paths are relative; parents come before children."""

    visible: list[tuple[str, os.stat_result]] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    skipped: list[tuple[str, Kind]] = field(default_factory=list)  # FIFOs, sockets, devices
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # directories, with the reason
    leaving: list[str] = field(default_factory=list)  # symlinks whose target is outside the workspace


def survey(
    root: int,
    workspace: Path,
    rules: Filter,
    progress: Callable[[int], None] = lambda n: None,
    redacts: Callable[[str], bool] = lambda path: False,
    also: Mapping[str, str] = MappingProxyType({}),
    ready: Ready | None = None,
) -> Survey:
    """Decide for every path below the descriptor ``root`` (of ``workspace``, whose name only says which absolute
    symlinks stay inside). Follows no symlink, opens no special file.

    ``redacts`` says which files are shown with their secrets replaced although a built-in rule names them. ``also``
    are paths that are hidden too, with the reason. ``ready`` is given what was found visible, a directory at a time:
    of that, links alone can still become hidden.
    """
    found = Survey()
    inodes: dict[str, os.stat_result] = {}  # of the hidden files
    # A hidden directory is kept only if something below it is (rule 19 of the corpus): it waits here until then.
    waiting: dict[str, tuple[os.stat_result, str]] = {}
    stack: list[tuple[str, Scope]] = [("", rules.top())]
    reader = Reader(root)
    while stack:
        parent, scope = stack.pop()
        try:
            names = list_directory(root, parent)
        except OSError as error:
            if not parent or error.errno not in GONE:  # gone meanwhile is not there, and nor is what was in it
                found.unreadable.append((parent, error.strerror or str(error)))
            continue
        progress(len(names))
        below: list[tuple[str, Scope]] = []
        prefix = f"{parent}/" if parent else ""
        child, show, before = scope.child, found.visible.append, len(found.visible)
        asked = set(scope.undecided([name for name, _ in names]))
        for name, st in names:
            path = prefix + name
            kind = st.st_mode >> 12  # a fourth of what kind_of costs: this is once for every file of a workspace
            if kind == _REG and name not in asked and not waiting and path not in also:  # nearly always
                show((path, st))
                continue
            if name[0] == "." and name.casefold() == ".git":
                found.hidden.append(Hidden(path, kind_of(st.st_mode), REPOSITORY))
                inodes[path] = st
                continue
            if kind == _REG:
                reader.path = path
                verdict, inner = child(name, False, reader)
            else:
                verdict, inner = child(name, kind == _DIR)
            if verdict.hidden:
                rule = verdict.rule
                if kind == _DIR and inner.searched:
                    waiting[path] = (st, describe(rule))
                    below.append((path, inner))
                    continue
                if kind != _REG or rule is None or rule.file != BUILT_IN or not redacts(path):
                    found.hidden.append(Hidden(path, kind_of(st.st_mode), describe(rule)))
                    inodes[path] = st
                    continue
            if path in also:
                found.hidden.append(Hidden(path, kind_of(st.st_mode), also[path]))
                inodes[path] = st
                continue
            if kind == _DIR:
                below.append((path, inner))
            elif kind != _REG and kind != _LNK:
                found.skipped.append((path, kind_of(st.st_mode)))
                continue
            if waiting:
                _show_parents(found, waiting, path)
            show((path, st))
        if ready is not None:
            ready(parent, found.visible[before:])
        stack.extend(reversed(below))
    found.hidden += [Hidden(path, Kind.DIRECTORY, rule) for path, (_, rule) in waiting.items()]
    _hide_hard_links(root, found, inodes)
    _hide_symlinks(root, workspace, found)
    found.hidden = topmost(found.hidden)
    return found


def hide_more(root: int, workspace: Path, found: Survey, hidden: list[Hidden]) -> set[str]:
    """Hide the files ``hidden`` (all names of each) of a survey that was made before they were judged, with every
    symlink to them; the paths that were visible until now."""
    before = dict(found.visible)
    leaving = list(found.leaving)
    paths = {h.path for h in hidden}
    found.hidden += hidden
    found.visible = [(path, st) for path, st in found.visible if path not in paths]
    _hide_symlinks(root, workspace, found)
    found.leaving = leaving
    found.hidden = topmost(found.hidden)
    return before.keys() - dict(found.visible).keys()


def topmost(hidden: list[Hidden]) -> list[Hidden]:
    """Sorted, without what lies below another hidden path."""
    kept: list[Hidden] = []
    paths: set[str] = set()
    for h in sorted(hidden, key=lambda h: h.path.split("/")):
        parts = h.path.split("/")
        if not any("/".join(parts[:n]) in paths for n in range(1, len(parts))):
            paths.add(h.path)
            kept.append(h)
    return kept


class Reader:
    """Reads the beginning of the file ``path``, for the rules that its content decides."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.path = ""

    def __call__(self, limit: int) -> bytes:
        """At most ``limit`` bytes. Raises OSError."""
        fd = open_beneath(self._root, self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(fd, limit)
        finally:
            os.close(fd)


def _show_parents(found: Survey, waiting: dict[str, tuple[os.stat_result, str]], path: str) -> None:
    parts = path.split("/")
    for n in range(1, len(parts)):
        above = "/".join(parts[:n])
        if above in waiting:
            found.visible.append((above, waiting.pop(above)[0]))


def _hide_hard_links(root: int, found: Survey, inodes: dict[str, os.stat_result]) -> None:
    """Another name of a hidden file holds its bytes: hide it too."""
    names: dict[tuple[int, int], int] = {}
    for _, st in found.visible:
        if st.st_nlink > 1 and stat.S_ISREG(st.st_mode):
            names[st.st_dev, st.st_ino] = names.get((st.st_dev, st.st_ino), 0) + 1
    if not names:
        return
    secret: dict[tuple[int, int], str] = {}
    for path, st in inodes.items():
        inside: Iterable[tuple[str, os.stat_result]] = [(path, st)]
        if stat.S_ISDIR(st.st_mode):
            try:
                inside = list(walk(root, path))
            except OSError:
                continue  # we cannot read it, so nobody we start can
        for name, below in inside:
            if stat.S_ISREG(below.st_mode) and below.st_nlink > 1:
                secret[below.st_dev, below.st_ino] = printable(name)
    _move_to_hidden(
        found, lambda path, st: _HARD_LINK.format(of) if (of := secret.get((st.st_dev, st.st_ino))) else None
    )


def _hide_symlinks(root: int, workspace: Path, found: Survey) -> None:
    """A link to a hidden path would dangle inside; it is hidden, so that its name tells nothing either."""
    links = [path for path, st in found.visible if st.st_mode >> 12 == _LNK]
    if not links:
        return
    hidden = {h.path for h in found.hidden}
    texts = read_links(root, links)
    why: dict[str, str] = {}
    for path in links:
        target = end_of(path, texts, hidden, workspace)
        if target is None:
            found.leaving.append(path)
        elif target in hidden:
            why[path] = _SYMLINK.format(printable(target))
    if why:
        _move_to_hidden(found, lambda path, st: why.get(path))


def _move_to_hidden(found: Survey, why: Callable[[str, os.stat_result], str | None]) -> None:
    kept = []
    for path, st in found.visible:
        reason = why(path, st) if not stat.S_ISDIR(st.st_mode) else None
        if reason is None:
            kept.append((path, st))
        else:
            found.hidden.append(Hidden(path, kind_of(st.st_mode), reason))
    found.visible = kept
