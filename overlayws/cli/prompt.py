"""Questions to the person at the terminal."""

from __future__ import annotations

import sys

import click

from overlayws.errors import UsageError


def confirmed(question: str, *, yes: bool) -> bool:
    """True with ``yes``, or when the person says so. Raises UsageError where nobody can be asked."""
    if yes:
        return True
    if not (sys.stdin and sys.stdin.isatty()):
        raise UsageError(f"no terminal to ask on: {question}", hint="add --yes")
    return click.confirm(question, err=True)
