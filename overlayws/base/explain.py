"""Why a path is hidden or visible, decided for the workspace as it is now, exactly as ``build_base`` would."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from overlayws.base.survey import Survey, survey
from overlayws.filter.match import Filter
from overlayws.filter.verdict import describe


def explain(workspace: Path, rules: Filter, paths: Iterable[str]) -> list[tuple[str, bool, str]]:
    """(path, hidden, why) for each relative path. A path that is not there is judged by its name.

    The whole tree is looked at, since links to hidden files are hidden too. Raises OSError.
    """
    root = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = survey(root, workspace, rules)
    finally:
        os.close(root)
    return [(path, *_one(path, found, rules)) for path in paths]


def _one(path: str, found: Survey, rules: Filter) -> tuple[bool, str]:
    hidden = {h.path: h.rule for h in found.hidden}
    parts = path.split("/")
    for n in range(1, len(parts) + 1):
        above = "/".join(parts[:n])
        if above in hidden:
            return True, hidden[above] if above == path else f"{hidden[above]}, which hides {above}"
    for skipped, kind in found.skipped:
        if skipped == path:
            return True, f"not copied: a {kind.value}"
    visible = dict(found.visible)
    directory = path in visible and stat.S_ISDIR(visible[path].st_mode)
    verdict = rules.hidden_path(path, directory)
    if verdict.hidden and path in visible:
        return False, "something in it is visible" if directory else "decided by its content"
    return verdict.hidden, describe(verdict.rule)
