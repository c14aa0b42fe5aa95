"""The verbs: start, run, scan, diff, apply, discard, undo, gc. Each is a few calls of the stages.

Nothing here prints or exits. Talk goes through the callbacks of ``Talk``; errors are OverlaywsError.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from overlayws.base.manifest import Manifest
from overlayws.errors import NotStartedError, OverlaywsError, UnableError, UntrustedError, UsageError
from overlayws.session.places import checked_workspace, homes, user_config
from overlayws.session.session import Run, Session
from overlayws.session.store import Store
from overlayws.upkeep import (
    SILENT,
    Talk,
    applied_journals,
    backend_of,
    default_store,
    drop_bases,
    drop_layer,
    recover,
    sandbox_of,
    settled,
    shelf_of,
)

if TYPE_CHECKING:
    from overlayws.apply.plan import ApplyPlan
    from overlayws.changes.change import Change, ChangeSet
    from overlayws.changes.contents import Contents
    from overlayws.run.sandbox import RunResult


@dataclass(frozen=True, slots=True)
class Confinement:
    """How the commands of a session are run."""

    sandbox: str = "auto"
    network: str = "none"
    read_only: bool = False
    tools: tuple[str, ...] = ()  # host directories shown read-only


def start(
    workspace: Path | str,
    *,
    store: Store | None = None,
    name: str | None = None,
    backend: str = "auto",
    confinement: Confinement | None = None,
    git: str = "auto",
    ignore_files: Sequence[Path] = (),
    hide: Sequence[str] = (),
    show: Sequence[str] = (),
    talk: Talk = SILENT,
) -> Session:
    """Make a session of ``workspace``: a sanitized base, an empty upperdir. Nothing is run yet: see ``run``.

    Raises UsageError (not a workspace, a bad pattern, a name that is taken), UnableError (no backend, no sandbox,
    unreadable files, no space).
    """
    from overlayws.filter.contents import ContentPolicy, Inspector
    from overlayws.filter.sources import load_filter
    from overlayws.layer.all_backends import choose as choose_backend
    from overlayws.run.all_sandboxes import choose as choose_sandbox

    store = store or default_store()
    confinement = confinement or Confinement()
    if not os.fspath(workspace):
        raise UsageError("an empty path is no workspace", hint="name a directory")
    root = checked_workspace(Path(workspace), store.home)
    store.prepare()
    recover(store, talk=talk)
    rules = load_filter(root, ignore_files=ignore_files, hide=hide, show=show, user_rules=_user_rules())
    backend_name, _, passed_over = choose_backend(backend, store.home)
    sandbox_name, _, also_passed_over = choose_sandbox(confinement.sandbox)
    for line in (*passed_over, *also_passed_over):
        talk.notice(line)
    talk.notice(f"backend {backend_name}, sandbox {sandbox_name}")
    own_git = git == "fresh" or (git == "auto" and (root / ".git").exists())
    shelf = shelf_of(store)
    waiting = f"waiting for another start on {root}"
    # Held until the session is saved: gc must not take the base away before.
    with _writing(store), shelf.locked(root, lambda: talk.notice(waiting)), store.creating(name) as (final, scratch):
        inspector = Inspector(ContentPolicy(key=shelf.key(root)))
        shelved = shelf.obtain(root, rules, own_git=own_git, inspector=inspector, progress=talk.progress)
        base = shelved.base
        session = Session(
            name=final,
            directory=scratch,
            workspace=root,
            created=_now(),
            backend=backend_name,
            sandbox=sandbox_name,
            own_git=own_git,
            network=confinement.network,
            read_only=confinement.read_only,
            tools=confinement.tools,
            warnings=base.warnings,
            base_id=shelved.id,
        )
        for directory in (session.layer.upperdir, session.layer.workdir, session.layer.merged):
            directory.mkdir(mode=0o700)
        session.journals.mkdir(mode=0o700)
        os.chmod(session.layer.upperdir, base.lowerdir.stat().st_mode & 0o777)
        store.save(session)
    with suppress(OverlaywsError), shelf.locked(root):
        drop_bases(store, root)
    for warning in base.warnings:
        talk.warning(warning)
    return store.load(final)


@contextmanager
def _writing(store: Store) -> Iterator[None]:
    """What goes wrong while files are written is an UnableError that names the state directory."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        full = getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "full" in str(error)
        raise UnableError(
            f"cannot write to the state directory {store.home}: {getattr(error, 'strerror', None) or error}",
            hint="free some space, or set OVERLAYWS_HOME to a directory with more" if full else "check its disk",
        ) from error


def run(
    session: Session,
    command: Sequence[str],
    *,
    store: Store | None = None,
    env: Sequence[str] = (),
    timeout: float | None = None,
    interactive: bool | None = None,
    talk: Talk = SILENT,
) -> RunResult:
    """Run ``command`` in the session's sandbox, on its layer; when it returns, everything is captured.

    ``env``: NAME=VALUE, or NAME for the caller's own value. ``timeout`` in seconds.
    Raises NotStartedError where the command was not started, BusySession where another command runs in it; UnableError
    where it ran and could not be captured (the next command tries again).
    """
    from overlayws.run.environment import environment
    from overlayws.run.runner import check
    from overlayws.run.runner import run as run_command
    from overlayws.run.sandbox import RunSpec

    store = store or default_store()
    with store.locked(session):
        session = settled(store, store.load(session.name), talk)
        if session.state == "discarded":
            raise UsageError(f"session {session.name} was discarded", hint="overlayws start makes a new one")
        spec = RunSpec(
            command=tuple(command),
            workspace=os.fspath(session.workspace),
            env=environment(os.environ, env, tools=session.tools),
            network=session.network,
            read_only=session.read_only,
            tools=session.tools,
            timeout=timeout,
            hidden=(os.fspath(store.home), *map(os.fspath, homes())),
        )
        sandbox, backend = sandbox_of(session), backend_of(session)
        check(spec)
        before = session
        session = replace(session, state="running", doing="run", runs=(*session.runs, Run(spec.command, _now())))
        result = None
        try:
            store.save(session)
            # Only an unconfined program needs the mount at the workspace's own path. For a sandbox (which binds it
            # there inside) it would be a hole: an overlayws that is installed in the workspace would be run from the
            # program's own copy, outside of the sandbox.
            at = session.workspace if session.sandbox == "none" else None
            with backend.mounted(session.layer, at) as mount:
                result = run_command(spec, mount, sandbox, interactive=interactive)
        except UnableError as error:
            with suppress(OverlaywsError):  # where it cannot be written down, the next command finds out by itself
                store.save(before if result is None else replace(session, state="interrupted", doing="capture"))
            if result is not None or isinstance(error, NotStartedError):
                raise
            raise NotStartedError(error.message, hint=error.hint) from error
        except BaseException:
            with suppress(OverlaywsError):
                store.save(replace(session, state="interrupted", doing="capture"))
            raise
        done = replace(session.runs[-1], exit_code=result.exit_code, duration=round(result.duration, 3))
        store.save(replace(session, state="captured", doing="", runs=(*session.runs[:-1], done)))
    return result


@dataclass(frozen=True, slots=True)
class View:
    """A session's changes, while its lock is held: the selection, the whole digest, and both sides' bytes."""

    session: Session
    changeset: ChangeSet  # the selection
    digest: str  # of all changes
    manifest: Manifest
    base: Contents
    theirs: Contents


@contextmanager
def viewing(
    session: Session, paths: Sequence[str] = (), *, store: Store | None = None, talk: Talk = SILENT
) -> Iterator[View]:
    """The changes of ``session`` at or below ``paths`` (all, if none). Raises UsageError for a path without one."""
    from overlayws.changes.contents import Contents
    from overlayws.changes.scan import scan as scan_layer
    from overlayws.changes.shown import select

    store = store or default_store()
    with store.locked(session, lambda: talk.notice(f"waiting for another command on session {session.name}")):
        session = settled(store, store.load(session.name), talk)
        if session.state == "discarded":
            raise UsageError(f"session {session.name} was discarded: its changes are gone", hint="overlayws list")
        layer, prefix = session.layer, backend_of(session).XATTR_PREFIX
        with (
            Manifest(session.manifest) as manifest,
            Contents(layer.lowerdir) as base,
            Contents(layer.upperdir) as theirs,
        ):
            changeset = scan_layer(layer, manifest, prefix, own_git=session.own_git)
            yield View(session, select(changeset, paths), changeset.digest, manifest, base, theirs)


def scan(session: Session, *, store: Store | None = None, talk: Talk = SILENT) -> ChangeSet:
    """Everything that the session's commands changed, from base and upperdir alone."""
    with viewing(session, store=store, talk=talk) as view:
        return view.changeset


def diff(session: Session, paths: Sequence[str] = (), *, store: Store | None = None, context: int = 3) -> bytes:
    """The changes as a patch in git's format, which ``git apply`` accepts."""
    from overlayws.changes.render import patch

    with viewing(session, paths, store=store) as view:
        return patch(view.changeset, view.base, view.theirs, context=context)


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
    umask: int = 0o022,
    talk: Talk = SILENT,
) -> ApplyPlan:
    """Bring the changes at or below ``paths`` (all, if none) to the workspace, all or nothing; the plan that was made.

    ``digest``: refuse unless the whole change set still has it. ``dry_run``: only plan. Raises ConflictError
    (nothing was written), UntrustedError for another digest or an incomplete capture, UnableError.
    """
    from overlayws.apply.execute import execute
    from overlayws.apply.lock import workspace_lock
    from overlayws.apply.plan import plan_apply

    store = store or default_store()
    with viewing(session, paths, store=store, talk=talk) as view:
        if digest is not None and digest != view.digest:
            raise UntrustedError(
                f"the changes of session {session.name} are {view.digest} now, not {digest}",
                hint="look at them again: overlayws diff",
            )
        if view.changeset.problems:
            raise UntrustedError(
                f"the capture is not complete: {view.changeset.problems[0]}",
                hint="discard the session, or apply only paths that are whole",
            )
        session = view.session

        def planned(changes: Sequence[Change]) -> ApplyPlan:
            return plan_apply(
                session.workspace, changes, view.manifest, view.base, view.theirs,
                on_conflict=on_conflict, umask=umask, allow=frozenset(allow),
            )  # fmt: skip

        with workspace_lock(store.home, session.workspace, lambda: talk.notice(_waiting(session.workspace))):
            plan = planned(view.changeset.changes)
            if dry_run or not view.changeset.changes:
                return plan
            whole = view.changeset.digest == view.digest and not plan.refused
            journal, then = _next_journal(session), "applied" if whole else "partly-applied"
            with _doing(store, session, "apply", journal, then):
                execute(plan, journal, view.theirs, skip_refused=skip_refused)
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
        count = len(load(Journal(journals[-1]).apply_record).moves)
        then = "partly-applied" if journals[:-1] else "captured"
        then = session.state if session.state == "discarded" else then
        with (
            workspace_lock(store.home, session.workspace, lambda: talk.notice(_waiting(session.workspace))),
            _doing(store, session, "undo", journals[-1], then),
        ):
            undo_journal(journals[-1])
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


def _waiting(workspace: Path) -> str:
    return f"waiting for another apply to {workspace}"


def _next_journal(session: Session) -> Path:
    numbers = [int(path.name) for path in session.journals.iterdir() if path.name.isdigit()]
    return session.journals / f"{max(numbers, default=0) + 1:04d}"


def discard(session: Session, paths: Sequence[str] = (), *, store: Store | None = None, talk: Talk = SILENT) -> int:
    """Drop the changes at or below ``paths``, or all of them with base and upperdir; how many were dropped.

    What was applied stays applied, and can still be undone. A discarded session runs nothing any more.
    """
    from overlayws.changes.shown import listed
    from overlayws.layer.restore import restore
    from overlayws.layer.whiteout import Marks

    store = store or default_store()
    if paths:
        with viewing(session, paths, store=store, talk=talk) as view:
            marks = Marks(backend_of(view.session).XATTR_PREFIX)
            with _writing(store):
                restore(view.session.layer, marks, [change.path for change in view.changeset.changes])
            return len(listed(view.changeset))
    with store.locked(session, lambda: talk.notice(f"waiting for another command on session {session.name}")):
        session = settled(store, store.load(session.name), talk)
        # The state comes first: after a crash in between nobody takes half a change set for a whole one.
        store.save(replace(session, state="discarded", doing="discard"))
        with _writing(store):
            drop_layer(session)
        store.save(replace(session, state="discarded"))
    return 0


def _user_rules() -> bytes | None:
    try:
        return (user_config() / "ignore").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {user_config() / 'ignore'}: {error.strerror}") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def explain(
    workspace: Path,
    paths: Sequence[str],
    *,
    ignore_files: Sequence[Path] = (),
    hide: Sequence[str] = (),
    show: Sequence[str] = (),
    talk: Talk = SILENT,
) -> list[tuple[str, bool, str]]:
    """(path, hidden, why) for paths relative to ``workspace``, as ``start`` would decide now."""
    from overlayws.base.explain import explain as explain_paths
    from overlayws.filter.sources import load_filter

    rules = load_filter(workspace, ignore_files=ignore_files, hide=hide, show=show, user_rules=_user_rules())
    found = explain_paths(workspace, rules, paths)
    for warning in rules.warnings:  # some are known only after the walk
        talk.warning(warning)
    return found
