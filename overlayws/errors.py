"""The one base class of every error that a user sees, and the exit codes.

An error is one line that says what is wrong with which thing, and a hint that says what to do. Library code
raises; only ``cli/main.py`` prints and exits. The classes here are the four families of the contract;
subclasses live beside the code that raises them.
"""

from __future__ import annotations


class OverlaywsError(Exception):
    """The answer is no: a conflict, drift, a refused change (exit code 1)."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(OverlaywsError):
    """Wrong usage, or an invalid configuration, ignore or policy file (exit code 2)."""

    exit_code = 2


class UnableError(OverlaywsError):
    """This machine cannot do it: no backend, no sandbox, no permission, no space (exit code 3)."""

    exit_code = 3


class UntrustedError(OverlaywsError):
    """Not to be trusted or not complete: a damaged session or journal, a digest mismatch (exit code 4)."""

    exit_code = 4


class NotStartedError(UnableError):
    """``start`` or ``run`` failed before the command ran (exit code 125, as with ``docker run``)."""

    exit_code = 125
