"""preview: what a session started now would show, and what not, by which rule. Nothing is made."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from overlayws.base.build import contents_scan, opened, surveyed
from overlayws.base.contents import Scan
from overlayws.base.judge import Judge
from overlayws.base.manifest import REPOSITORY, Finding, Hidden
from overlayws.base.report import warnings
from overlayws.base.survey import Survey, hide_more
from overlayws.beneath import open_directory, open_quietly, split
from overlayws.filter.content_rules import Action
from overlayws.source.entry import Kind
from overlayws.source.walk import walk


@dataclass(frozen=True, slots=True)
class Size:
    """Files (everything that is no directory) and their bytes."""

    files: int = 0
    size: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.files + other.files, self.size + other.size)


@dataclass(frozen=True, slots=True)
class Preview:
    """What ``start`` would do. ``hidden`` with what it holds; the user's own ``.git`` is in it, by REPOSITORY.

    ``findings`` are of the content scan, ``blocked`` those that would refuse the start.
    """

    visible: Size
    directories: int
    redacted: tuple[str, ...]
    hidden: tuple[tuple[Hidden, Size], ...]
    skipped: tuple[tuple[str, Kind], ...]
    leaving: tuple[str, ...]
    findings: tuple[Finding, ...]
    blocked: tuple[Finding, ...]
    warnings: tuple[str, ...]

    def by_rule(self) -> dict[str, tuple[int, Size]]:
        """For each rule that hides something: how many paths, and what they hold."""
        found: dict[str, tuple[int, Size]] = {}
        for h, size in self.hidden:
            paths, sum_ = found.get(h.rule, (0, Size()))
            found[h.rule] = paths + 1, sum_ + size
        return found


def preview(workspace: Path, judge: Judge) -> Preview:
    """Decide for all of ``workspace`` as ``build_base`` would; every visible file that the content scan wants is read.

    Raises UnreadableError naming what cannot be read.
    """
    with opened(workspace) as root:
        found = surveyed(root, workspace, judge)
        redacted, findings, blocked = _inspect(root, workspace, found, judge)
        files = [st.st_size for _, st in found.visible if not stat.S_ISDIR(st.st_mode)]
        return Preview(
            visible=Size(len(files), sum(files)),
            directories=len(found.visible) - len(files),
            redacted=tuple(redacted),
            hidden=tuple((h, _size(root, h)) for h in found.hidden if h.rule != REPOSITORY),
            skipped=tuple(found.skipped),
            leaving=tuple(found.leaving),
            findings=tuple(findings),
            blocked=tuple(blocked),
            warnings=(*judge.rules.warnings, *warnings(found, findings)),
        )


def _inspect(root: int, workspace: Path, found: Survey, judge: Judge) -> tuple[list[str], list[Finding], list[Finding]]:
    scan = contents_scan(found, judge)
    files = [path for path, st in found.visible if stat.S_ISREG(st.st_mode)]
    redacted: list[str] = []
    findings: list[Finding] = []
    blocked: list[Finding] = []
    hidden: list[Hidden] = []
    for path in sorted(files, key=os.fsencode) if scan is not None else ():
        assert scan is not None
        action, rule, _, told = inspect_file(root, path, scan)
        findings += told
        if action is Action.REDACT:
            redacted.append(path)
        elif action is Action.HIDE:
            hidden.append(Hidden(path, Kind.FILE, rule))
        elif action is Action.BLOCK:
            blocked += told
    if hidden:
        hide_more(root, workspace, found, hidden)
    return redacted, findings, blocked


def inspect_file(root: int, path: str, scan: Scan) -> tuple[Action, str, bytes | None, list[Finding]]:
    """What the content scan says of the visible file ``path``, as ``Scan.judge``; a file that is gone shows nothing."""
    above, name = split(path)
    try:
        parent = open_directory(root, above)
        try:
            fd = open_quietly(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, parent)
        finally:
            os.close(parent)
    except FileNotFoundError:
        return Action.SHOW, "", None, []
    with os.fdopen(fd, "rb") as file:
        size = os.fstat(fd).st_size
        return scan.judge(path, file.read(size) if scan.reads(path, size) else None)


def _size(root: int, hidden: Hidden) -> Size:
    """What a hidden path holds; what cannot be read counts as nothing."""
    above, name = split(hidden.path)
    try:
        if hidden.kind is Kind.DIRECTORY:
            return sum(
                (Size(1, st.st_size) for _, st in walk(root, hidden.path) if not stat.S_ISDIR(st.st_mode)), Size()
            )
        parent = open_directory(root, above)
        try:
            return Size(1, os.stat(name, dir_fd=parent, follow_symlinks=False).st_size)
        finally:
            os.close(parent)
    except OSError:
        return Size()
