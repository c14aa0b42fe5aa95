"""Verdict: what was decided for a path, by which rule, and how that is said."""

from __future__ import annotations

from dataclasses import dataclass

from overlayws.filter.ignorefile import Rule, printable, shown
from overlayws.filter.secrets import BUILT_IN


@dataclass(frozen=True, slots=True)
class Verdict:
    """``rule`` is the one that hides the path, or the exception that shows it; None where no rule speaks."""

    hidden: bool
    rule: Rule | None


def describe(rule: Rule | None) -> str:
    """The rule as ``explain`` and the manifest name it, on one printable line: its source, line and pattern."""
    if rule is None:
        return "no rule"
    if rule.file == BUILT_IN:
        return f"built-in secret rule `{rule.pattern}`"
    if rule.line == 0:
        return f"`{printable(rule.file)} {shown(rule).removeprefix('!')}`"
    return f"`{printable(rule.file)}` line {rule.line}: `{shown(rule)}`"


def reopens(rule: Rule, secret: Rule) -> str:
    """The warning for an exception of the user's that shows a secret."""
    return f"{describe(rule)} shows what the {describe(secret)} hides"
