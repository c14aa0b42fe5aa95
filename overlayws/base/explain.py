"""Why a path is hidden, redacted or visible: decided for the workspace as it is now, as ``build_base`` would."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from overlayws.base.build import contents_scan, opened
from overlayws.base.contents import Scan
from overlayws.base.judge import Judge
from overlayws.base.preview import inspect_file
from overlayws.base.survey import Survey, survey
from overlayws.filter.content_rules import Action
from overlayws.filter.ignorefile import printable
from overlayws.filter.verdict import describe

_WORDS = {Action.REDACT: "redacted", Action.HIDE: "hidden", Action.BLOCK: "blocked"}


def explain(workspace: Path, judge: Judge, paths: Iterable[str]) -> list[tuple[str, str, str]]:
    """(path, verdict, why) for each relative path; the verdict is ``visible``, ``redacted``, ``hidden`` or ``blocked``
    (no session would be started). A path that is not there is judged by its name.

    The whole tree is looked at, since links to hidden files are hidden too. Raises OSError.
    """
    with opened(workspace) as root:
        found = survey(root, workspace, judge.rules, redacts=judge.redacts, also=judge.also)
        scan = contents_scan(found, judge)
        return [(path, *_one(root, path, found, judge, scan)) for path in paths]


def _one(root: int, path: str, found: Survey, judge: Judge, scan: Scan | None) -> tuple[str, str]:
    hidden = {h.path: h.rule for h in found.hidden}
    parts = path.split("/")
    for n in range(1, len(parts) + 1):
        above = "/".join(parts[:n])
        if above in hidden:
            return "hidden", hidden[above] if above == path else f"{hidden[above]}, which hides {printable(above)}"
    for skipped, kind in found.skipped:
        if skipped == path:
            return "hidden", f"not copied: a {kind.value}"
    visible = dict(found.visible)
    directory = path in visible and stat.S_ISDIR(visible[path].st_mode)
    if scan is not None and path in visible and stat.S_ISREG(visible[path].st_mode):
        action, _, _, findings = inspect_file(root, path, scan)
        if action is not Action.SHOW:
            places = ", ".join(f"{f.rule} in line {f.line}" if f.line else f.rule for f in findings)
            return _WORDS[action], f"content: {places}"
    verdict = judge.rules.hidden_path(path, directory)
    if verdict.hidden and path in visible:
        return "visible", "something in it is visible" if directory else "decided by its content"
    return "hidden" if verdict.hidden else "visible", describe(verdict.rule)
