"""Keeping the sessions: what a crash left is finished or rolled back, what is finished is removed, and what this
machine can do is found out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from overlayws.atomic import fsync_path
from overlayws.errors import NotStartedError, OverlaywsError, UnableError
from overlayws.session.places import default_home
from overlayws.session.record import DamagedSession
from overlayws.session.session import Session
from overlayws.session.store import Store, probing

if TYPE_CHECKING:
    from overlayws.base.manifest import Manifest
    from overlayws.base.shelf import Shelf
    from overlayws.layer.mount import Backend
    from overlayws.run.sandbox import Sandbox

T = TypeVar("T")
_GIT_PATH = "/usr/local/bin:/usr/bin:/bin"  # where git is looked for (base/repository.py, changes/git.py)


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


def settled(store: Store, session: Session, talk: Talk) -> Session:
    """The session after whatever was interrupted in it was finished or rolled back. The lock is held."""
    from overlayws.layer.room import is_left

    if not session.doing and not is_left(session.layer.upperdir):
        return session
    from overlayws.apply.lock import workspace_lock
    from overlayws.apply.recover import recover as recover_journals

    if session.doing in ("", "run", "capture"):
        from overlayws.layer.bounded import absorb
        from overlayws.run.kept import settle
        from overlayws.run.leftovers import clean

        clean(session.outside)  # before anything is read: a container may still be writing
        absorb(session.layer)
        try:
            settle(session.layer)
        except OSError as error:
            raise UnableError(f"what its last command changed cannot be put in place: {error}") from error
        check_layer(session)
        talk.warning(f"a command in session {session.name} was interrupted; {_left_of(session)}")
        # Entering and leaving completes the upperdir (the copy backend compares its private copy with the base).
        with backend_of(session).mounted(session.layer):
            pass
        session = captured(session, state="interrupted")
    elif session.doing == "drop":
        check_layer(session)
        session = captured(session, state=session.then or session.state)
    elif session.doing == "discard":
        drop_layer(session)
    else:
        with workspace_lock(store.home, session.workspace):
            for line in recover_journals(session.journals, session.workspace):
                talk.warning(line)
        # Done before the crash, but for the note of it?
        applied = session.journal in (journal.name for journal in applied_journals(session))
        if applied is (session.doing == "apply"):
            session = replace(session, state=session.then or session.state)
    session = replace(session, doing="", journal="", then="")
    store.save(session)
    tidied(session)
    return session


def _left_of(session: Session) -> str:
    """What is left of an interrupted command's changes."""
    if not session.runs or session.runs[-1].kept_in == "disk":
        return "what it changed until then is kept"
    from overlayws.run.kept import END, INCOMPLETE, checkpoint, put_aside

    when = checkpoint(session.layer)
    if when == END:
        return "all that it had changed is kept"
    kept = f"what it had changed at its last checkpoint ({when}) is kept" if when else "what it changed is lost"
    put_aside(session.layer)
    aside = session.directory / INCOMPLETE
    more = f"; what came of the rest is in {aside}, for you to look at" if aside.exists() else ""
    return f"{kept}: it was in the sandbox's memory{more}"


def check_layer(session: Session) -> None:
    """Raises DamagedSession where the upperdir is gone: nothing can be captured of it, or built on it."""
    if not session.layer.upperdir.is_dir():
        hint = f"overlayws discard {session.name}; what was captured before can still be shown and applied"
        raise DamagedSession(session.name, f"{session.layer.upperdir} is gone", hint=hint)


def tidied(session: Session) -> None:
    """Remove what the session, which was saved, does not use any more: captures, and what is known of a command that
    ended. The lock is held."""
    from overlayws.changes.freeze import drop_others
    from overlayws.run.kept import forget

    with suppress(OSError):  # the next capture tries again
        drop_others(session.captures, session.capture)
        forget(session.layer)


def captured(session: Session, *, state: str) -> Session:
    """The session in ``state``, with its changes frozen (changes/freeze.py); to be saved. The lock is held, and nothing
    of the session runs any more.

    The manifest of the base is made durable here: as long as nothing ran there is nothing that would be lost with it,
    and a start need not wait for the disk.

    Raises UnableError (no space), UntrustedError for a damaged base.
    """
    try:
        if state == "new":
            from overlayws.changes.capture import keep_nothing

            return replace(session, state=state, doing="", capture=keep_nothing(session.captures))
        from overlayws.changes.freeze import freeze

        prefix = backend_of(session).XATTR_PREFIX
        with manifest_of(session) as manifest:
            fsync_path(session.manifest)
            capture = freeze(session.layer, manifest, prefix, own_git=session.own_git, store=session.captures)
    except OSError as error:
        raise UnableError(
            f"cannot capture what session {session.name} changed: {error.strerror or error}",
            hint=f"free some space below {session.directory}; the next command tries again",
        ) from error
    return replace(session, state=state, doing="", capture=capture)


def manifest_of(session: Session) -> Manifest:
    """The manifest of the session's base. Raises ManifestError; UnableError where a live base is gone."""
    if session.base_mode == "live":
        from overlayws.base.live_manifest import LiveManifest

        return LiveManifest(session.manifest, session.workspace)
    from overlayws.base.manifest import Manifest

    return Manifest(session.manifest)


def backend_of(session: Session) -> Backend:
    """The backend that the session was started with. Raises DamagedSession where there is none of that name."""
    from overlayws.layer.all_backends import BACKENDS

    return _known(session, "backend", BACKENDS)


def sandbox_of(session: Session) -> Sandbox:
    """The sandbox that the session was started with. Raises DamagedSession where there is none of that name."""
    from overlayws.run.all_sandboxes import SANDBOXES

    return _known(session, "sandbox", SANDBOXES)()


def _known(session: Session, what: str, known: Mapping[str, T]) -> T:
    name = getattr(session, what)
    if name not in known:
        hint = f"another version made the session, or {session.directory / 'session.json'} is damaged"
        raise DamagedSession(session.name, f"unknown {what} {name!r}", hint=hint)
    return known[name]


def applied_journals(session: Session) -> list[Path]:
    """The journals of what is applied, the last one last. Raises JournalError for a damaged one."""
    from overlayws.apply.journal import all_journals

    return [j.directory for j in all_journals(session.journals) if (state := j.state()) and state.state == "applied"]


def drop_layer(session: Session) -> None:
    """Remove the upperdir; the journals stay, so that what was applied can still be undone. Raises OSError.

    The base may be shared: when no session needs it any more, the next ``start`` or ``gc`` removes it.
    """
    from overlayws.layer.bounded import drop as drop_image
    from overlayws.source.remove import remove_tree

    layer = session.layer
    drop_image(layer)
    for directory in (layer.upperdir, layer.workdir, layer.merged, session.captures, session.directory / "base"):
        remove_tree(directory)


def shelf_of(store: Store) -> Shelf:
    """The bases of the sessions in ``store``."""
    from overlayws.base.shelf import Shelf

    return Shelf(store.home / "bases")


def redactor(store: Store, session: Session) -> Callable[[str, bytes], bytes | None]:
    """What replaces the secrets of a file as the start of ``session`` did."""
    from overlayws.filter.contents import Inspector
    from overlayws.session.config import policy

    return Inspector(policy(shelf_of(store).key(session.workspace))).redacted


def drop_bases(store: Store, workspace: Path | None = None) -> list[str]:
    """Remove the bases that no session needs; what was removed. Of ``workspace``, whose lock is held, the newest stays
    for the next ``start``. Raises UnableError."""
    return shelf_of(store).drop(store.needs_base, workspace)


def recover(store: Store, *, talk: Talk = SILENT) -> None:
    """Find what crashed commands left, in all sessions, and finish it or roll it back. Damaged ones are left."""
    store.sweep()
    for session in store.all()[0]:
        if not session.doing and os.path.lexists(session.owed):
            _settle_engine(store, session)
        if session.doing and not store.is_locked(session):
            try:
                with store.locked_now(session.name):
                    settled(store, store.load(session.name), talk)
            except OverlaywsError as error:
                told = error.message.removeprefix(f"session {session.name}: ")
                hint = f" ({error.hint})" if error.hint else ""
                talk.warning(f"session {session.name}: {told}{hint}")


def _settle_engine(store: Store, session: Session) -> None:
    from overlayws.run.leftovers import settle

    with suppress(OverlaywsError), store.locked_now(session.name):
        settle(session.outside)


def seen(store: Store, session: Session) -> Session:
    """The session as it is told: with what was interrupted in the state that it is in, also where ``recover`` could
    not write that down (no space)."""
    if session.doing in ("run", "capture") and session.state != "interrupted" and not store.is_locked(session):
        return replace(session, state="interrupted")
    return session


def finished(store: Store, *, damaged: bool = False, held: str = "") -> list[str]:
    """The names of the sessions that ``gc`` may remove: applied, discarded, and on request those that can be neither
    read nor recovered. ``held`` is one whose lock the caller has.

    A session whose engine may have a container of it and does not answer (``owing``) stays, but on request: with it
    the note would be gone of what is to be removed there.
    """
    sessions, broken = store.all()
    names = [
        s.name
        for s in sessions
        if s.state in ("applied", "discarded") and not s.doing and (damaged or not os.path.lexists(s.owed))
    ]
    if damaged:
        names += [error.session for error in broken]
        names += [
            s.name for s in sessions if s.doing and (s.name == held or not store.is_locked(s))
        ]  # ``recover`` could not help
    return sorted(names)


def owing(store: Store) -> list[Session]:
    """The finished sessions that ``gc`` leaves because their engine could not be asked to remove what it has."""
    return [s for s in store.all()[0] if s.state in ("applied", "discarded") and os.path.lexists(s.owed)]


def gc(store: Store, names: Sequence[str], *, damaged: bool = False, talk: Talk = SILENT) -> list[str]:
    """Remove sessions and what crashes left; the names that were removed. Those in use are left, and those that are
    not ``finished`` any more: between a question and its answer a session may have been used."""
    removed = []
    for name in names:
        try:
            with store.locked_now(name):
                if name not in finished(store, damaged=damaged, held=name):
                    talk.warning(f"session {name} was used meanwhile: it is left")
                    continue
                store.remove(name)
            removed.append(name)
        except OverlaywsError as error:
            talk.warning(f"session {name}: {error.message}")
    store.sweep()
    return removed


def import_image(directory: Path, name: str) -> str:
    """Give the container engine a root file system as an image; its id. Raises UsageError, EngineError."""
    from overlayws.run.images import import_directory

    try:
        return import_directory(directory, name)
    except NotStartedError as error:
        raise UnableError(error.message, hint=error.hint) from error  # no command was to run: status 3


def doctor(store: Store | None = None) -> dict[str, Any]:
    """What this machine can use, each found out by doing it once: backends, sandboxes, programs."""
    import shutil

    from overlayws.layer.all_backends import BACKENDS
    from overlayws.run.all_sandboxes import SANDBOXES
    from overlayws.run.trial import note, tried
    from overlayws.run.versions import container_programs, told

    store = store or default_store()

    def row(name: str, reason: str | None, note: str = "", *, auto: bool = True) -> dict[str, object]:
        return {"name": name, "usable": reason is None, "reason": reason or "", "note": note, "auto": auto}

    try:
        store.prepare()
        with probing(store.home, ".doctor-") as scratch:
            backends = [row(name, backend.unusable(scratch)) for name, backend in BACKENDS.items()]
    except (OSError, UnableError) as error:
        why = f"{error.message}; {error.hint}" if isinstance(error, UnableError) else f"{store.home}: {error.strerror}"
        backends = [row(name, why) for name in BACKENDS]
    sandboxes = []
    for name, load in SANDBOXES.items():
        sandbox = load()
        by_effect = name in ("docker", "gvisor") and any(one["usable"] for one in backends)
        if by_effect:
            with probing(store.home, ".probe-") as scratch:
                reason = tried(sandbox, scratch)
        else:
            reason = sandbox.unusable()
        said = "no protection, never chosen by auto" if name == "none" else note(name)
        sandboxes.append(row(name, reason, said, auto=name == "bwrap"))
    git = shutil.which("git", path=_GIT_PATH)
    programs = [row("git", None if git else "not installed: apt-get install git", git or "")]
    programs += [row(name, None, told(name, version)) for name, version in container_programs().items()]
    return {
        "backends": backends, "sandboxes": sandboxes, "programs": programs, "state": os.fspath(store.home),
    }  # fmt: skip
