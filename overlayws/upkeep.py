"""Keeping the sessions: what a crash left is finished or rolled back, what is finished is removed, and what this
machine can do is found out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from overlayws.errors import OverlaywsError
from overlayws.session.places import default_home
from overlayws.session.session import Session
from overlayws.session.store import Store


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
                with store.locked_now(session.name):
                    settled(store, store.load(session.name), talk)
            except OverlaywsError as error:
                talk.warning(f"session {session.name}: {error.message}")


def finished(store: Store, *, damaged: bool = False) -> list[str]:
    """The names of the sessions that ``gc`` may remove: applied, discarded, and on request the damaged ones."""
    sessions, broken = store.all()
    names = [s.name for s in sessions if s.state in ("applied", "discarded") and not s.doing]
    return sorted([*names, *(error.session for error in broken if damaged)])


def gc(store: Store, names: Sequence[str], *, talk: Talk = SILENT) -> list[str]:
    """Remove sessions and what crashes left; the names that were removed. Those in use are left."""
    removed = []
    for name in names:
        try:
            with store.locked_now(name):
                store.remove(name)
            removed.append(name)
        except OverlaywsError as error:
            talk.warning(f"session {name}: {error.message}")
    store.sweep()
    return removed


def doctor(store: Store | None = None) -> dict[str, Any]:
    """What this machine can use, each found out by doing it once: backends, sandboxes, programs."""
    import shutil
    import tempfile

    from overlayws.layer.all_backends import BACKENDS
    from overlayws.run.all_sandboxes import SANDBOXES

    store = store or default_store()
    store.prepare()

    def row(name: str, reason: str | None, note: str = "", *, auto: bool = True) -> dict[str, object]:
        return {"name": name, "usable": reason is None, "reason": reason or "", "note": note, "auto": auto}

    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=store.home) as scratch:
        backends = [row(name, backend.unusable(Path(scratch))) for name, backend in BACKENDS.items()]
    sandboxes = [
        row(
            name,
            sandbox.unusable(),
            "no protection, never chosen by auto" if name == "none" else "",
            auto=name != "none",
        )
        for name, sandbox in SANDBOXES.items()
    ]
    git = shutil.which("git")
    programs = [row("git", None if git else "not installed: apt-get install git", git or "")]
    return {
        "backends": backends, "sandboxes": sandboxes, "programs": programs, "state": os.fspath(store.home),
    }  # fmt: skip
