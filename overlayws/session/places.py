"""Which directories can be a workspace."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from overlayws.errors import UnableError, UsageError


def default_home() -> Path:
    """The state directory: $OVERLAYWS_HOME, else $XDG_STATE_HOME/overlayws, else ~/.local/state/overlayws."""
    if home := os.environ.get("OVERLAYWS_HOME"):
        return Path(home)
    from platformdirs import user_state_path

    return user_state_path("overlayws")


def user_config() -> Path:
    """The user's own configuration directory: $XDG_CONFIG_HOME/overlayws, else ~/.config/overlayws."""
    from platformdirs import user_config_path

    return user_config_path("overlayws")


def check_names() -> None:
    """Raises UnableError where this process does not take the names of files for UTF-8, as rules and manifests do: a
    rule would then hide nothing of what it names."""
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        raise UnableError(
            f"names of files are taken for {encoding} in this process, not for UTF-8",
            hint="start Python with PYTHONUTF8=1 in the environment, or in a locale with UTF-8",
        )


def checked_workspace(path: Path, state: Path) -> Path:
    """The real path of a directory that can be a workspace. Raises UsageError.

    Refused: what is no directory, ``/``, a home directory itself, and what contains the state directory or lies
    in it (the upperdir would be inside the view that it captures).
    """
    try:
        workspace = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a loop of symbolic links"
        raise UsageError(f"cannot use {str(path)!r} as a workspace: {reason}", hint="name a directory") from None
    if not workspace.is_dir():
        raise UsageError(f"cannot use {str(path)!r} as a workspace: not a directory", hint="name a directory")
    if workspace == Path("/"):
        raise UsageError("the whole file system is no workspace", hint="name the directory of one project")
    if workspace in homes():
        raise UsageError(f"the home directory {workspace} is no workspace", hint="name the directory of one project")
    state = Path(os.path.realpath(state))  # resolve() raises for a loop of links
    if state == workspace or workspace in state.parents:
        raise UsageError(
            f"the workspace {workspace} contains the state directory {state}",
            hint="set OVERLAYWS_HOME to a directory outside the workspace",
        )
    if state in workspace.parents:
        raise UsageError(f"the workspace {workspace} is inside the state directory", hint="name your own directory")
    return workspace


def homes() -> set[Path]:
    """The real paths of the caller's home directory, by the environment and by the user database."""
    homes = {os.environ.get("HOME", "")}
    try:
        homes.add(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        pass
    return {Path(os.path.realpath(home)) for home in homes if home and home != "/"}
