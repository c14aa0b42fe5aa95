"""The verbs: start, run, scan, diff, apply, discard, undo, gc. Each is a few calls of the stages.

Nothing here prints or exits. Talk goes through the callbacks of ``Talk``; errors are OverlaywsError.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from overlayws.base.manifest import Manifest
from overlayws.errors import NotStartedError, OverlaywsError, UnableError, UntrustedError, UsageError
from overlayws.session.places import checked_workspace, default_home, user_config
from overlayws.session.session import Run, Session
from overlayws.session.store import Store

if TYPE_CHECKING:
    from overlayws.apply.plan import ApplyPlan
    from overlayws.changes.change import Change, ChangeSet
    from overlayws.run.sandbox import RunResult


@dataclass(frozen=True, slots=True)
class Talk:
    """Where a verb says what it does. The defaults say nothing."""

    notice: Callable[[str], None] = lambda text: None
    warning: Callable[[str], None] = lambda text: None
    progress: Callable[[str, int, int], None] = lambda what, done, total: None


SILENT = Talk()


def default_store() -> Store:
    """The sessions of this user."""
    return Store(default_home())


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
    from overlayws.base.build import build_base
    from overlayws.base.repository import make_repository
    from overlayws.filter.sources import load_filter
    from overlayws.layer.all_backends import choose as choose_backend
    from overlayws.run.all_sandboxes import choose as choose_sandbox

    store = store or default_store()
    confinement = confinement or Confinement()
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
    with store.creating(name) as (final, scratch):
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
        )
        for directory in (session.base, session.layer.upperdir, session.layer.workdir, session.layer.merged):
            directory.mkdir(mode=0o700)
        session.journals.mkdir(mode=0o700)
        base = build_base(root, session.base, rules, talk.progress)
        if own_git:
            talk.progress("making the program's own repository", 0, 0)
            make_repository(base.lowerdir)
        os.chmod(session.layer.upperdir, base.lowerdir.stat().st_mode & 0o777)
        session = replace(session, warnings=base.warnings)
        store.save(session)
    for warning in base.warnings:
        talk.warning(warning)
    return store.load(final)


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
    Raises NotStartedError where the command was not started, BusySession where another command runs in it.
    """
    from overlayws.layer.all_backends import BACKENDS
    from overlayws.run.all_sandboxes import SANDBOXES
    from overlayws.run.environment import environment
    from overlayws.run.runner import run as run_command
    from overlayws.run.sandbox import RunSpec

    store = store or default_store()
    with store.locked(session):
        session = _settled(store, store.load(session.name), talk)
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
        )
        sandbox = SANDBOXES[session.sandbox]
        before = session
        session = replace(session, state="running", doing="run", runs=(*session.runs, Run(spec.command, _now())))
        store.save(session)
        try:
            with BACKENDS[session.backend].mounted(session.layer, session.workspace) as mount:
                result = run_command(spec, mount, sandbox, interactive=interactive)
        except NotStartedError:
            store.save(before)
            raise
        except UnableError as error:
            store.save(before)
            raise NotStartedError(error.message, hint=error.hint) from error
        except BaseException:
            store.save(replace(session, state="interrupted", doing="capture"))
            raise
        done = replace(session.runs[-1], exit_code=result.exit_code, duration=round(result.duration, 3))
        store.save(replace(session, state="captured", doing="", runs=(*session.runs[:-1], done)))
    return result


def scan(session: Session, *, store: Store | None = None, talk: Talk = SILENT) -> ChangeSet:
    """Everything that the session's commands changed, from base and upperdir alone."""
    with _changes(session, store, talk) as (_, changeset, _manifest):
        return changeset


@contextmanager
def _changes(
    session: Session, store: Store | None, talk: Talk
) -> Iterator[tuple[Session, ChangeSet, Manifest]]:
    """The session, locked and settled, with its change set and its manifest."""
    from overlayws.changes.scan import scan as scan_layer
    from overlayws.layer.all_backends import BACKENDS

    store = store or default_store()
    with store.locked(session, lambda: talk.notice(f"waiting for another command on session {session.name}")):
        session = _settled(store, store.load(session.name), talk)
        if session.state == "discarded":
            raise UsageError(f"session {session.name} was discarded: its changes are gone", hint="overlayws list")
        with Manifest(session.manifest) as manifest:
            prefix = BACKENDS[session.backend].XATTR_PREFIX
            yield session, scan_layer(session.layer, manifest, prefix, own_git=session.own_git), manifest


def _settled(store: Store, session: Session, talk: Talk) -> Session:
    """The session after whatever was interrupted in it was finished or rolled back. The lock is held."""
    if not session.doing:
        return session
    from overlayws.apply.execute import recover as recover_journals
    from overlayws.layer.all_backends import BACKENDS

    if session.doing in ("run", "capture"):
        talk.warning(f"a command in session {session.name} was interrupted; what it changed until then is kept")
        # Entering and leaving completes the capture (the copy backend compares its private copy with the base).
        with BACKENDS[session.backend].mounted(session.layer):
            pass
        session = replace(session, state="interrupted", doing="")
    else:
        for line in recover_journals(session.journals, session.workspace):
            talk.warning(line)
        session = replace(session, doing="")
    store.save(session)
    return session


def recover(store: Store, *, talk: Talk = SILENT) -> None:
    """Find what crashed commands left, in all sessions, and finish it or roll it back. Damaged ones are left."""
    store.sweep()
    for session in store.all()[0]:
        if session.doing and not store.is_locked(session):
            try:
                with store.locked_now(session):
                    _settled(store, store.load(session.name), talk)
            except OverlaywsError as error:
                talk.warning(f"session {session.name}: {error.message}")


def _user_rules() -> bytes | None:
    try:
        return (user_config() / "ignore").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {user_config() / 'ignore'}: {error.strerror}") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
