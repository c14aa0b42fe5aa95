"""Sessions with ``--base live``, whose base is the workspace itself: how they are made, and watched while they run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from overlayws.atomic import write_atomic
from overlayws.errors import UnableError
from overlayws.session.session import Session
from overlayws.source.remove import remove_tree
from overlayws.upkeep import Talk

if TYPE_CHECKING:
    from overlayws.base.judge import Judge
    from overlayws.base.making import Base

BACKENDS = ("kernel", "userns")  # those that can stack the workspace itself
_SAID = (
    "--base live: the program sees what you change in the workspace while it runs, and a new file at once; "
    "a new name that a rule hides is hidden when it is seen, which may be too late"
)
_NOT_SCANNED = "--base live: only names were looked at: a secret inside an ordinary file is visible (--scan reads them)"


def check_backend(name: str) -> None:
    """Raises UnableError for a backend that copies."""
    if name not in ("auto", *BACKENDS):
        raise UnableError(
            f"--base live cannot be used with the backend {name}: it would copy the workspace, hidden files and all",
            hint=f"--backend {' or '.join(BACKENDS)}, or --base copy",
        )


def make_base(session: Session, judge: Judge, *, scan: bool, talk: Talk) -> Base:
    """The base of a session that is being made. Raises as ``build_live``."""
    from overlayws.base.live_build import build_live
    from overlayws.filter.saved import to_bytes
    from overlayws.watching import RULES

    session.base.mkdir(mode=0o700)
    base = build_live(session.workspace, session.base, judge, talk.progress, scan=scan)
    write_atomic(
        session.base / RULES,
        to_bytes(judge.rules, judge.also, judge.inspector is not None and judge.inspector.policy.env),
    )
    said = (_SAID,) if scan else (_SAID, _NOT_SCANNED)
    return replace(base, warnings=(*said, *base.warnings))


def make_own_git(session: Session, talk: Talk) -> None:
    """Put the program's own repository above the mask: one commit of what it is shown. Raises UnableError."""
    from overlayws.base.live_build import finish_own
    from overlayws.base.repository import make_repository_in
    from overlayws.layer.mount import Layer, check_entered
    from overlayws.upkeep import backend_of

    talk.progress("making the program's own repository", 0, 0)
    layer = session.layer
    scratch = session.directory / "making-git"
    scratch.mkdir(mode=0o700)
    try:
        (scratch / "empty").mkdir(mode=0o700)
        own = Layer(scratch / "empty", layer.lowerdir, scratch / "work", scratch / "merged", layer.below)
        with backend_of(session).mounted(own) as mount:
            make_repository_in(layer.lowerdir, mount.merged, mount.enter)
            check_entered(mount)
        finish_own(session.workspace, session.base)  # it was an upperdir meanwhile
    finally:
        remove_tree(scratch)


def note_applied(session: Session, paths: Iterable[str]) -> None:
    """After an apply: what it wrote at ``paths`` is the base from now on, no edit of the user's."""
    if session.base_mode == "live":
        from overlayws.base.live_manifest import LiveManifest, write_again

        with LiveManifest(session.manifest, session.workspace) as manifest:
            write_again(session.manifest, manifest.identities(paths))


def note_undone(session: Session, originals: Iterable[tuple[str, int, int]]) -> None:
    """After an undo: the ``originals`` (path, inode, ctime in ns as the apply found them) that had not drifted are the
    base again, although their ctimes are new."""
    if session.base_mode == "live":
        from overlayws.base.live_manifest import LiveManifest, write_again

        with LiveManifest(session.manifest, session.workspace) as manifest:
            paths = [path for path, ino, ctime in originals if manifest.was_base(path, ino, ctime)]
            write_again(session.manifest, manifest.identities(paths))


@contextmanager
def watched(session: Session, talk: Talk) -> Iterator[None]:
    """While the context is open, what happens in the workspace under a live session is watched; then it is told.

    Before it opens, what became a secret since the start is hidden. A frozen base needs none of this.
    """
    if session.base_mode != "live":
        yield
        return
    from overlayws.base.watch import Watch
    from overlayws.watching import Watcher

    try:
        watch = Watch()
    except OSError as error:
        raise UnableError(f"cannot watch the workspace: inotify: {error.strerror}", hint="use --base copy") from error
    with watch:
        watcher = Watcher(session, talk, watch)
        watcher.look_at("")
        if watch.full:
            talk.warning("not all of the workspace is watched: fs.inotify.max_user_watches is too small")
        wake, end = os.pipe()
        thread = threading.Thread(target=watcher.follow, args=(wake,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.close(end)  # the other end can then be read
            thread.join()
            os.close(wake)
            watcher.tell()
