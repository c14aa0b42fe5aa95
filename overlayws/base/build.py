"""build_base: the sanitized lowerdir, a frozen copy of what the filter shows, and its manifest.

The workspace is only read, with O_NOATIME where the kernel lets us (open(2): the owner, or CAP_FOWNER). Files are
reflinked or copied, never hard-linked to the user's: an edit in place on either side must not reach the other. What
an older base of the same workspace already holds is hard-linked from there: no lowerdir is ever written.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from overlayws.base import fingerprint
from overlayws.base.contents import Scan, blocked, spared
from overlayws.base.files import Copied, user_xattrs
from overlayws.base.judge import Judge
from overlayws.base.link import Previous, link_files
from overlayws.base.making import Base, Making, told
from overlayws.base.manifest import Hidden, Stored, pack, signed
from overlayws.base.manifest_write import ManifestWriter
from overlayws.base.report import warnings
from overlayws.base.survey import Ready, Survey, hide_more, survey
from overlayws.beneath import GONE, open_directory, split
from overlayws.errors import UnableError
from overlayws.filter.contents import Inspector
from overlayws.filter.match import Filter
from overlayws.source.entry import Kind, Xattrs

_REGULAR, _DIRECTORY = stat.S_IFREG >> 12, stat.S_IFDIR >> 12  # asked for each path of a workspace, as in survey.py
Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many (0: not known)


class UnreadableError(UnableError):
    """The workspace holds what we may not read, and no rule hides it."""


def build_base(
    workspace: Path,
    directory: Path,
    rules: Filter,
    progress: Progress = lambda what, done, total: None,
    *,
    inspector: Inspector | None = None,
) -> Base:
    """Copy what ``rules`` show of ``workspace`` to ``directory/lower`` and write ``directory/manifest.db``.

    ``directory`` exists and is empty. With an ``inspector`` the contents of the files are judged too. Raises
    UnreadableError naming every path that cannot be read, BlockedError for a content that refuses the start,
    UnableError where the copy cannot be written (no space).
    """
    judge = Judge(rules, inspector)
    with opened(workspace) as root, Making(root, directory, judge) as new:
        found = surveyed(root, workspace, judge, progress, new.ready)
        return copy_base(root, workspace, found, None, new, judge, progress)


@contextmanager
def opened(workspace: Path) -> Iterator[int]:
    """A descriptor of the workspace. Raises UnableError where it cannot be opened."""
    try:
        root = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UnableError(f"cannot read the workspace {workspace}: {error.strerror}") from error
    try:
        yield root
    finally:
        os.close(root)


def surveyed(
    root: int,
    workspace: Path,
    judge: Judge,
    progress: Progress = lambda what, done, total: None,
    ready: Ready | None = None,
) -> Survey:
    """The survey of a workspace whose visible directories can all be read. Raises UnreadableError."""
    seen = 0

    def count(n: int) -> None:
        nonlocal seen
        seen += n
        progress("reading the workspace", seen, 0)

    found = survey(root, workspace, judge.rules, count, judge.redacts, judge.also, ready)
    if found.unreadable:
        raise unreadable(found.unreadable)
    return found


def copy_base(
    root: int,
    workspace: Path,
    found: Survey,
    mark: str | None,
    new: Making,
    judge: Judge,
    progress: Progress,
    *,
    previous: Previous | None = None,
    meta: Mapping[str, str] | None = None,
) -> Base:
    """As ``build_base``, for a survey that was made just now, and its fingerprint if that is known already; ``found``
    is brought up to date.

    Files that ``previous`` holds unchanged are linked. ``meta`` is noted in the manifest, with the ``fingerprint``.
    """
    base, target = new.base, new.target
    mode = os.fstat(root).st_mode
    with told(base.lowerdir.parent):
        fingerprint.wait_until_settled(max((st.st_ctime_ns for _, st in found.visible), default=0))
        clock = fingerprint.now_ns()
        rows, files = _make_directories(root, new, found, clock)
        with ManifestWriter(base.manifest) as manifest:
            copied, mark = _copy(new, found, mode, mark, files, rows, judge, clock, manifest, progress, previous)
            gone = _hide(root, workspace, found, copied) | (new.copying.offered - files.keys())
            _remove(target, gone)
            manifest.remove(map(os.fsencode, gone))
            _finish_directories(target, found)
            os.fchmod(target, stat.S_IMODE(mode) & 0o777 | 0o700)
            noted = {**(meta or {}), "fingerprint": mark}
            manifest.finish(found.hidden, found.skipped, copied.findings, noted)
    busy = [f"{path!r} was being written while it was copied" for path in copied.busy]
    return Base(base.lowerdir, base.manifest, (*judge.rules.warnings, *warnings(found, copied.findings), *busy))


def _copy(
    new: Making,
    found: Survey,
    mode: int,
    mark: str | None,
    files: dict[str, os.stat_result],
    rows: list[Stored],
    judge: Judge,
    clock: int,
    manifest: ManifestWriter,
    progress: Progress,
    previous: Previous | None,
) -> tuple[Copied, str]:
    """Copy or link ``files``; what became of them, and the fingerprint of it all. ``rows`` are of everything else,
    ``mode`` is the workspace's own."""
    linked, missing = Copied(), files
    if previous is not None:
        linked, missing = link_files(previous, new.target, files)
    mark = mark or fingerprint.of_survey(found, mode)
    as_surveyed = fingerprint.as_surveyed((st for _, st in found.visible if st.st_mode >> 12 != _REGULAR), rows)
    manifest.add(rows)
    manifest.add(linked.rows)

    def store(some: Mapping[str, os.stat_result], stored: list[Stored]) -> None:
        nonlocal as_surveyed
        manifest.add(stored)
        as_surveyed = as_surveyed and fingerprint.as_surveyed(some.values(), stored)

    copied = new.copying.finish(
        missing, clock=clock, scan=contents_scan(found, judge), store=store,
        progress=lambda done: progress("copying", done, len(missing)),
    )  # fmt: skip
    if copied.unreadable:
        raise unreadable(copied.unreadable)
    if copied.blocked:
        raise blocked(copied.blocked)
    copied.add(linked)
    copied.findings.sort(key=lambda f: (os.fsencode(f.path), f.line, f.rule))
    if not as_surveyed:
        known = {row[0]: row for row in (*rows, *copied.rows, *(row for row, _ in copied.hidden))}
        mark = fingerprint.of_rows(found, mode, known)
    return copied, mark


def contents_scan(found: Survey, judge: Judge) -> Scan | None:
    """How the contents of the visible files are judged; None if they are not."""
    if judge.inspector is None:
        return None
    names: dict[tuple[int, int], list[str]] = defaultdict(list)
    for path, st in found.visible:
        if st.st_nlink > 1 and st.st_mode >> 12 == _REGULAR:
            names[st.st_dev, st.st_ino].append(path)
    aliases = {path: tuple(paths) for paths in names.values() if len(paths) > 1 for path in paths}
    return Scan(judge.inspector, spared(judge.rules, (path for path, _ in found.visible)), aliases)


def _make_directories(
    root: int, new: Making, found: Survey, clock: int
) -> tuple[list[Stored], dict[str, os.stat_result]]:
    """Make the directories and symlinks; their rows, and the files that are left to copy."""
    rows: list[Stored] = []
    files: dict[str, os.stat_result] = {}
    parent: str | None = ""
    source, made = os.dup(root), os.dup(new.target)
    try:
        for path, st in found.visible:
            if st.st_mode >> 12 == _REGULAR:
                files[path] = st
                continue
            above, name = split(path)
            try:
                if above != parent:
                    for fd in (source, made):
                        if fd >= 0:
                            os.close(fd)
                    parent, source, made = None, -1, -1
                    source = open_directory(root, above)
                    made = open_directory(new.target, above)
                    parent = above
                rows.append(_make(path, name, st, source, made, clock, there=path in new.made))
            except PermissionError as error:
                raise unreadable([(path, error.strerror or str(error))]) from None
            except OSError as error:
                if error.errno not in (*GONE, errno.EINVAL):  # readlink(2) of what is no link
                    raise
                if path in new.made:
                    rows.append(_row(path, st, clock))
                # Any other is not there, and nor is what was in it.
    finally:
        for fd in (source, made):
            if fd >= 0:
                os.close(fd)
    return rows, files


def _make(path: str, name: str, st: os.stat_result, source: int, made: int, clock: int, *, there: bool) -> Stored:
    link: str | None = None
    xattrs: Xattrs = ()
    if stat.S_ISLNK(st.st_mode):
        link = os.readlink(name, dir_fd=source)
        os.symlink(link, name, dir_fd=made)
        os.utime(name, ns=(st.st_atime_ns, st.st_mtime_ns), dir_fd=made, follow_symlinks=False)
    else:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=source)
        try:
            xattrs = user_xattrs(fd)
        finally:
            os.close(fd)
        if not there:
            os.mkdir(name, 0o700, dir_fd=made)
        if xattrs:
            fd = os.open(name, flags, dir_fd=made)
            try:
                for attribute, value in xattrs:
                    os.setxattr(fd, attribute, value)
            finally:
                os.close(fd)
    return _row(path, st, clock, link, xattrs)


def _row(path: str, st: os.stat_result, clock: int, link: str | None = None, xattrs: Xattrs = ()) -> Stored:
    ctime = st.st_ctime_ns if fingerprint.settled(st.st_ctime_ns, clock) else 0
    kind, mode = (Kind.DIRECTORY, st.st_mode & 0o777) if link is None else (Kind.SYMLINK, 0o777)
    return (
        os.fsencode(path), kind.value, mode, st.st_size, None if link is None else os.fsencode(link), pack(xattrs),
        signed(st.st_dev), signed(st.st_ino), st.st_mtime_ns, ctime, None, None,
    )  # fmt: skip


def _finish_directories(target: int, found: Survey) -> None:
    """Modes and times, children first: making them changes the mtime, and a mode may forbid it."""
    for path, st in reversed(found.visible):
        if st.st_mode >> 12 == _DIRECTORY:
            try:
                fd = open_directory(target, path)
            except FileNotFoundError:
                continue
            try:
                os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
                os.fchmod(fd, st.st_mode & 0o777)
            finally:
                os.close(fd)


def _hide(root: int, workspace: Path, found: Survey, copied: Copied) -> set[str]:
    """Take what the content scan hides out of the survey, and what leads to it; what was visible until now."""
    if not copied.hidden:
        return set()
    hidden = [Hidden(os.fsdecode(row[0]), Kind.FILE, rule) for row, rule in copied.hidden]
    return hide_more(root, workspace, found, hidden)


def _remove(target: int, gone: set[str]) -> None:
    """Take files out of the copy, if they are in it."""
    for path in gone:
        above, name = split(path)
        fd = open_directory(target, above)
        try:
            os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            pass
        finally:
            os.close(fd)


def unreadable(paths: list[tuple[str, str]]) -> UnreadableError:
    """The refusal of a start, naming every path that cannot be read."""
    names = ", ".join(repr(path or ".") for path, _ in paths)
    return UnreadableError(
        f"cannot read {len(paths)} of the workspace's paths ({paths[0][1]}): {names}",
        hint="make them readable, or keep them from the program: --hide PATTERN",
    )
