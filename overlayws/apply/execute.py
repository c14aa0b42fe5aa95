"""execute, undo, recover: an apply as one transaction. docs/apply.md has the protocol and what each crash leads to.

All new contents are staged and made durable, then the record of what will happen, then every name is swapped; the
originals end in the stage, where undo finds them. An error or a signal in between rolls back at once; a crash is
rolled back by ``recover``, which every command calls first. The caller holds ``workspace_lock``.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from overlayws.apply import kept
from overlayws.apply import undo as undoing
from overlayws.apply.journal import Ground, Journal, State, all_journals, remove_name, set_mtime
from overlayws.apply.prepare import check_writable, choose, prepare, touched
from overlayws.apply.record import Record, damaged, load, save
from overlayws.apply.rollback import Stuck, clean, original, restore_times, rollback
from overlayws.apply.stage import Places
from overlayws.apply.step import Action, ApplyPlan, Conflict
from overlayws.apply.transaction import check_originals, drift, run
from overlayws.beneath import split
from overlayws.changes.contents import Contents
from overlayws.errors import OverlaywsError, UnableError, UntrustedError, UsageError


class ConflictError(OverlaywsError):
    """A plan has conflicts (or refused changes), so nothing is written. ``conflicts`` has all of them."""

    def __init__(self, message: str, conflicts: tuple[Conflict, ...], hint: str) -> None:
        super().__init__(message, hint=hint)
        self.conflicts = conflicts


class EditedError(OverlaywsError):
    """Undo would overwrite edits that were made since the apply, so nothing is written. ``paths`` has them."""

    def __init__(self, paths: list[str]) -> None:
        shown = ", ".join(map(repr, paths[:5])) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
        super().__init__(f"edited since the apply: {shown}", hint="put these back as apply left them, then undo")
        self.paths = tuple(paths)


class LeftOver(UntrustedError):
    """A transaction was interrupted, and paths of it were edited since: those were left as they are."""


def execute(plan: ApplyPlan, journal: Path, theirs: Contents, *, skip_refused: bool = False) -> bool:
    """Apply a plan to its workspace, all or nothing; ``journal`` is a new directory that ``undo`` needs.

    Returns False where there was nothing to do (then no journal is made). Raises ConflictError (nothing written;
    also for refused changes unless ``skip_refused``), DriftError (an edit came in between), UnableError (no
    permission, no space, an I/O error), ChangedSince (the accepted contents are not the reviewed ones): the
    workspace is as before. UntrustedError where rolling back failed too: ``recover`` will do it.
    """
    refused = () if skip_refused else plan.refused
    if plan.conflicts or refused:
        first = (plan.conflicts or refused)[0]
        more = len(plan.conflicts) + len(refused) - 1
        hint = "resolve them in the workspace, or choose --on-conflict ours, theirs or markers"
        if not plan.conflicts:
            hint = "--skip-refused applies the rest"
        message = f"nothing applied: {first}" + (f", and {more} more" if more else "")
        raise ConflictError(message, (*plan.conflicts, *refused), hint)
    if not plan.steps:
        return False
    place = Journal(journal)
    with _ground(place, State("staging", plan.workspace, plan.root[1], ())) as ground:
        if os.fstat(ground.directories.root).st_dev != plan.root[0]:
            raise drift(str(plan.workspace))
        renaming = [step for step in plan.steps if step.action not in (Action.OPEN, Action.SET)]
        opened = {step.path for step in plan.steps if step.action is Action.OPEN}
        check_writable(ground.directories, (s.path for s in renaming if split(s.path)[0] not in opened))
        place.create()
        try:
            vanishing = ((step.path, step.action is Action.REMOVE_DIRECTORY) for step in renaming)
            times = touched(vanishing, ground.directories)
            numbers = _choose(ground, [step.path for step in plan.steps])
            ground.enter("staging")
            ground.make_stages()
            record = prepare(ground, plan.steps, numbers, theirs, times)
            save(place.apply_record, record)
            ground.sync()
            ground.enter("applying")
        except BaseException as error:
            with suppress(OSError):
                ground.remove_stages()
                # The state that failed to be written may have reached the disk: it wants the record.
                ground.enter("finished")
                place.remove()
            _raise(error)
        try:
            run(ground, record)
            check_originals(ground, record)
            copied = kept.collect(ground, record)
            applied = undoing.look(ground, record, copied)
            undoing.save_applied(place.applied, applied)
            ground.sync()
            ground.enter("applied")
        except BaseException as error:
            _back_out(ground, record, "applying", error)
            _raise(error)
        # Applied, whatever happens from here on; what is left of the stages is for recover.
        with suppress(OSError):
            _tidy(ground, applied)
    return True


def undo(journal: Path) -> None:
    """Put the workspace back as it was before the apply of ``journal``: content, mode, owner, times, attributes,
    the same inodes where the journal is on the same mount. The journal is removed.

    Raises EditedError (paths were edited since: nothing is changed), DriftError, UnableError, and UntrustedError
    for a journal that is damaged, interrupted or not there.
    """
    place = Journal(journal)
    state = place.state()
    if state is None:
        raise UntrustedError(f"no journal at {journal}", hint="there is nothing to undo")
    if state.state == "kept":
        raise UntrustedError(
            f"{journal} was rolled back, but for edits that were made since",
            hint="compare them by hand; it has the originals",
        )
    if state.state != "applied":
        raise UntrustedError(f"journal {journal} was interrupted ({state.state})", hint="recover it first")
    record, applied = load(place.apply_record), undoing.load_applied(place.applied)
    with _ground(place, state) as ground:
        try:
            _tidy(ground, applied)
            paths = undoing.edited(ground, record, applied)
        except OSError as error:
            _raise(error)
        if paths:
            raise EditedError(paths)
        check_writable(ground.directories, (step.path for step in record.moves if step.op != "set"))
        try:
            renaming = ((step.path, step.op == "mkdir") for step in record.moves if step.op != "set")
            times = touched(renaming, ground.directories)
            numbers = _choose(ground, [step.path for step in record.moves])
            stages = {step.slot: number for step, number in zip(record.moves, numbers, strict=True)}
            ground.enter("undo-staging")
            ground.make_stages()
            back = undoing.inverse(ground, record, applied, stages, times)
            save(place.undo_record, back)
            ground.sync()
            ground.enter("undoing")
        except BaseException as error:
            with suppress(OSError):
                _unstage_undo(ground)
            _raise(error)
        try:
            run(ground, back)
            check_originals(ground, back)
            _set_after(ground, back)
            ground.sync()
            ground.enter("finished")
        except BaseException as error:
            _back_out(ground, back, "undoing", error)
            _raise(error)
        with suppress(OSError):
            _end(ground, back)


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
            _remove_unborn(place)
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
        return
    with Ground(place, state) as ground:
        ground.open_stages()
        if state.state == "staging":
            ground.remove_stages()
            place.remove()
            lines.append(f"{state.workspace}: an interrupted apply had changed nothing yet")
        elif state.state == "applied":
            _tidy(ground, undoing.load_applied(place.applied))
        elif state.state == "undo-staging":
            _unstage_undo(ground)
            lines.append(f"{state.workspace}: an interrupted undo had changed nothing yet")
        elif state.state == "kept":
            left += kept.listed(place, load(place.apply_record))
            ground.remove_stages()
            ground.settle()
            ground.enter("kept")
        elif state.state == "finished":
            _end(ground, load(place.undo_record) if place.undo_record.exists() else None)
        else:
            what = "apply" if state.state == "applying" else "undo"
            record = load(place.apply_record if what == "apply" else place.undo_record, len(state.places))
            stuck = rollback(ground, record)
            stuck += clean(ground, record, stuck, undo=what == "undo")
            if stuck:
                left += kept.rescue(ground, stuck)
                ground.sync()
                ground.enter("kept")  # before the stages go: from here on the originals are only in the journal
            _finish(ground, record, "kept" if stuck else what)
            lines.append(f"{state.workspace}: an interrupted {what} was rolled back")


def _ground(place: Journal, state: State) -> Ground:
    try:
        return Ground(place, state)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"no workspace at {state.workspace}: {error.strerror}", hint="give an existing one") from error
    except OSError as error:
        _raise(error)


def _choose(ground: Ground, paths: list[str]) -> list[int]:
    places = Places(ground.journal, ground.directories, secrets.token_hex(8))
    try:
        numbers = choose(places, paths)
    finally:
        places.close()
    ground.places(tuple(places.places))
    return numbers


def _back_out(ground: Ground, record: Record, state: str, cause: BaseException) -> None:
    """Roll back in the process that failed. Raises UntrustedError where that is not possible now."""
    what = "apply" if state == "applying" else "undo"
    stuck: list[Stuck] = []
    try:
        # The state that failed to be written may have reached the disk: a crash from here on is rolled back too.
        with suppress(OSError):
            ground.enter(state)
        ground.directories.forget()
        stuck = rollback(ground, record)
        if not stuck:
            stuck = clean(ground, record, stuck, undo=what == "undo")
        if not stuck:
            _finish(ground, record, what)
            return
    except OSError as error:
        why = f"{error.strerror}"
    else:
        why = f"{stuck[0].path!r} was changed meanwhile"
    raise UntrustedError(
        f"{what} failed ({cause}) and could not be rolled back completely: {why}",
        hint=f"the originals are in {ground.journal.directory}; the next command rolls back what is left",
    ) from cause


def _finish(ground: Ground, record: Record, what: str) -> None:
    """After a rollback: remove the stages and (of an apply) the journal. Raises OSError."""
    ground.remove_stages()
    restore_times(ground, record)
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


def _tidy(ground: Ground, applied: undoing.Applied) -> None:
    """After a finished apply: remove the stages of the workspace. Raises OSError."""
    if any(stage.path for stage in ground.state.places):
        ground.remove_stages(applied.times)
        ground.settle()
        ground.enter("applied")


def _unstage_undo(ground: Ground) -> None:
    """Take back what an undo has staged; the originals stay. Raises OSError."""
    for number, fd in enumerate(ground.stages):
        if fd < 0 or ground.state.places[number].path:
            continue
        for name in os.listdir(fd):
            is_directory = os.path.isdir(ground.journal.stage / name) and not (ground.journal.stage / name).is_symlink()
            if is_directory or not original(ground, number, name):
                remove_name(fd, name)
    ground.remove_stages()
    ground.settle()
    ground.enter("applied")


def _end(ground: Ground, undone: Record | None) -> None:
    """Remove the stages, then the journal of a finished undo (or of an apply that was rolled back)."""
    if any(stage.path for stage in ground.state.places):
        ground.remove_stages()
        if undone is not None:
            _set_after(ground, undone)
        ground.settle()
        ground.enter("finished")  # nothing in the workspace is touched from here on
    ground.journal.remove()


def _set_after(ground: Ground, record: Record) -> None:
    for path, mtime_ns in record.after:
        set_mtime(ground.directories, path, mtime_ns)


def _remove_unborn(place: Journal) -> None:
    """Remove a journal that has no state: nothing was done yet, or all was and only the directory is left."""
    if place.apply_record.exists():
        raise damaged(place.directory / "state.json", "it is missing")
    with suppress(OSError):
        place.remove()


def _raise(error: BaseException) -> NoReturn:
    """Raise the error that the user is told: an OSError without a path of the workspace is an UnableError."""
    if not isinstance(error, OSError):
        raise error
    name = errno.errorcode.get(error.errno or 0, "?")
    what = f" ({os.fsdecode(error.filename)})" if isinstance(error.filename, str | bytes) else ""
    raise UnableError(
        f"cannot apply: {error.strerror} ({name}){what}; the workspace is as it was",
        hint="make room, or check modes and owners, then try again",
    ) from error
