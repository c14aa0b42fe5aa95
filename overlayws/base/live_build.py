"""build_live: the mask and the manifest of ``--base live``, and their upkeep while the session lives."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from overlayws.base.build import Progress, opened, unreadable
from overlayws.base.collector import paused
from overlayws.base.contents import Scan, blocked, spared
from overlayws.base.fingerprint import now_ns, settled
from overlayws.base.judge import Judge
from overlayws.base.live import Found, finish, look, lstat
from overlayws.base.live_manifest import STARTED, write_names
from overlayws.base.making import Base
from overlayws.base.manifest import Finding, Hidden, Stored, pack, signed
from overlayws.base.manifest_write import ManifestWriter
from overlayws.base.mask import Mask, copy_attributes
from overlayws.base.preview import inspect_file
from overlayws.base.report import warnings
from overlayws.filter.content_rules import Action
from overlayws.filter.secrets import fixed_names
from overlayws.source.entry import Kind

OWN, MASK = "lower", "mask"  # below the base's directory: the program's own repository, and what hides the user's


def build_live(
    workspace: Path,
    directory: Path,
    judge: Judge,
    progress: Progress = lambda what, done, total: None,
    *,
    scan: bool = False,
) -> Base:
    """Make ``directory/mask``, ``directory/lower`` (empty, for the program's own repository) and the manifest.

    ``directory`` exists and is empty. With ``scan`` the content of every visible file is judged, which reads it.
    Raises as ``build_base``.
    """
    started = time.time_ns()
    base = Base(directory / OWN, directory / "manifest.db")
    seen = 0

    def count(n: int) -> None:
        nonlocal seen
        seen += n
        progress("reading the workspace", seen, 0)

    with paused(), opened(workspace) as root:
        found = look(root, workspace, judge, progress=count)
        if found.unreadable:
            raise unreadable(found.unreadable)
        rows: list[Stored] = []
        findings: list[Finding] = []
        with Mask(directory / MASK, root) as mask:
            before = len(found.hidden)
            _inspect(root, found, judge, mask, rows, findings, scan)
            if len(found.hidden) != before:
                finish(root, workspace, found)
            # Never there is not yet there: what any directory at the top may get under these names stays out of sight.
            mask.hide_at_top(_forthcoming(found, judge))
            for path in [*(h.path for h in found.hidden), *(path for path, _ in found.skipped)]:
                mask.hide(path)
        base.lowerdir.mkdir(mode=0o700)
    finish_own(workspace, directory)
    meta = {STARTED: str(started), "files": str(found.count())}
    with ManifestWriter(base.manifest) as manifest:
        manifest.add(rows)
        write_names(manifest, found)
        manifest.finish(found.hidden, found.skipped, findings, meta)
    return Base(base.lowerdir, base.manifest, (*judge.rules.warnings, *warnings(found, findings)))


def finish_own(workspace: Path, directory: Path) -> None:
    """Give the layer of the program's own files the attributes of the workspace's directory. Raises OSError."""
    with opened(workspace) as root:
        made = os.open(directory / OWN, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copy_attributes(root, made)
        finally:
            os.close(made)


def _forthcoming(found: Found, judge: Judge) -> list[str]:
    """Names at the top that are not there and would be hidden: the repository and the secrets with a fixed name."""
    there = next((listed.names for listed in found.directories if not listed.path), {})
    names: Sequence[str] = fixed_names()
    if judge.rules.rules or not judge.rules.hidden_path(names[0], False).hidden:  # else nothing shows one of them
        names = [name for name in names if judge.rules.hidden_path(name, False).hidden]
    return [name for name in (".git", *names) if name not in there]


def _inspect(
    root: int, found: Found, judge: Judge, mask: Mask, rows: list[Stored], findings: list[Finding], scan: bool
) -> None:
    """Redact what is redacted by its name and, with ``scan``, judge all other files by their content."""
    if judge.inspector is None:
        return
    paths = sorted(found.files(), key=os.fsencode) if scan else found.redacted
    stats = {path: st for path in paths if (st := lstat(root, path)) is not None}
    aliases: dict[tuple[int, int], list[str]] = defaultdict(list)
    for path, st in stats.items():
        aliases[st.st_dev, st.st_ino].append(path)
    names = {path: tuple(alike) for alike in aliases.values() if len(alike) > 1 for path in alike}
    judged = Scan(judge.inspector, spared(judge.rules, paths), names)
    refused: list[Finding] = []
    clock = now_ns()
    for path, st in stats.items():
        try:
            action, rule, shown, told = inspect_file(root, path, judged)
        except PermissionError:
            action, rule, shown, told = Action.HIDE, "cannot be read, so it cannot be redacted", None, []
        except OSError:
            continue  # something else by now
        findings += told
        if action is Action.BLOCK:
            refused += told
        elif action is Action.HIDE:
            found.hidden.append(Hidden(path, Kind.FILE, rule))
        elif shown is not None:
            xattrs = mask.show(path, shown, st)
            ctime = st.st_ctime_ns if settled(st.st_ctime_ns, clock) else 0
            rows.append((
                os.fsencode(path), "file", st.st_mode & 0o777, st.st_size, None, pack(xattrs), signed(st.st_dev),
                signed(st.st_ino), st.st_mtime_ns, ctime, None, len(shown),
            ))  # fmt: skip
    if refused:
        raise blocked(refused)


def hide_more(workspace: Path, directory: Path, hidden: Iterable[Hidden]) -> None:
    """Hide further paths from a program that was started, or will be. Raises OSError, UnableError."""
    with opened(workspace) as root, Mask(directory / MASK, root) as mask:
        hidden = [h for h in hidden if mask.hide(h.path)]
    if not hidden:
        return
    with closing(sqlite3.connect(directory / "manifest.db", isolation_level=None)) as db:
        rows = ((os.fsencode(h.path), h.kind.value, h.rule) for h in hidden)
        db.executemany("INSERT OR REPLACE INTO hidden VALUES (?, ?, ?)", rows)
