"""Where the rules of a session come from, and what each may do.

In order: the built-in secret rules, the user's configuration, ``--ignore-file``s, the workspace's
``.overlaywsignore``, ``--hide`` and ``--show``. Who writes the repository writes the third and fourth: they may hide
more, but show nothing that the first two hide.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from overlayws.beneath import open_quietly
from overlayws.errors import UsageError
from overlayws.filter.ignorefile import Rule, parse, parse_line, printable
from overlayws.filter.match import Filter
from overlayws.filter.secrets import GIT, secret_names
from overlayws.filter.verdict import describe, reopens

IGNORE_FILE = ".overlaywsignore"
MOST_BYTES = 64 << 20  # of one ignore file
_USER = "user configuration"

__all__ = ["IGNORE_FILE", "MOST_BYTES", "describe", "load_filter"]


def load_filter(
    workspace: Path,
    *,
    ignore_files: Sequence[Path] = (),
    hide: Sequence[str] = (),
    show: Sequence[str] = (),
    user_rules: bytes | None = None,
) -> Filter:
    """The filter of a session on ``workspace``; every file is read now and never again.

    ``user_rules`` are the rules of the user's own configuration, in the same syntax. Raises IgnoreSyntaxError, and
    UsageError for an ignore file that is missing, no regular file, a symlink in the workspace, or larger than 64 MiB.
    """
    user = parse(user_rules, _USER) if user_rules is not None else ()
    repository: list[Rule] = []
    for path in ignore_files:
        repository += parse(_read(path, None), str(path))
    repository += parse(_read_workspace(workspace), IGNORE_FILE)
    command = [_option("--hide", pattern) for pattern in hide]
    command += [replace(_option("--show", pattern), negated=True) for pattern in show]
    return Filter(repository, user=user, command=command, warnings=_warnings(repository, (*user, *command)))


def _warnings(repository: Sequence[Rule], trusted: Sequence[Rule]) -> list[str]:
    names = secret_names()
    found = []
    for rule in repository:
        if rule.negated and (secret := names.named(rule.pattern)):
            found.append(
                f"{describe(rule)} does not show what the {describe(secret)} hides: "
                "that takes the user's own configuration or --show"
            )
    for rule in trusted:
        if rule.negated and (secret := names.named(rule.pattern)):
            if secret is GIT:
                found.append(f"{describe(rule)} does not show the repository: the program gets one of its own")
            else:
                found.append(reopens(rule, secret))
    return found


def _option(name: str, pattern: str) -> Rule:
    rule = parse_line(pattern, name, 0)
    if rule is None or rule.negated:
        raise UsageError(
            f"{name} {printable(pattern)!r}: not a pattern",
            hint="give a pattern without '!': --hide PATTERN hides paths, --show PATTERN shows them",
        )
    return rule


def _read_workspace(workspace: Path) -> bytes:
    try:
        directory = open_quietly(os.fspath(workspace), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, None)
    except OSError as error:
        raise UsageError(
            f"cannot read the workspace {printable(str(workspace))}: {error.strerror}", hint="name a directory"
        ) from error
    try:
        if IGNORE_FILE not in os.listdir(directory):
            return b""
        return _read(Path(IGNORE_FILE), directory)
    finally:
        os.close(directory)


def _read(path: Path, directory: int | None) -> bytes:
    """All of a regular file. In the workspace (``directory``) a symlink is not followed: it could make an ignore
    file of any file of the user's."""
    shown = printable(str(path))
    # O_NONBLOCK: opening a FIFO must not wait for a writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if directory is None else os.O_NOFOLLOW)
    try:
        fd = open_quietly(os.fspath(path), flags, directory)
        try:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                raise UsageError(f"{shown} is not a regular file", hint="make it a plain text file, or remove it")
            data = b""
            if st.st_size <= MOST_BYTES:
                with os.fdopen(os.dup(fd), "rb") as file:
                    data = file.read(MOST_BYTES + 1)
            if st.st_size > MOST_BYTES or len(data) > MOST_BYTES:
                raise UsageError(
                    f"{shown} is larger than {MOST_BYTES >> 20} MiB", hint="an ignore file holds one pattern a line"
                )
            return data
        finally:
            os.close(fd)
    except OSError as error:
        symlink = directory is not None and os.path.islink(f"/proc/self/fd/{directory}/{path}")
        raise UsageError(
            f"cannot read the ignore file {shown}: {'it is a symbolic link' if symlink else error.strerror}",
            hint="replace the link with the file" if symlink else "check its name and permissions",
        ) from error
