"""What to do where the command of a session was not found, or could not be executed (126, 127)."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from overlayws.run.environment import PATH, programs
from overlayws.run.root_view import root_view
from overlayws.session.session import Session

_STATUSES = (126, 127)
_NEVER_SHOWN = ("/dev", "/proc", "/run", "/sys")


def advice(session: Session, program: str, code: int, env: tuple[str, ...] = ()) -> str | None:
    """A hint for ``program``, which ended with ``code`` and changed nothing; None where it may have run.

    Nothing inside is asked: it is a guess by what this machine has, and what the sandbox shows of it.
    """
    if code not in _STATUSES:
        return None
    if "/" in program and not program.startswith("/"):
        return _of_the_workspace(session, program, code)
    if session.image:
        return None if os.path.basename(program) == "sh" else f"it must be a program of the image {session.image}"
    inside = [word.removeprefix("PATH=") for word in env if word.startswith("PATH=")]
    places = inside[-1] if inside else ":".join((*map(programs, session.tools), PATH))
    found = shutil.which(program, path=places)
    if found is not None and not _not_shown(session, found):
        return None  # it was there: the status is its own
    found = found or shutil.which(program)
    if found is None:
        return "is it spelled right? This machine has no such program on your PATH either"
    found = os.path.abspath(found)
    if found.startswith(f"{session.workspace}/"):
        return _of_the_workspace(session, f"./{os.path.relpath(found, session.workspace)}", code, called=False)
    missing = _not_shown(session, found)
    if not missing:
        return None
    words = " ".join(f"--tools {shlex.quote(directory)}" for directory in missing)
    return f"{found} is not shown to the command: overlayws start {words} -- {shlex.quote(program)} … shows it"


def _of_the_workspace(session: Session, program: str, code: int, *, called: bool = True) -> str | None:
    path = os.path.normpath(program)
    layer = session.layer
    if any(os.path.lexists(top / path) for top in (layer.upperdir, layer.lowerdir)):
        if not called:
            return f"it is in the workspace: call it by its path, {shlex.quote(program)}"
        if code == 126:
            return f"is it a program (chmod +x)? A script can be given to its interpreter: sh {shlex.quote(program)}"
        return "is the interpreter in its first line (#!) there? --tools DIR shows more of this machine"
    if os.path.lexists(session.workspace / path):
        return f"the workspace's own is not shown: overlayws explain {shlex.quote(path)} says by which rule"
    return "the command starts at the top of the workspace, which has no such file"


def _not_shown(session: Session, found: str) -> list[str]:
    """The directories that a --tools must show so that the program ``found`` can be executed."""
    own = (*root_view().directories, *(path for _, path in root_view().symlinks), *session.tools)
    named = os.path.dirname(found)
    real = os.path.dirname(os.path.realpath(found))
    places: list[str] = []
    for place in (named, real):
        top = os.path.dirname(place)
        if os.path.exists(os.path.join(top, "pyvenv.cfg")):
            place = top  # a virtual environment is of use only as a whole
        if _below(place, *_NEVER_SHOWN):
            return []
        if not _below(place, *own) and place not in places:
            places.append(place)
    if len(places) == 2 and (above := _installation(named)) and _below(real, above):
        return [above]
    return places


def _installation(directory: str) -> str | None:
    """What holds ``directory``, where that holds nothing else: not the home itself, nor what is everybody's in it."""
    above = Path(directory).parent
    home = Path(os.path.expanduser("~"))  # "~" where a user has none
    shared = above in (home, home / ".local", Path("/")) or above in home.parents
    return None if os.path.basename(directory) != "bin" or shared else os.fspath(above)


def _below(path: str, *directories: str) -> bool:
    return any(path == directory or path.startswith(directory.rstrip("/") + "/") for directory in directories)
