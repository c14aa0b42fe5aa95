"""Sessions with ``--base live``, whose base is the workspace itself: how they are made, and watched while they run."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from overlayws.atomic import write_atomic
from overlayws.base.live_build import build_live, finish_own, hide_more
from overlayws.base.live_manifest import LiveManifest, write_again, write_inodes
from overlayws.base.manifest import Hidden
from overlayws.errors import OverlaywsError, UnableError
from overlayws.session.session import Session
from overlayws.source.remove import remove_tree
from overlayws.upkeep import Talk

if TYPE_CHECKING:
    from overlayws.base.build import Base
    from overlayws.base.judge import Judge
    from overlayws.base.live import Found
    from overlayws.base.watch import Event, Watch

BACKENDS = ("kernel", "userns")  # those that can stack the workspace itself
_SAID = (
    "--base live: the program sees what you change in the workspace while it runs, and a new file at once; "
    "a new name that a rule hides is hidden when it is seen, which may be too late"
)
_NOT_SCANNED = "--base live: only names were looked at: a secret inside an ordinary file is visible (--scan reads them)"
_SHOWN = 5
_RULES = "rules.json"


def check_backend(name: str) -> None:
    """Raises UnableError for a backend that copies."""
    if name not in ("auto", *BACKENDS):
        raise UnableError(
            f"--base live cannot be used with the backend {name}: it would copy the workspace, hidden files and all",
            hint=f"--backend {' or '.join(BACKENDS)}, or --base copy",
        )


def make_base(session: Session, judge: Judge, *, scan: bool, talk: Talk) -> Base:
    """The base of a session that is being made. Raises as ``build_live``."""
    from overlayws.filter.saved import to_bytes

    session.base.mkdir(mode=0o700)
    base = build_live(session.workspace, session.base, judge, talk.progress, scan=scan)
    write_atomic(
        session.base / _RULES,
        to_bytes(judge.rules, judge.also, judge.inspector is not None and judge.inspector.policy.env),
    )
    said = (_SAID,) if scan else (_SAID, _NOT_SCANNED)
    return replace(base, warnings=(*said, *base.warnings))


def make_own_git(session: Session, talk: Talk) -> None:
    """Put the program's own repository above the mask: one commit of what it is shown. Raises UnableError."""
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
        with LiveManifest(session.manifest, session.workspace) as manifest:
            write_again(session.manifest, manifest.identities(paths))


def note_undone(session: Session, originals: Iterable[tuple[str, int, int]]) -> None:
    """After an undo: the ``originals`` (path, inode, ctime in ns as the apply found them) that had not drifted are the
    base again, although their ctimes are new."""
    if session.base_mode == "live":
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

    try:
        watch = Watch()
    except OSError as error:
        raise UnableError(f"cannot watch the workspace: inotify: {error.strerror}", hint="use --base copy") from error
    with watch:
        watcher = _Watcher(session, talk, watch)
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


class _Watcher:
    def __init__(self, session: Session, talk: Talk, watch: Watch) -> None:
        from overlayws.base.judge import Judge
        from overlayws.filter.contents import ContentPolicy, Inspector
        from overlayws.filter.saved import from_bytes
        from overlayws.session.record import DamagedSession

        self._session, self._talk, self._watch = session, talk, watch
        try:
            rules, also, env = from_bytes((session.base / _RULES).read_bytes())
        except (OSError, ValueError) as error:
            raise DamagedSession(session.name, f"cannot read its rules: {error}", hint="start it again") from None
        self._judge = Judge(rules, Inspector(ContentPolicy(env=env)), also)
        with LiveManifest(session.manifest, session.workspace) as manifest:
            self._hidden = manifest.all_hidden()
            self._redacted = manifest.redacted()
            self._inodes = manifest.inodes()
        self._saved = dict(self._inodes)
        self._lasting: frozenset[str] = frozenset()  # what was hidden before the run
        self._moving: dict[int, str] = {}  # number of a rename -> the hidden or redacted name that went
        self._gone: dict[str, None] = {}
        self._edited: dict[str, None] = {}
        self._failed = ""
        self._running = False

    def look_at(self, top: str) -> None:
        """Look at the directory ``top`` and all below it, watch it, and hide what is to be hidden by now."""
        from overlayws.base.build import opened
        from overlayws.base.live import look

        with opened(self._session.workspace) as root:
            found = look(root, self._session.workspace, self._judge, top, inodes=self._inodes,
                         entering=self._watch.add)  # fmt: skip
        self._inodes |= found.inodes
        if found.unreadable and top == "":
            from overlayws.base.build import unreadable

            raise unreadable(found.unreadable)
        self._hide(found)

    def _hide(self, found: Found) -> None:
        from overlayws.source.entry import Kind

        wanted = [*found.hidden, *(Hidden(path, kind, "no file") for path, kind in found.skipped)]
        wanted += [Hidden(path, Kind.FILE, "redacted files are those of the start")
                   for path in found.redacted if path not in self._redacted]  # fmt: skip
        new = [h for h in wanted if not self._is_hidden(h.path)]
        if new:
            hide_more(self._session.workspace, self._session.base, new)
            self._hidden.update(h.path for h in new)
            names = _some([h.path for h in new])
            late = "hidden from now on, but the program may have seen it" if self._running else "hidden since the start"
            self._talk.warning(f"{late}: {names}")

    def follow(self, wake: int) -> None:
        """Follow the events until ``wake`` can be read; runs in a thread of its own."""
        self._running = True
        self._lasting = frozenset(self._hidden | self._redacted)
        self._save()
        for event in self._watch.events(wake):
            try:
                self._one(event)
            except (OSError, OverlaywsError) as error:
                self._failed = str(error)

    def _one(self, event: Event) -> None:
        if event.lost:
            self.look_at("")
            return
        source = self._moving.pop(event.move, None) if event.appeared else None
        hidden = self._is_hidden(event.path)
        if hidden or event.path in self._redacted:
            self._note(event.path)  # an edit gives it another mtime, and often another inode
            if event.gone:
                self._gone[event.path] = None
                if event.move:
                    self._moving[event.move] = event.path
        if hidden:
            return
        if event.appeared:
            self._appeared(event, source)
            if event.directory and not self._is_hidden(event.path):
                self.look_at(event.path)
        if not self._is_hidden(event.path) and not event.directory:
            self._edited[event.path] = None

    def _appeared(self, event: Event, source: str | None) -> None:
        """Hide the new name if need be. ``source`` is the hidden or redacted name that it had before, if it had one."""
        from overlayws.base.build import opened
        from overlayws.base.live import look_one, lstat
        from overlayws.source.entry import Kind

        path = event.path
        with opened(self._session.workspace) as root:
            if source is not None and source not in self._lasting and self._was_shown(path):
                # Saved by way of a temporary name that a rule hides (*.tmp): an edit of what the program is shown.
                st = lstat(root, path)
                if st is not None:
                    self._inodes.pop((st.st_dev, st.st_ino), None)
                source = None
            found = look_one(root, self._judge, path, self._inodes)
        self._inodes |= found.inodes
        if source is not None and not found.hidden and path not in found.redacted and path not in self._redacted:
            # Also where it is gone again: the name that it has got then comes from this one.
            kind = Kind.DIRECTORY if event.directory else Kind.FILE
            found.hidden.append(Hidden(path, kind, f"another name of the hidden {source}"))
        self._hide(found)

    def _was_shown(self, path: str) -> bool:
        with LiveManifest(self._session.manifest, self._session.workspace) as manifest:
            return manifest.get(path) is not None

    def _note(self, path: str) -> None:
        """Note what a hidden or redacted name is by now, so that it is known under another name too."""
        from overlayws.base.build import opened
        from overlayws.base.live import lstat

        with opened(self._session.workspace) as root:
            st = lstat(root, path)
        if st is not None and (stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode)):
            self._inodes[st.st_dev, st.st_ino] = st.st_mtime_ns

    def _save(self) -> None:
        """Keep the inodes that are new for the runs to come."""
        new = {key: mtime for key, mtime in self._inodes.items() if self._saved.get(key) != mtime}
        if new:
            write_inodes(self._session.manifest, new)
            self._saved |= new

    def _is_hidden(self, path: str) -> bool:
        while path:
            if path in self._hidden:
                return True
            path = path.rpartition("/")[0]
        return False

    def _is_gone(self, path: str) -> bool:
        return not os.path.lexists(self._session.workspace / path)

    def tell(self) -> None:
        """Say what was seen, and keep it."""
        self._save()
        gone = sorted(path for path in self._gone if path in self._lasting and self._is_gone(path))
        if gone:
            self._talk.warning(
                f"hidden, and removed or renamed while the program ran, which may have seen the new name: {_some(gone)}"
            )
        edited = [path for path in self._edited if not self._is_hidden(path)]
        if edited:
            self._talk.warning(f"changed in the workspace while the program ran: {_some(sorted(edited))}")
        if self._failed:
            self._talk.warning(f"the workspace could not be watched all the time: {self._failed}")


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(repr(path) for path in paths[:_SHOWN]) + more
