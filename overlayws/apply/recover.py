"""recover: what a crash left of an apply or an undo is finished or rolled back. docs/apply.md has the table.

Every command calls it first; it may itself be interrupted, and called again. The caller holds ``workspace_lock``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from overlayws.apply import kept
from overlayws.apply import undo as undoing
from overlayws.apply.journal import Ground, Journal, State, all_journals, remove_name, set_mtime
from overlayws.apply.locked import WRITING, Log, Reach, workspace_of
from overlayws.apply.record import Record, damaged, load
from overlayws.apply.rollback import clean, original, restore_times, rollback
from overlayws.errors import UnableError, UntrustedError


class LeftOver(UntrustedError):
    """A transaction was interrupted, and paths of it were edited since: those were left as they are."""


def recover(root: Path, workspace: Path | None = None) -> tuple[str, ...]:
    """Finish or roll back what was interrupted in the journals below ``root`` (of ``workspace`` only, if given).

    Returns one line for each that was. May itself be interrupted, and called again. Raises LeftOver (once) where
    a path was edited after the crash: it is left so, and the error says where its original is; JournalError for a
    damaged journal; UnableError for an I/O error.
    """
    lines: list[str] = []
    left: list[str] = []
    for place in all_journals(root):
        state = place.state()
        if state is None:
            _remove_unborn(place, workspace)
        elif workspace in (None, state.workspace):
            try:
                _recover(place, state, lines, left)
            except OSError as error:
                raise UnableError(
                    f"cannot recover {state.workspace} from {place.directory}: {error.strerror}",
                    hint="the originals are safe there; the next command tries again",
                ) from error
    if left:
        raise LeftOver(
            "an interrupted apply was rolled back, but these were edited since and left as they are: "
            + "; ".join(left),
            hint="compare them with the originals; the journal is kept until its session is removed",
        )
    return tuple(lines)


def _recover(place: Journal, state: State, lines: list[str], left: list[str]) -> None:
    if state.state in ("applied", "kept") and not any(stage.path for stage in state.places):
        if workspace_of(place.directory) is None:
            return
    with Ground(place, state) as ground:
        ground.open_stages()
        if state.state == "staging":
            ground.remove_stages()
            ground.directories.close_opened()
            place.remove()
            lines.append(f"{state.workspace}: an interrupted apply had changed nothing yet")
        elif state.state == "applied":
            tidy(ground, undoing.load_applied(place.applied), load(place.apply_record))
        elif state.state == "undo-staging":
            unstage_undo(ground)
            lines.append(f"{state.workspace}: an interrupted undo had changed nothing yet")
        elif state.state == "kept":
            left += kept.listed(place, load(place.apply_record))
            ground.remove_stages()
            ground.directories.close_opened()
            ground.settle()
            ground.enter("kept")
        elif state.state == "finished":
            end(ground, load(place.undo_record) if place.undo_record.exists() else None)
        else:
            what = "apply" if state.state == "applying" else "undo"
            record = load(place.apply_record if what == "apply" else place.undo_record, len(state.places))
            stuck = rollback(ground, record)
            stuck += clean(ground, record, stuck, undo=what == "undo")
            if stuck:
                left += kept.rescue(ground, stuck)
                ground.sync()
                ground.enter("kept")  # before the stages go: from here on the originals are only in the journal
            finish(ground, record, "kept" if stuck else what)
            lines.append(f"{state.workspace}: an interrupted {what} was rolled back")


def finish(ground: Ground, record: Record, what: str) -> None:
    """After a rollback: remove the stages and (of an apply) the journal. Raises OSError."""
    ground.remove_stages()
    restore_times(ground, record)
    ground.directories.close_opened()
    ground.sync()
    if what == "kept":
        ground.settle()
        ground.enter("kept")
    elif what == "undo":
        ground.settle()
        ground.enter("applied")
        with suppress(OSError):
            ground.journal.undo_record.unlink()
    else:
        ground.enter("finished")
        with suppress(OSError):
            ground.journal.remove()


def tidy(ground: Ground, applied: undoing.Applied, record: Record) -> None:
    """After a finished apply: remove the stages of the workspace, close what was opened. Raises OSError."""
    if any(stage.path for stage in ground.state.places):
        ground.remove_stages(applied.times)
        ground.settle()
        ground.enter("applied")
    _close(ground, record)


def _close(ground: Ground, record: Record | None) -> None:
    """Close the directories that a finished transaction opened, with the modes that it gave them. Raises OSError."""
    opened = ground.directories.opened
    for move in record.moves if record and opened else ():
        if move.op == "set" and move.path in opened and move.old and move.new:
            if opened[move.path].mode == move.old.mode:
                ground.directories.close_with(move.path, move.new.mode)
    ground.directories.close_opened()


def unstage_undo(ground: Ground) -> None:
    """Take back what an undo has staged; the originals stay. Raises OSError."""
    for number, fd in enumerate(ground.stages):
        if fd < 0 or ground.state.places[number].path:
            continue
        for name in os.listdir(fd):
            is_directory = os.path.isdir(ground.journal.stage / name) and not (ground.journal.stage / name).is_symlink()
            if is_directory or not original(ground, number, name):
                remove_name(fd, name)
    ground.remove_stages()
    ground.directories.close_opened()
    ground.settle()
    ground.enter("applied")


def end(ground: Ground, undone: Record | None) -> None:
    """Remove the stages, then the journal of a finished undo (or of an apply that was rolled back)."""
    if any(stage.path for stage in ground.state.places):
        ground.remove_stages()
        if undone is not None:
            set_after(ground, undone)
        ground.settle()
        ground.enter("finished")
    _close(ground, undone)
    ground.journal.remove()  # nothing in the workspace is touched from here on


def set_after(ground: Ground, record: Record) -> None:
    for path, mtime_ns in record.after:
        set_mtime(ground.directories, path, mtime_ns)


def _remove_unborn(place: Journal, wanted: Path | None) -> None:
    """Remove a journal that has no state: nothing was done yet, or all was and only the directory is left."""
    if place.apply_record.exists():
        raise damaged(place.directory / "state.json", "it is missing")
    workspace = workspace_of(place.directory)
    if workspace is not None:
        if wanted not in (None, workspace):
            return
        try:
            with Reach(workspace, Log(place.directory, workspace).load(), WRITING) as directories:
                directories.close_opened()
        except (FileNotFoundError, NotADirectoryError):
            pass  # the workspace is gone
        except OSError as error:
            raise UnableError(
                f"cannot close directories of {workspace} again: {error.strerror}", hint="the next command tries again"
            ) from error
    with suppress(OSError):
        place.remove()
