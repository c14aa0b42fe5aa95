"""An image that holds nothing: directories, links and made-up files, over which this machine's own programs are shown.

So a container without ``--image`` has the same root as under bwrap (root_view.py): /usr and some of /etc, read-only.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from typing import Any

from overlayws.run.engine import explained
from overlayws.run.environment import HOME
from overlayws.run.root_view import UID, RootView, made_up

_REPOSITORY = "overlayws-host"
_DIRECTORIES = ("dev", "etc", "home", "proc", "run", "sys", "tmp", "usr", "var", "var/tmp", "workspace")
_MODES = {"tmp": 0o1777, "var/tmp": 0o1777, HOME.lstrip("/"): 0o700}


def files(view: RootView, uid: int = UID, gid: int = UID) -> dict[str, bytes | str | None]:
    """path (relative) -> content, target of a symlink, or None for a directory; parents first."""
    found: dict[str, bytes | str | None] = dict.fromkeys(_DIRECTORIES)
    found[HOME.lstrip("/")] = None
    for path in view.directories:
        found[path.lstrip("/")] = None
    for target, path in view.symlinks:
        found[path.lstrip("/")] = target
    found["var/run"] = "../run"
    for path, content in made_up(HOME, "none", uid, gid).items():
        found[path.lstrip("/")] = content
    for path in view.etc:
        for above in _parents(path):
            found.setdefault(above, None)
        found[path.lstrip("/")] = None if os.path.isdir(path) else b""
    return dict(sorted(found.items()))


def ensured(client: Any, view: RootView, uid: int = UID, gid: int = UID) -> str:
    """The name of the image, which is made if the engine does not have it, for a program with ``uid`` and ``gid``.

    Raises EngineError."""
    data = _archive(files(view, uid, gid))
    tag = hashlib.sha256(data).hexdigest()[:16]
    name = f"{_REPOSITORY}:{tag}"
    with explained(f"image {name}"):
        if not client.images(name=name, quiet=True):
            client.import_image_from_data(data, repository=_REPOSITORY, tag=tag)
    return name


def _archive(entries: dict[str, bytes | str | None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in entries.items():
            member = tarfile.TarInfo(path)
            # runc gives a tmpfs the mode of the directory below it, whatever the mount's own options say.
            member.mode = _MODES.get(path, 0o755)
            if content is None:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.mode, member.size = 0o644, len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _parents(path: str) -> list[str]:
    parts = path.strip("/").split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]
