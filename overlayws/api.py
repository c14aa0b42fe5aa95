"""The verbs: start, run, scan, diff, apply, discard, undo, gc. Each is a few calls of the stages.

Nothing here prints or exits. Talk goes through the callbacks of ``Talk``; errors are OverlaywsError.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from overlayws.errors import NotStartedError, OverlaywsError, UnableError, UntrustedError, UsageError
from overlayws.live import note_applied, note_undone, watched
from overlayws.session.record import DamagedSession
from overlayws.session.session import Session
from overlayws.session.store import Store
from overlayws.starting import Confinement as Confinement
from overlayws.starting import begun, bounds, capturing, ended, heard, noted
from overlayws.starting import explain as explain
from overlayws.starting import explained as explained
from overlayws.starting import preview as preview
from overlayws.starting import start as start
from overlayws.starting import writing as writing
from overlayws.upkeep import (
    SILENT,
    Talk,
    applied_journals,
    backend_of,
    captured,
    check_layer,
    default_store,
    drop_layer,
    redactor,
    sandbox_of,
    settled,
    tidied,
)
from overlayws.viewing import View as View
from overlayws.viewing import committed as committed
from overlayws.viewing import complete as complete
from overlayws.viewing import diff as diff
from overlayws.viewing import scan as scan
from overlayws.viewing import still as still
from overlayws.viewing import viewing as viewing

if TYPE_CHECKING:
    from overlayws.apply.plan import ApplyPlan
    from overlayws.changes.change import Change
    from overlayws.run.sandbox import RunResult


def run(
    session: Session,
    command: Sequence[str],
    *,
    store: Store | None = None,
    env: Sequence[str] = (),
    timeout: float | None = None,
    interactive: bool | None = None,
    capture: str | None = None,
    checkpoint_every: float | None = None,
    talk: Talk = SILENT,
) -> RunResult:
    """Run ``command`` in the session's sandbox, on its layer; when it returns, everything is captured.

    ``env``: NAME=VALUE, or NAME for the caller's own value. ``timeout`` and ``checkpoint_every`` in seconds.
    Raises NotStartedError where the command was not started, BusySession where another command runs in it; UnableError
    where it ran and could not be captured (the next command tries again).
    """
    from overlayws.run import runner
    from overlayws.session.spec import spec_of

    store = store or default_store()
    with store.locked(session):
        session = settled(store, store.load(session.name), talk)
        if session.state == "discarded":
            raise UsageError(f"session {session.name} was discarded", hint="overlayws start makes a new one")
        check_layer(session)
        sandbox, backend, before = sandbox_of(session), backend_of(session), session
        wanted = capturing(session, capture, checkpoint_every)
        spec = spec_of(wanted, sandbox, command, home=store.home, caller=os.environ, env=env, timeout=timeout)
        runner.check(spec)
        session = begun(session, spec)
        result, said = None, list[str]()
        try:
            store.save(session)
            # Only an unconfined program needs the mount at the workspace's own path. For a sandbox (which binds it
            # there inside) it would be a hole: an overlayws that is installed in the workspace would be run from the
            # program's own copy, outside of the sandbox.
            at = session.workspace if session.sandbox == "none" else None
            with watched(session, talk), backend.mounted(session.layer, at, bounds(spec)) as mount:
                result = runner.run(spec, mount, sandbox, interactive=interactive, notice=heard(talk, said))
            session = noted(session, said)
            store.save(session)
            session = captured(session, state="captured")
        except UnableError as error:
            with suppress(OverlaywsError):  # where it cannot be written down, the next command finds out by itself
                store.save(before if result is None else replace(session, state="interrupted", doing="capture"))
            if result is not None:
                error.hint = error.hint or f"free some space; then overlayws diff {session.name} tries again"
            if result is not None or isinstance(error, NotStartedError):
                raise
            raise NotStartedError(error.message, hint=error.hint) from error
        except UsageError:  # of the sandbox, which cannot do what was asked for: nothing was run
            with suppress(OverlaywsError):
                store.save(before)
            raise
        except BaseException:
            with suppress(OverlaywsError):
                store.save(replace(noted(session, said), state="interrupted"))
            raise
        session = ended(session, result)
        store.save(session)
        tidied(session)
    return result


def apply(
    session: Session,
    paths: Sequence[str] = (),
    *,
    store: Store | None = None,
    digest: str | None = None,
    dry_run: bool = False,
    on_conflict: str = "fail",
    skip_refused: bool = False,
    allow: Sequence[str] = (),
    xattrs: bool = False,
    umask: int = 0o022,
    talk: Talk = SILENT,
) -> ApplyPlan:
    """Bring the changes at or below ``paths`` (all, if none) to the workspace, all or nothing; the plan that was made.

    ``digest``: refuse unless the whole change set still has it. ``dry_run``: only plan. ``xattrs``: with the ``user.*``
    attributes. Raises ConflictError (nothing was written), UntrustedError for another digest or an incomplete capture,
    UnableError.
    """
    from overlayws.apply.attributes import accepted, left_out
    from overlayws.apply.earlier import earlier
    from overlayws.apply.execute import execute
    from overlayws.apply.lock import workspace_lock
    from overlayws.apply.plan import plan_apply
    from overlayws.apply.recover import recover as recover_journals
    from overlayws.changes.links import note

    store = store or default_store()
    with viewing(session, paths, store=store, talk=talk) as view:
        still(view, digest)
        complete(view)
        session = view.session

        def planned(changes: Sequence[Change]) -> ApplyPlan:
            return plan_apply(
                session.workspace, accepted(changes, xattrs), view.manifest, view.base, view.theirs,
                on_conflict=on_conflict, umask=umask, allow=frozenset(allow), left=left, journal=_next_journal(session),
                redact=redactor(store, session),
            )  # fmt: skip

        with workspace_lock(store.home, session.workspace, lambda: talk.notice(_waiting(session.workspace))):
            # What an earlier command could not tidy up is done first; mostly there is nothing.
            for line in recover_journals(session.journals, session.workspace):
                talk.warning(line)
            left, journal = earlier(applied_journals(session)), _next_journal(session)
            with _planning(store, session, journal):
                plan = planned(view.changeset.changes)
            said = (*note(view.changeset.links, (s.path for s in plan.steps)), *left_out(view.changeset, xattrs))
            plan = replace(plan, notes=(*plan.notes, *said))
            if dry_run or not view.changeset.changes:
                return plan
            whole = view.changeset.digest == view.whole.digest and not plan.refused
            then = "applied" if whole else "partly-applied"
            with _doing(store, session, "apply", journal, then):
                execute(plan, journal, view.theirs, skip_refused=skip_refused)
                note_applied(session, [step.path for step in plan.steps])
            if not whole:  # it may have been the last part
                left = earlier(applied_journals(session))
                rest = planned(view.whole.changes)
                then = "partly-applied" if rest.steps or rest.conflicts or rest.refused else "applied"
            store.save(replace(session, state=then))
    return plan


def undo(session: Session, *, store: Store | None = None, talk: Talk = SILENT) -> int:
    """Put the workspace back as it was before the session's last apply; how many paths that were.

    Raises EditedError where one of them was edited since (nothing is changed), UsageError if nothing was applied.
    """
    from overlayws.apply.execute import undo as undo_journal
    from overlayws.apply.journal import Journal
    from overlayws.apply.lock import workspace_lock
    from overlayws.apply.record import load

    store = store or default_store()
    with store.locked(session, lambda: talk.notice(f"waiting for another command on session {session.name}")):
        session = settled(store, store.load(session.name), talk)
        journals = applied_journals(session)
        if not journals:
            raise UsageError(f"nothing of session {session.name} is applied", hint="overlayws list shows the sessions")
        moves = load(Journal(journals[-1]).apply_record).moves
        count = len({move.path for move in moves})
        then = "partly-applied" if journals[:-1] else "captured"
        then = session.state if session.state == "discarded" else then
        with (
            workspace_lock(store.home, session.workspace, lambda: talk.notice(_waiting(session.workspace))),
            _doing(store, session, "undo", journals[-1], then),
        ):
            undo_journal(journals[-1])
            note_undone(session, [(m.path, m.old.ino, m.old.ctime_ns) for m in moves if m.old is not None])
        store.save(replace(session, state=then))
    return count


@contextmanager
def _doing(store: Store, session: Session, what: str, journal: Path, then: str) -> Iterator[None]:
    """``session.json`` says what is going on; a crash leaves it so, and the next command recovers."""
    store.save(replace(session, doing=what, journal=journal.name, then=then))
    try:
        yield
    except UntrustedError:
        raise  # the journal may be half-way: let the next command recover it
    except BaseException:
        store.save(session)
        raise


@contextmanager
def _planning(store: Store, session: Session, journal: Path) -> Iterator[None]:
    """The plan of an ordinary user may have to open directories: a crash then leaves something to recover."""
    if os.geteuid() == 0:
        yield
        return
    with _doing(store, session, "apply", journal, session.state):
        yield
    store.save(session)


def _waiting(workspace: Path) -> str:
    return f"waiting for another apply to {workspace}"


def _next_journal(session: Session) -> Path:
    numbers = [int(path.name) for path in session.journals.iterdir() if path.name.isdigit()]
    return session.journals / f"{max(numbers, default=0) + 1:04d}"


def discard(
    session: Session,
    paths: Sequence[str] = (),
    *,
    store: Store | None = None,
    digest: str | None = None,
    talk: Talk = SILENT,
) -> int:
    """Drop the changes at or below ``paths``, or all of them with base and upperdir; how many were dropped.

    ``digest``: refuse (UntrustedError) unless the whole change set still has it.

    What was applied stays applied, and can still be undone. A discarded session runs nothing any more. Where one half
    of a rename is dropped, a warning names the other, which stays.
    """
    from overlayws.changes.rename import halves
    from overlayws.changes.shown import listed
    from overlayws.layer.mount import MountError
    from overlayws.layer.restore import Replaced, restore
    from overlayws.layer.whiteout import Marks

    store = store or default_store()
    if paths:
        with viewing(session, paths, store=store, talk=talk) as view:
            still(view, digest)
            check_layer(view.session)
            marks = Marks(backend_of(view.session).XATTR_PREFIX)
            for line in halves(view.whole.renames, view.changeset.changes):
                talk.warning(line)
            session = replace(view.session, doing="drop", then=view.session.state)
            store.save(session)
            try:
                with writing(store):
                    paths = [change.path for change in view.changeset.changes]
                    restore(session.layer, marks, paths, view.manifest.holds)
            except Replaced:  # nothing was changed
                store.save(view.session)
                raise
            session = replace(captured(session, state=session.then), then="")
            store.save(session)
            tidied(session)
            return len(listed(view.changeset))
    if digest is not None:
        with viewing(session, store=store, talk=talk) as view:
            still(view, digest)
            _drop(store, view.session)
        return 0
    with store.locked(session, lambda: talk.notice(f"waiting for another command on session {session.name}")):
        try:
            session = settled(store, store.load(session.name), talk)
        except (DamagedSession, MountError):  # it is given up anyway
            session = replace(store.load(session.name), doing="", journal="", then="")
        _drop(store, session)
    return 0


def _drop(store: Store, session: Session) -> None:
    # The state comes first: after a crash in between nobody takes half a change set for a whole one.
    store.save(replace(session, state="discarded", doing="discard"))
    with writing(store):
        drop_layer(session)
    store.save(replace(session, state="discarded"))
