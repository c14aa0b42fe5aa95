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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from overlayws.base import fingerprint
from overlayws.base.contents import Scan, blocked, spared
from overlayws.base.files import Copied, user_xattrs
from overlayws.base.judge import Judge
from overlayws.base.link import Previous, link_files
from overlayws.base.manifest import Hidden, Stored, pack, signed
from overlayws.base.manifest_write import ManifestWriter
from overlayws.base.report import warnings
from overlayws.base.survey import Survey, hide_more, survey
from overlayws.base.workers import copy_all
from overlayws.beneath import open_directory, split
from overlayws.errors import UnableError
from overlayws.filter.contents import Inspector
from overlayws.filter.match import Filter
from overlayws.source.entry import Kind, Xattrs

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many (0: not known)


class UnreadableError(UnableError):
    """The workspace holds what we may not read, and no rule hides it."""


@dataclass(frozen=True, slots=True)
class Base:
    """A sanitized copy and what is known of it."""

    lowerdir: Path
    manifest: Path
    warnings: tuple[str, ...] = ()


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
    with opened(workspace) as root:
        found = surveyed(root, workspace, judge, progress)
        mark = fingerprint.of_survey(found, os.fstat(root).st_mode)
        return copy_base(root, workspace, found, mark, directory, judge, progress)


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


def surveyed(root: int, workspace: Path, judge: Judge, progress: Progress = lambda what, done, total: None) -> Survey:
    """The survey of a workspace whose visible directories can all be read. Raises UnreadableError."""
    seen = 0

    def count(n: int) -> None:
        nonlocal seen
        seen += n
        progress("reading the workspace", seen, 0)

    found = survey(root, workspace, judge.rules, count, judge.redacts, judge.also)
    if found.unreadable:
        raise unreadable(found.unreadable)
    return found


def copy_base(
    root: int,
    workspace: Path,
    found: Survey,
    mark: str,
    directory: Path,
    judge: Judge,
    progress: Progress,
    *,
    previous: Previous | None = None,
    meta: Mapping[str, str] | None = None,
) -> Base:
    """As ``build_base``, for a survey that was made just now, and its fingerprint; ``found`` is brought up to date.

    Files that ``previous`` holds unchanged are linked. ``meta`` is noted in the manifest, with the ``fingerprint``.
    """
    base = Base(directory / "lower", directory / "manifest.db")
    mode = os.fstat(root).st_mode
    try:
        base.lowerdir.mkdir(mode=0o700)
        target = os.open(base.lowerdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fingerprint.wait_until_settled(max((st.st_ctime_ns for _, st in found.visible), default=0))
            clock = fingerprint.now_ns()
            rows, files = _make_directories(root, target, found, clock)
            with ManifestWriter(base.manifest) as manifest, ExitStack() as ending:
                copied, mark = _copy(
                    root, target, found, mark, files, rows, judge, clock, manifest, progress, previous, ending
                )
                gone = _hide(root, workspace, found, target, copied)
                manifest.remove(gone)
                _finish_directories(target, found)
                os.fchmod(target, stat.S_IMODE(mode) & 0o777 | 0o700)
                noted = {**(meta or {}), "fingerprint": mark}
                manifest.finish(found.hidden, found.skipped, copied.findings, noted)
        finally:
            os.close(target)
    except OSError as error:
        raise UnableError(
            f"cannot copy the workspace to {directory}: {error.strerror or error}",
            hint="free some space, hide large files (--hide PATTERN), or set OVERLAYWS_HOME to another disk"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "set OVERLAYWS_HOME to a directory that you can write",
        ) from error
    busy = [f"{path!r} was being written while it was copied" for path in copied.busy]
    return Base(base.lowerdir, base.manifest, (*judge.rules.warnings, *warnings(found, copied.findings), *busy))


def _copy(
    root: int,
    target: int,
    found: Survey,
    mark: str,
    files: dict[str, os.stat_result],
    rows: list[Stored],
    judge: Judge,
    clock: int,
    manifest: ManifestWriter,
    progress: Progress,
    previous: Previous | None,
    ending: ExitStack,
) -> tuple[Copied, str]:
    """Copy or link ``files``; what became of them, and the fingerprint of it all. ``rows`` are of everything else."""
    as_surveyed = True
    linked, missing = Copied(), files
    if previous is not None:
        linked, missing = link_files(previous, target, files)

    def begun() -> None:
        nonlocal as_surveyed
        others = (st for _, st in found.visible if not stat.S_ISREG(st.st_mode))
        as_surveyed = fingerprint.as_surveyed(others, rows)
        manifest.add(rows)
        manifest.add(linked.rows)

    def store(some: Mapping[str, os.stat_result], stored: list[Stored]) -> None:
        nonlocal as_surveyed
        manifest.add(stored)
        as_surveyed = as_surveyed and fingerprint.as_surveyed(some.values(), stored)

    copied = copy_all(
        root, target, missing, ending, clock=clock, scan=contents_scan(found, judge), begun=begun, store=store,
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
        mark = fingerprint.of_rows(found, os.fstat(root).st_mode, known)
    return copied, mark


def contents_scan(found: Survey, judge: Judge) -> Scan | None:
    """How the contents of the visible files are judged; None if they are not."""
    if judge.inspector is None:
        return None
    names: dict[tuple[int, int], list[str]] = defaultdict(list)
    for path, st in found.visible:
        if st.st_nlink > 1 and stat.S_ISREG(st.st_mode):
            names[st.st_dev, st.st_ino].append(path)
    aliases = {path: tuple(paths) for paths in names.values() if len(paths) > 1 for path in paths}
    return Scan(judge.inspector, spared(judge.rules, (path for path, _ in found.visible)), aliases)


def _make_directories(
    root: int, target: int, found: Survey, clock: int
) -> tuple[list[Stored], dict[str, os.stat_result]]:
    """Make the directories and symlinks; their rows, and the files that are left to copy."""
    rows: list[Stored] = []
    files: dict[str, os.stat_result] = {}
    parent, source, made = "", os.dup(root), os.dup(target)
    try:
        for path, st in found.visible:
            if stat.S_ISREG(st.st_mode):
                files[path] = st
                continue
            above, name = split(path)
            if above != parent:
                os.close(source)
                os.close(made)
                source = made = -1
                source, made = open_directory(root, above), open_directory(target, above)
                parent = above
            try:
                rows.append(_make(path, name, st, source, made, clock))
            except FileNotFoundError:
                continue  # gone meanwhile is not there; what was in it is neither
            except PermissionError as error:
                raise unreadable([(path, error.strerror or str(error))]) from None
    finally:
        for fd in (source, made):
            if fd >= 0:
                os.close(fd)
    return rows, files


def _make(path: str, name: str, st: os.stat_result, source: int, made: int, clock: int) -> Stored:
    link: str | None = None
    xattrs: Xattrs = ()
    mode = 0o777
    if stat.S_ISLNK(st.st_mode):
        link = os.readlink(name, dir_fd=source)
        os.symlink(link, name, dir_fd=made)
        os.utime(name, ns=(st.st_atime_ns, st.st_mtime_ns), dir_fd=made, follow_symlinks=False)
    else:
        mode = st.st_mode & 0o777
        os.mkdir(name, 0o700, dir_fd=made)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=source)
        try:
            xattrs = user_xattrs(fd)
        finally:
            os.close(fd)
        if xattrs:
            fd = os.open(name, flags, dir_fd=made)
            try:
                for attribute, value in xattrs:
                    os.setxattr(fd, attribute, value)
            finally:
                os.close(fd)
    ctime = st.st_ctime_ns if fingerprint.settled(st.st_ctime_ns, clock) else 0
    kind = Kind.DIRECTORY if link is None else Kind.SYMLINK
    return (
        os.fsencode(path), kind.value, mode, st.st_size, None if link is None else os.fsencode(link), pack(xattrs),
        signed(st.st_dev), signed(st.st_ino), st.st_mtime_ns, ctime, None, None,
    )  # fmt: skip


def _finish_directories(target: int, found: Survey) -> None:
    """Modes and times, children first: making them changes the mtime, and a mode may forbid it."""
    for path, st in reversed(found.visible):
        if stat.S_ISDIR(st.st_mode):
            try:
                fd = open_directory(target, path)
            except FileNotFoundError:
                continue
            try:
                os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
                os.fchmod(fd, st.st_mode & 0o777)
            finally:
                os.close(fd)


def _hide(root: int, workspace: Path, found: Survey, target: int, copied: Copied) -> set[bytes]:
    """Take what the content scan hides out of the survey, and what leads to it out of the copy."""
    if not copied.hidden:
        return set()
    hidden = [Hidden(os.fsdecode(row[0]), Kind.FILE, rule) for row, rule in copied.hidden]
    gone = hide_more(root, workspace, found, hidden)
    for path in gone:
        above, name = split(path)
        fd = open_directory(target, above)
        try:
            os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            pass
        finally:
            os.close(fd)
    return {os.fsencode(path) for path in gone}


def unreadable(paths: list[tuple[str, str]]) -> UnreadableError:
    """The refusal of a start, naming every path that cannot be read."""
    names = ", ".join(repr(path or ".") for path, _ in paths)
    return UnreadableError(
        f"cannot read {len(paths)} of the workspace's paths ({paths[0][1]}): {names}",
        hint="make them readable, or keep them from the program: --hide PATTERN",
    )
