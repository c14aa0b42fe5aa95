"""What git ignores, by git's own answer: for ``--gitignore``.

The repository's configuration is written by whoever writes the repository, so what it could make git execute is
switched off (core.fsmonitor, hooks), and nothing is written: GIT_OPTIONAL_LOCKS=0 keeps the index as it is (git(1)).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from overlayws.errors import UnableError, UsageError

RULE = "ignored by git (`--gitignore`)"
_OFF = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.untrackedCache=false", "core.askPass=")


def ignored_by_git(workspace: Path, environment: Mapping[str, str], *, every_file: bool = False) -> dict[str, str]:
    """{path: RULE} for what git ignores in ``workspace``: a directory stands for all in it, unless ``every_file``.

    ``environment`` is the user's, whose own exclude file counts. Raises UsageError where there is no repository,
    UnableError where git is missing or fails.
    """
    command = ["git", "-C", os.fspath(workspace), "--no-pager", "--literal-pathspecs"]
    for setting in _OFF:
        command += ["-c", setting]
    command += ["ls-files", "--others", "--ignored", "--exclude-standard", "-z"]
    if not every_file:
        command.append("--directory")
    env = {name: value for name, value in environment.items() if not name.startswith("GIT_")}
    env |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True)
    except FileNotFoundError:
        raise UnableError("git is not installed", hint="install git, or leave --gitignore out") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        if "not a git repository" in said[0]:
            raise UsageError(f"--gitignore: {workspace} is no git repository", hint="leave --gitignore out")
        raise UnableError(f"git cannot say what it ignores: {said[0]}", hint="leave --gitignore out")
    return {os.fsdecode(path.rstrip(b"/")): RULE for path in done.stdout.split(b"\0") if path}
