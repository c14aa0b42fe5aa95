"""Pairs of a deleted and an added file that are one file moved. Presentation only: see Rename."""

from __future__ import annotations

import ctypes
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from overlayws.beneath import split
from overlayws.changes.change import Change, Rename
from overlayws.changes.lower import Lower
from overlayws.layer.whiteout import Origin
from overlayws.source.entry import Kind

_MAX_HANDLE = 128  # MAX_HANDLE_SZ of name_to_handle_at(2)


class _FileHandle(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint32), ("type", ctypes.c_int32), ("handle", ctypes.c_ubyte * _MAX_HANDLE))


_libc = ctypes.CDLL(None, use_errno=True)


def exact(changes: Sequence[Change], origins: Mapping[str, Origin], lower: Lower) -> tuple[Rename, ...]:
    """The renames that are certain: by the lower inode that overlayfs copied up, else by equal content.

    ``origins`` are what overlayfs wrote down for added files, ``lower`` the directories of the base. A pair by
    inode has similarity 100 if the content is equal too, else 0: how similar it is, git counts when it is shown.
    Sorted by the bytes of the new path.
    """
    deleted = {c.path: c for c in changes if c.after is None and c.kind is Kind.FILE}
    added = {c.path: c for c in changes if c.before is None and c.kind is Kind.FILE}
    if not deleted or not added:
        return ()
    pairs = _by_origin(deleted, added, origins, lower) if origins else {}
    found = [Rename(old, new, 100 if _same(deleted[old], added[new]) else 0) for new, old in pairs.items()]
    for old in pairs.values():
        del deleted[old]
    for new in pairs:
        del added[new]
    found += _by_content(deleted, added)
    return tuple(sorted(found, key=lambda r: os.fsencode(r.new)))


def _by_origin(
    deleted: Mapping[str, Change], added: Mapping[str, Change], origins: Mapping[str, Origin], lower: Lower
) -> dict[str, str]:
    wanted = {origin: path for path, origin in origins.items() if path in added}
    pairs: dict[str, str] = {}
    for old in deleted:
        handle = _handle(old, lower) if wanted else None
        new = wanted.pop(handle, None) if handle is not None else None
        if new is not None:
            pairs[new] = old
    return pairs


def _by_content(deleted: Mapping[str, Change], added: Mapping[str, Change]) -> list[Rename]:
    """Equal, not empty; of several, the one with the same name, else the first."""
    by_digest: defaultdict[str, list[str]] = defaultdict(list)
    for path, change in deleted.items():
        if change.before is not None and change.before.size and change.before.digest:
            by_digest[change.before.digest].append(path)
    if not by_digest:
        return []
    waiting: list[tuple[str, list[str]]] = []
    found = []
    for path, change in added.items():
        candidates = by_digest.get((change.after.digest if change.after else None) or "")
        if not candidates:
            continue
        name = split(path)[1]
        same = next((old for old in candidates if split(old)[1] == name), None)
        if same is None:
            waiting.append((path, candidates))
        else:
            candidates.remove(same)
            found.append(Rename(same, path, 100))
    found += [Rename(candidates.pop(0), path, 100) for path, candidates in waiting if candidates]
    return found


def _same(old: Change, new: Change) -> bool:
    return old.before is not None and new.after is not None and old.before.digest == new.after.digest


def _handle(path: str, lower: Lower) -> Origin | None:
    """The file handle of a lower file, or None where the file system has none."""
    parent, name = split(path)
    handle = _FileHandle(bytes=_MAX_HANDLE)
    mount = ctypes.c_int()
    try:
        fd = lower.directory(parent)
    except OSError:
        return None
    if _libc.name_to_handle_at(fd, os.fsencode(name), ctypes.byref(handle), ctypes.byref(mount), 0) != 0:
        return None
    return Origin(handle.type, bytes(handle.handle[: handle.bytes]))


def halves(renames: Iterable[Rename], dropped: Iterable[Change]) -> list[str]:
    """A line for each rename of which one half is ``dropped``: what stays of it."""
    paths = {change.path for change in dropped}
    lines = []
    for rename in renames:
        if rename.new in paths and rename.old not in paths:
            lines.append(f"{rename.old} stays deleted; it was renamed to {rename.new}")
        elif rename.old in paths and rename.new not in paths:
            lines.append(f"{rename.new} stays; it was renamed from {rename.old}")
    return lines
