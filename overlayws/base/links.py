"""Where the symbolic links of a workspace lead, by their texts alone: nothing is followed on disk."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from overlayws.beneath import open_directory, split

_MOST = 40  # links on the way to one file, as of the kernel (path_resolution(7))


def read_links(root: int, paths: Iterable[str]) -> dict[str, str]:
    """The text of each link below the descriptor ``root``; without those that are gone or no links any more."""
    texts = {}
    parent, fd = None, -1
    try:
        for path in paths:
            above, name = split(path)
            try:
                if above != parent:
                    if fd >= 0:
                        os.close(fd)
                    parent, fd = None, -1
                    fd = open_directory(root, above)
                    parent = above
                texts[path] = os.readlink(name, dir_fd=fd)
            except OSError:
                continue
    finally:
        if fd >= 0:
            os.close(fd)
    return texts


def end_of(link: str, texts: Mapping[str, str], hidden: Collection[str], workspace: Path) -> str | None:
    """The path that ``link`` leads to, by way of the other links in ``texts``; the first of ``hidden`` on the way ends
    it. None if the way leaves ``workspace``; the link itself if it leads in a circle."""
    at: list[str] = []
    rest = link.split("/")[::-1]
    followed = 0
    while rest:
        name = rest.pop()
        if name in ("", "."):
            continue
        if name == "..":
            if not at:
                return None
            at.pop()
            continue
        at.append(name)
        path = "/".join(at)
        if path in hidden:
            return path
        text = texts.get(path)
        if text is None:
            continue
        followed += 1
        if followed > _MOST:
            return link
        at.pop()
        if text.startswith("/"):
            inside = posixpath.normpath(text)
            if inside != os.fspath(workspace) and not inside.startswith(f"{workspace}/"):
                return None
            at, text = [], inside.removeprefix(os.fspath(workspace))
        rest += text.split("/")[::-1]
    return "/".join(at)
