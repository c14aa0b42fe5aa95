"""What is said of a base when it is made or used again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from overlayws.base.manifest import Finding
from overlayws.base.survey import Survey

if TYPE_CHECKING:
    from overlayws.base.live import Found


def warnings(found: Survey | Found, findings: Sequence[Finding]) -> list[str]:
    """One line for each kind of thing that the program does not see as the user does. No secret's value is in it."""
    said = []
    if found.skipped:
        kinds = ", ".join(f"{path!r} ({kind.value})" for path, kind in found.skipped[:5])
        said.append(f"not copied, because they are no files: {_and_more(kinds, len(found.skipped))}")
    if found.leaving:
        links = ", ".join(repr(path) for path in found.leaving[:5])
        said.append(f"links that point outside the workspace dangle inside: {_and_more(links, len(found.leaving))}")
    for action, what in (
        ("hide", "hidden for what is in them"),
        ("redact", "shown with their secrets replaced"),
        ("warn", "shown although they may hold secrets"),
    ):
        places = [f for f in findings if f.action == action]
        if places:
            shown = ", ".join(f"{f.path!r} line {f.line} ({f.rule})" for f in places[:5])
            said.append(f"{what}: {_and_more(shown, len(places))}")
    return said


def _and_more(names: str, total: int) -> str:
    return f"{names} and {total - 5} more" if total > 5 else names
