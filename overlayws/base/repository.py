"""A repository of the program's own: one commit of the sanitized tree; no remotes, hooks, history or credentials.

The user's ``.git`` holds all of these (remote URLs with tokens, ``http.extraheader``, stashes, old commits), so it is
never copied. git runs here with no configuration but what is given on its command line.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from overlayws.errors import UnableError

_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "overlayws",
    "GIT_AUTHOR_EMAIL": "overlayws@localhost",
    "GIT_COMMITTER_NAME": "overlayws",
    "GIT_COMMITTER_EMAIL": "overlayws@localhost",
}


def make_repository(lowerdir: Path) -> None:
    """Put ``.git`` with one commit of everything that is not git-ignored into ``lowerdir``.

    Raises UnableError where git is missing or fails.
    """
    _git(lowerdir, "init", "--quiet", "--template=", "--initial-branch=main")
    _git(lowerdir, "add", "--all")
    _git(lowerdir, "commit", "--quiet", "--allow-empty", "--message", "The workspace as it was given to you")


def _git(lowerdir: Path, *arguments: str) -> None:
    # Speed over size and durability: nobody keeps these objects, and a crash throws the whole session away.
    fast = ("-c", "core.looseCompression=0", "-c", "core.fsync=none", "-c", "gc.auto=0")
    command = ["git", "-C", str(lowerdir), "-c", "core.hooksPath=/dev/null", *fast, *arguments]
    try:
        done = subprocess.run(command, env=_ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True)
    except FileNotFoundError:
        raise UnableError("git is not installed", hint="install git, or use --git none") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise UnableError(f"git {arguments[0]} failed on the sanitized copy: {lines[-1]}", hint="use --git none")
