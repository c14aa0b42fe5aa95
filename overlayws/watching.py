"""Watcher: what happens in the workspace under a live session, while a command runs in it."""

from __future__ import annotations

import os
import stat

from overlayws.base.build import opened, unreadable
from overlayws.base.judge import Judge
from overlayws.base.live import Found, look, look_one, lstat
from overlayws.base.live_build import hide_more
from overlayws.base.live_manifest import LiveManifest, write_inodes
from overlayws.base.manifest import Hidden
from overlayws.base.watch import Event, Watch
from overlayws.errors import OverlaywsError
from overlayws.filter.contents import ContentPolicy, Inspector
from overlayws.filter.ignorefile import printable
from overlayws.filter.saved import from_bytes
from overlayws.session.record import DamagedSession
from overlayws.session.session import Session
from overlayws.source.entry import Kind
from overlayws.upkeep import Talk

RULES = "rules.json"  # in the base's directory: the judge of the start
_SHOWN = 5


class Watcher:
    """Follows what happens in the workspace; hides what is to be hidden, and tells the rest at the end."""

    def __init__(self, session: Session, talk: Talk, watch: Watch) -> None:
        self._session, self._talk, self._watch = session, talk, watch
        try:
            rules, also, env = from_bytes((session.base / RULES).read_bytes())
        except (OSError, ValueError) as error:
            raise DamagedSession(session.name, f"cannot read its rules: {error}", hint="start it again") from None
        self._judge = Judge(rules, Inspector(ContentPolicy(env=env)), also)
        with LiveManifest(session.manifest, session.workspace) as manifest:
            self._hidden = manifest.all_hidden()
            self._redacted = manifest.redacted()
            self._inodes = manifest.inodes()
            manifest.wait_past_start()
        self._saved = dict(self._inodes)
        self._lasting: frozenset[str] = frozenset()  # what was hidden before the run
        self._moving: dict[int, str] = {}  # number of a rename -> the hidden or redacted name that went
        self._gone: dict[str, None] = {}
        self._edited: dict[str, None] = {}
        self._failed = ""
        self._running = False

    def look_at(self, top: str) -> None:
        """Look at the directory ``top`` and all below it, watch it, and hide what is to be hidden by now."""
        with opened(self._session.workspace) as root:
            found = look(root, self._session.workspace, self._judge, top, inodes=self._inodes,
                         entering=self._watch.add)  # fmt: skip
        self._inodes |= found.inodes
        if found.unreadable and top == "":
            raise unreadable(found.unreadable)
        self._hide(found)

    def _hide(self, found: Found) -> None:
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
            found.hidden.append(Hidden(path, kind, f"another name of the hidden {printable(source)}"))
        self._hide(found)

    def _was_shown(self, path: str) -> bool:
        with LiveManifest(self._session.manifest, self._session.workspace) as manifest:
            return manifest.get(path) is not None

    def _note(self, path: str) -> None:
        """Note what a hidden or redacted name is by now, so that it is known under another name too."""
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
