"""execute, undo: an apply as one transaction. docs/apply.md has the protocol and what each crash leads to.

All new contents are staged and made durable, then the record of what will happen, then every name is swapped; the
originals end in the stage, where undo finds them. An error or a signal in between rolls back at once, a crash
``recover``. The caller holds ``workspace_lock``.
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
from overlayws.apply.conflicts import ConflictError
from overlayws.apply.journal import Ground, Journal, State
from overlayws.apply.prepare import check_writable, choose, prepare, touched
from overlayws.apply.record import Record, load, save
from overlayws.apply.recover import end, finish, set_after, tidy, unstage_undo
from overlayws.apply.rollback import Stuck, clean, rollback
from overlayws.apply.stage import Places
from overlayws.apply.step import Action, ApplyPlan, Source
from overlayws.apply.transaction import check_originals, drift, run
from overlayws.beneath import split
from overlayws.changes.contents import Contents
from overlayws.errors import OverlaywsError, UnableError, UntrustedError, UsageError
from overlayws.source.entry import Entry


class EditedError(OverlaywsError):
    """Undo would overwrite edits that were made since the apply, so nothing is written. ``paths`` has them."""

    def __init__(self, paths: list[str]) -> None:
        shown = ", ".join(map(repr, paths[:5])) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
        super().__init__(f"edited since the apply: {shown}", hint="put these back as apply left them, then undo")
        self.paths = tuple(paths)


def execute(plan: ApplyPlan, journal: Path, theirs: Contents, *, skip_refused: bool = False) -> bool:
    """Apply a plan to its workspace, all or nothing; ``journal`` is a new directory that ``undo`` needs.

    Returns False where there was nothing to do (then no journal is made). Raises ConflictError (nothing written;
    also for refused changes unless ``skip_refused``), DriftError (an edit came in between), UnableError (no
    permission, no space, an I/O error), ChangedSince (the accepted contents are not the reviewed ones): the
    workspace is as before. UntrustedError where rolling back failed too: ``recover`` will do it.
    """
    refused = () if skip_refused else plan.refused
    if plan.conflicts or refused:
        raise ConflictError.of(plan.conflicts, refused)
    if not plan.steps:
        return False
    place = Journal(journal)
    with _ground(place, State("staging", plan.workspace, plan.root[1], ())) as ground:
        if os.fstat(ground.directories.root).st_dev != plan.root[0]:
            raise drift(str(plan.workspace))
        ground.directories.may = plan.locked
        renaming = [step for step in plan.steps if step.action not in (Action.OPEN, Action.SET)]
        opened = {step.path for step in plan.steps if step.action is Action.OPEN}
        written = [step.path for step in renaming if split(step.path)[0] not in opened]
        if not plan.locked:
            check_writable(ground.directories, written)
        place.create()
        try:
            if plan.locked:  # which opens them, and that is written down in the journal
                check_writable(ground.directories, written)
            vanishing = ((step.path, step.action is Action.REMOVE_DIRECTORY) for step in renaming)
            times = touched(vanishing, ground.directories)
            numbers = _choose(ground, [step.path for step in plan.steps])
            ground.enter("staging")
            ground.make_stages()
            record = prepare(ground, plan.steps, numbers, theirs, times)
            save(place.apply_record, record)
            ground.sync()
            ground.enter("applying")
            ground.directories.may = None
        except BaseException as error:
            with suppress(OSError):
                ground.remove_stages()
                ground.directories.close_opened()
                # The state that failed to be written may have reached the disk: it wants the record.
                ground.enter("finished")
                place.remove()
            _raise(error)
        try:
            run(ground, (move for move in record.moves if not move.locks))
            check_originals(ground, record)
            copied = kept.collect(ground, record)
            applied = undoing.look(ground, record, copied, _accepted(plan))
            run(ground, (move for move in record.moves if move.locks))
            undoing.save_applied(place.applied, applied)
            ground.sync()
            ground.enter("applied")
        except BaseException as error:
            _back_out(ground, record, "applying", error)
            _raise(error)
        # Applied, whatever happens from here on; what is left of the stages is for recover.
        with suppress(OSError):
            tidy(ground, applied, record)
    return True


def _accepted(plan: ApplyPlan) -> dict[str, Entry]:
    written = (Action.WRITE, Action.LINK)
    return {s.path: s.after for s in plan.steps if s.after and s.action in written and s.source is Source.THEIRS}


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
            tidy(ground, applied, record)
            paths = undoing.edited(ground, record, applied)
            if paths:
                raise EditedError(paths)
            check_writable(ground.directories, (step.path for step in record.moves if step.op != "set"))
        except BaseException as error:
            with suppress(OSError):
                ground.directories.close_opened()
            _raise(error)
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
                unstage_undo(ground)
            _raise(error)
        try:
            run(ground, (move for move in back.moves if not move.locks))
            check_originals(ground, back)
            set_after(ground, back)
            run(ground, (move for move in back.moves if move.locks))
            ground.sync()
            ground.enter("finished")
        except BaseException as error:
            _back_out(ground, back, "undoing", error)
            _raise(error)
        with suppress(OSError):
            end(ground, back)


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
            finish(ground, record, what)
            return
    except OSError as error:
        why = f"{error.strerror}"
    else:
        why = f"{stuck[0].path!r} was changed meanwhile"
    raise UntrustedError(
        f"{what} failed ({cause}) and could not be rolled back completely: {why}",
        hint=f"the originals are in {ground.journal.directory}; the next command rolls back what is left",
    ) from cause


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
