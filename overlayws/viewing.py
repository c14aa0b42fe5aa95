"""A session's changes, to look at: scan, diff and the program's own commits. See api.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overlayws.errors import UnableError, UntrustedError, UsageError
from overlayws.session.session import Session
from overlayws.session.store import Store
from overlayws.upkeep import SILENT, Talk, default_store, manifest_of, settled

if TYPE_CHECKING:
    from overlayws.base.manifest import Manifest
    from overlayws.changes.change import ChangeSet
    from overlayws.changes.commits import Commits
    from overlayws.changes.contents import Contents


@dataclass(frozen=True, slots=True)
class View:
    """A session's changes, while its lock is held: the selection, the whole digest, and both sides' bytes."""

    session: Session
    changeset: ChangeSet  # the selection
    whole: ChangeSet
    manifest: Manifest
    base: Contents
    theirs: Contents


@contextmanager
def viewing(
    session: Session, paths: Sequence[str] = (), *, store: Store | None = None, talk: Talk = SILENT
) -> Iterator[View]:
    """The changes of ``session`` at or below ``paths`` (all, if none). Raises UsageError for a path without one."""
    from overlayws.changes.contents import LiveContents, TreeContents
    from overlayws.changes.frozen import DamagedCapture, thaw
    from overlayws.changes.shown import select

    store = store or default_store()
    with store.locked(session, lambda: talk.notice(f"waiting for another command on session {session.name}")):
        session = settled(store, store.load(session.name), talk)
        if session.state == "discarded":
            raise UsageError(f"session {session.name} was discarded: its changes are gone", hint="overlayws list")
        with manifest_of(session) as manifest:
            try:
                changeset, theirs = thaw(session.captures, session.capture)
            except DamagedCapture as error:
                raise DamagedCapture(f"session {session.name}: {error.message}", hint=error.hint) from None
            layer = session.layer
            with theirs, LiveContents(layer, theirs) if layer.below else TreeContents(layer.lowerdir) as base:
                yield View(session, select(changeset, paths), changeset, manifest, base, theirs)


def scan(session: Session, *, store: Store | None = None, talk: Talk = SILENT) -> ChangeSet:
    """Everything that the session's commands changed, as it was frozen after the last of them."""
    with viewing(session, store=store, talk=talk) as view:
        return view.changeset


@contextmanager
def committed(session: Session, *, store: Store | None = None, talk: Talk = SILENT) -> Iterator[Commits]:
    """The commits that the session's commands made in the repository of their own, checked by git's fsck.

    Raises UsageError where the session has none, UntrustedError where its objects are not sound.
    """
    from overlayws.changes.commits import program_commits

    with viewing(session, store=store, talk=talk) as view:
        session = view.session
        if not session.own_git:
            raise UsageError(
                f"session {session.name} has no repository of its own", hint="overlayws start --git fresh gives it one"
            )
        lowerdir = session.layer.lowerdir
        with program_commits(session.captures, session.capture, lowerdir, scratch=session.directory) as found:
            yield found


def diff(session: Session, paths: Sequence[str] = (), *, store: Store | None = None, context: int = 3) -> bytes:
    """The changes as a patch in git's format, which ``git apply`` accepts.

    Raises UnableError where a content is too large for a patch: nothing is left out.
    """
    from overlayws.changes.git import EVERYTHING
    from overlayws.changes.render import patch

    with viewing(session, paths, store=store) as view:
        made, left_out = patch(view.changeset, view.base, view.theirs, context=context, limits=EVERYTHING)
    if left_out:
        raise UnableError(f"{left_out[0].path!r} is too large for a patch", hint="leave it out: name the other paths")
    return made


def still(view: View, digest: str | None) -> None:
    """Raises UntrustedError unless the whole change set has ``digest`` (or None was asked for)."""
    if digest is not None and digest != view.whole.digest:
        raise UntrustedError(
            f"the changes of session {view.session.name} are {view.whole.digest} now, not {digest}",
            hint="look at them again: overlayws diff",
        )


def complete(view: View) -> None:
    """Raises UntrustedError where a part of the selection could not be captured."""
    if view.changeset.problems:
        raise UntrustedError(
            f"the capture is not complete: {view.changeset.problems[0]}",
            hint="discard the session, or apply only paths that are whole",
        )
