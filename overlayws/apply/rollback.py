"""rollback: undo the moves of a Record that were made, wherever it was interrupted; and clean the stage.

What is at a path is told by its inode: the original (nothing to do), the staged file (it is swapped back), or
something else, which somebody put there since: that is never touched.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace

from overlayws import beneath
from overlayws.apply.journal import Ground, remove_name, set_mtime
from overlayws.apply.moves import UNSUPPORTED, aside, at, move, opened, set_attributes, set_xattrs, xattr
from overlayws.apply.record import Move, Record
from overlayws.apply.stage import make_directory
from overlayws.beneath import split
from overlayws.source.entry import Kind, kind_of

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class Stuck:
    """A path that was edited after a crash, so that it is left as it is. ``slot`` of ``stage`` holds what was
    there before (None: nothing was, or nothing is lost)."""

    path: str
    stage: int = 0
    slot: str | None = None


def rollback(ground: Ground, record: Record) -> list[Stuck]:
    """Undo every move that was made, the last first. Returns what was left as somebody else made it.

    May be interrupted anywhere and called again. Raises OSError: call it again.
    """
    stuck = []
    remade = {step.path for step in record.moves if step.op == "rmdir"}
    for step in reversed(record.moves):
        try:
            parent = ground.directories.open(split(step.path)[0])
        except OSError as error:
            if error.errno not in _GONE:
                raise
            kept = _kept(ground, step) if step.op in ("take", "swap") else None
            found = Stuck(step.path, step.stage, kept) if kept else None
        else:
            name = split(step.path)[1]
            if step.op == "set":
                _unset(ground, step, parent, name, step.path in remade)
                continue
            found = _BACK[step.op](ground, step, parent, name)
        if found is not None:
            stuck.append(found)
    return stuck


def restore_times(ground: Ground, record: Record) -> None:
    """Give the directories their mtimes from before back."""
    for path, mtime_ns in record.times:
        set_mtime(ground.directories, path, mtime_ns)


def clean(ground: Ground, record: Record, stuck: list[Stuck], *, undo: bool = False) -> list[Stuck]:
    """Empty the stages of what the record brought there. Returns what nobody knows, besides what is stuck.

    ``undo``: the stage in the journal is the apply's, whose originals stay, but for copies of those in ``kept``.
    Raises OSError.
    """
    brought = {(step.stage, step.new.ino) for step in record.moves if step.new is not None}
    known = {(item.stage, item.slot) for item in stuck}
    found = []
    for stage, fd in enumerate(ground.stages):
        if fd < 0:
            continue
        for name in os.listdir(fd):
            st = at(fd, name)
            if st is None or (stage, name) in known:
                continue
            if kind_of(st.st_mode) is Kind.DIRECTORY:
                remove_name(fd, name)
            elif (stage, st.st_ino) in brought:
                if not (undo and original(ground, stage, name)):
                    remove_name(fd, name)
            else:
                found.append(Stuck(_path_of(record, stage, name), stage, name))
    return found


def original(ground: Ground, stage: int, name: str) -> bool:
    """Whether a slot of an undo holds the original itself, no copy of it."""
    return not ground.state.places[stage].path and not os.path.lexists(ground.journal.kept / name)


def _path_of(record: Record, stage: int, name: str) -> str:
    slot = name.rstrip("~!")
    return next((m.path for m in record.moves if m.stage == stage and str(m.slot) == slot), name)


def _kept(ground: Ground, step: Move) -> str | None:
    """The name in the stage of what was at the path, or None."""
    stage = ground.stages[step.stage]
    if stage < 0:
        return None
    for slot in (aside(str(step.slot)), str(step.slot)):
        st = at(stage, slot)
        if st is not None and (step.new is None or st.st_ino != step.new.ino):
            return slot
    return None


def _unset(ground: Ground, step: Move, parent: int, name: str, remade: bool) -> None:
    """``remade``: the rollback has made the directory again, so that it has another inode."""
    assert step.old is not None and step.new is not None
    now = at(parent, name)
    if now is None or kind_of(now.st_mode) is not step.old.kind or (now.st_ino != step.old.ino and not remade):
        return
    with opened(parent, name) as (fd, path):
        st = os.fstat(fd)
        mode = st.st_mode & 0o7777
        applied = dict(step.new.xattrs)
        values = tuple((key, value) for key, value in step.old.xattrs if xattr(path, key) == applied.get(key))
        wanted = step.old.mode if mode == step.new.mode else mode
        if ground.directories.is_opened(step.path, st):
            wanted = step.old.mode
        elif mode == wanted or not ground.directories.defer(step.path, fd, wanted, wanted):
            set_attributes(path, mode, replace(step.old, mode=wanted, xattrs=values))
            return
        set_xattrs(path, values)
        ground.directories.close_with(step.path, wanted)


def _unrmdir(ground: Ground, step: Move, parent: int, name: str) -> Stuck | None:
    assert step.old is not None
    now = at(parent, name)
    # Its own write permission is what a directory needs to be moved (rename(2)): its mode comes after that.
    moving = step.old.mode | 0o700
    if now is None:
        make_directory(ground.stages[step.stage], str(step.slot), replace(step.old, mode=moving))
        move(ground.stages[step.stage], str(step.slot), parent, name)
    elif kind_of(now.st_mode) is not Kind.DIRECTORY:
        return Stuck(step.path)
    if moving != step.old.mode:
        with opened(parent, name) as (fd, path):
            st = os.fstat(fd)
            mode, directories = step.old.mode, ground.directories
            if st.st_mode & 0o7777 == moving and not directories.is_opened(step.path, st):
                if not directories.defer(step.path, fd, mode, mode):
                    os.chmod(path, mode)
    return None


def _unmkdir(ground: Ground, step: Move, parent: int, name: str) -> Stuck | None:
    now = at(parent, name)
    if now is None or step.new is None or not step.new.is_at(now):
        return None
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return Stuck(step.path)
    return None


def _unput(ground: Ground, step: Move, parent: int, name: str) -> Stuck | None:
    assert step.new is not None
    stage, slot = ground.stages[step.stage], str(step.slot)
    now = at(parent, name)
    staged = at(stage, slot) if stage >= 0 else None
    if now is None:
        return None
    if now.st_ino != step.new.ino:
        # A directory was there before, and is again.
        return None if staged is not None or kind_of(now.st_mode) is Kind.DIRECTORY else Stuck(step.path)
    if not step.new.is_at(now):
        return Stuck(step.path)
    if staged is not None:  # two links of one file: the fallback of ``move`` was interrupted
        os.unlink(slot, dir_fd=stage)
    return _pull(ground, step, parent, name, slot)


def _pull(ground: Ground, step: Move, parent: int, name: str, slot: str) -> Stuck | None:
    """Take the staged file out of the workspace again; what is no such file any more goes back."""
    assert step.new is not None
    stage = ground.stages[step.stage]
    move(parent, name, stage, slot)
    out = at(stage, slot)
    if out is None or step.new.is_at(out):
        return None
    move(stage, slot, parent, name)
    return Stuck(step.path)


def _untake(ground: Ground, step: Move, parent: int, name: str) -> Stuck | None:
    stage = ground.stages[step.stage]
    kept = _kept(ground, step)
    if kept is None:  # never taken, or back already
        return None
    now = at(parent, name)
    if now is None:
        move(stage, kept, parent, name)
        return None
    st = at(stage, kept)
    if st is not None and st.st_ino == now.st_ino:  # two links: the fallback of ``move`` was interrupted
        os.unlink(kept, dir_fd=stage)
        return None
    if step.new is None or not step.new.is_at(now):
        return Stuck(step.path, step.stage, kept)
    return _swap_back(ground, step, parent, name, kept)


def _swap_back(ground: Ground, step: Move, parent: int, name: str, kept: str) -> Stuck | None:
    assert step.new is not None
    stage = ground.stages[step.stage]
    try:
        beneath.exchange(stage, kept, parent, name)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        trash = f"{step.slot}!"
        if at(stage, trash) is not None:
            os.unlink(trash, dir_fd=stage)
        stuck = _pull(ground, step, parent, name, trash)
        if stuck is not None:
            return replace(stuck, stage=step.stage, slot=kept)
        move(stage, kept, parent, name)
        return None
    out = at(stage, kept)
    if out is not None and not step.new.is_at(out):  # an edit was made since it was looked at
        beneath.exchange(stage, kept, parent, name)
        return Stuck(step.path, step.stage, kept)
    return None


_BACK = {
    "rmdir": _unrmdir,
    "mkdir": _unmkdir,
    "put": _unput,
    "take": _untake,
    "swap": _untake,
}
