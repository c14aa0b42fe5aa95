"""The environment of the command: a few harmless variables of the caller, fixed ones, and what was asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from overlayws.errors import UsageError
from overlayws.run.root_view import USER

HOME = f"/home/{USER}"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# How to talk to the terminal and in which language; everything else of the caller may be a secret.
_KEPT = ("LANG", "LANGUAGE", "TERM", "COLORTERM", "TZ", "NO_COLOR")
_KEPT_PREFIX = "LC_"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def environment(
    caller: Mapping[str, str], extra: Sequence[str] = (), *, tools: Sequence[str] = (), home: str = HOME
) -> dict[str, str]:
    """The whole environment for a RunSpec.

    ``extra``: ``NAME=VALUE``, or ``NAME`` for the caller's own value; the last one wins. ``tools``: directories
    whose programs go first on PATH (their ``bin`` where there is one). Raises UsageError for a bad or unset name.
    """
    env = {name: value for name, value in caller.items() if name in _KEPT or name.startswith(_KEPT_PREFIX)}
    env.setdefault("LANG", "C.UTF-8")
    env["PATH"] = ":".join((*(programs(tool) for tool in tools), PATH))
    env["HOME"] = home
    env["USER"] = env["LOGNAME"] = USER
    # Without an identity `git commit` fails, and the caller's own is none of the program's business.
    for role in ("AUTHOR", "COMMITTER"):
        env[f"GIT_{role}_NAME"] = USER
        env[f"GIT_{role}_EMAIL"] = f"{USER}@localhost"
    for word in extra:
        name, given, value = word.partition("=")
        if not _NAME.match(name):
            raise UsageError(
                f"--env {word!r} has no variable name", hint="write NAME=VALUE, or NAME for your own value"
            )
        if not given:
            if name not in caller:
                raise UsageError(f"--env {name}: the variable is not set", hint=f"write --env {name}=VALUE")
            value = caller[name]
        if "\0" in value:
            raise UsageError(f"--env {name}: the value holds a NUL byte", hint="no environment variable can")
        env[name] = value
    return env


def programs(tool: str) -> str:
    """Where a directory of --tools has its programs."""
    below = os.path.join(tool, "bin")
    return below if os.path.isdir(below) else tool
