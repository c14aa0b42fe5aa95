"""Why a path is hidden, redacted or visible: decided for the workspace as it is now, as ``build_base`` would."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from overlayws.base.build import contents_scan, opened
from overlayws.base.contents import Scan
from overlayws.base.judge import Judge
from overlayws.base.manifest import Hidden
from overlayws.base.preview import inspect_file
from overlayws.base.survey import Reader, Survey, survey
from overlayws.filter.content_rules import Action
from overlayws.filter.ignorefile import Rule, printable
from overlayws.filter.verdict import describe
from overlayws.source.entry import Kind

_WORDS = {Action.REDACT: "redacted", Action.HIDE: "hidden", Action.BLOCK: "blocked"}


@dataclass(frozen=True, slots=True)
class Explained:
    """``verdict``: ``visible``, ``redacted``, ``hidden`` or ``blocked`` (no session would be started). ``why`` is for a
    person; ``rule`` the one that decides, None where none does or it is no rule of names (a content, a link)."""

    path: str
    verdict: str
    why: str
    rule: Rule | None = None


def explain(workspace: Path, judge: Judge, paths: Iterable[str]) -> list[tuple[str, str, str]]:
    """(path, verdict, why) for each relative path: see ``explained``."""
    return [(one.path, one.verdict, one.why) for one in explained(workspace, judge, paths)]


def explained(workspace: Path, judge: Judge, paths: Iterable[str]) -> list[Explained]:
    """The verdict for each relative path. A path that is not there is judged by its name.

    The whole tree is looked at, since links to hidden files are hidden too. Raises OSError.
    """
    with opened(workspace) as root:
        found = survey(root, workspace, judge.rules, redacts=judge.redacts, also=judge.also)
        scan = contents_scan(found, judge)
        return [_one(root, path, found, judge, scan) for path in paths]


def _one(root: int, path: str, found: Survey, judge: Judge, scan: Scan | None) -> Explained:
    hidden = {h.path: h for h in found.hidden}
    parts = path.split("/")
    for n in range(1, len(parts) + 1):
        above = hidden.get("/".join(parts[:n]))
        if above is not None:
            why = above.rule if above.path == path else f"{above.rule}, which hides {printable(above.path)}"
            return Explained(path, "hidden", why, _rule_of(root, above, judge))
    for skipped, kind in found.skipped:
        if skipped == path:
            return Explained(path, "hidden", f"not copied: a {kind.value}")
    visible = dict(found.visible)
    directory = path in visible and stat.S_ISDIR(visible[path].st_mode)
    if scan is not None and path in visible and stat.S_ISREG(visible[path].st_mode):
        action, _, _, findings = inspect_file(root, path, scan)
        if action is not Action.SHOW:
            places = ", ".join(f"{f.rule} in line {f.line}" if f.line else f.rule for f in findings)
            return Explained(path, _WORDS[action], f"content: {places}")
    verdict = judge.rules.hidden_path(path, directory)
    if verdict.hidden and path in visible:
        why = "something in it is visible" if directory else "decided by its content"
        return Explained(path, "visible", why)
    return Explained(path, "hidden" if verdict.hidden else "visible", describe(verdict.rule), verdict.rule)


def _rule_of(root: int, hidden: Hidden, judge: Judge) -> Rule | None:
    """The rule of names that hides it, asked for again: a survey keeps the words alone. None where something else
    does: a link to what is hidden, git."""
    reader = Reader(root)
    reader.path = hidden.path
    rule = judge.rules.hidden_path(hidden.path, hidden.kind is Kind.DIRECTORY, reader).rule
    return rule if describe(rule) == hidden.rule else None
