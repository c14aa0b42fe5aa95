"""The file that shows, before a command runs, that what is written to the workspace inside comes back outside.

The sandbox's gate removes it (container.GATE, bundle.GATE). Where the gate is killed before, it would be a change of
the session: so its name and content are in the record of the run before it is made (leftovers.py).
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from overlayws.beneath import open_quietly
from overlayws.layer.mount import Mount

_PREFIX = ".overlayws-"


@dataclass(frozen=True, slots=True)
class Canary:
    """A name that nothing in the workspace has, or "" (a workspace that cannot be written), and the file's content."""

    name: str
    word: str  # that the program cannot know before it runs

    def outside(self, mount: Mount) -> str:
        """Where the file, written at the workspace's top inside, must appear; "" for no name."""
        if not self.name:
            return ""
        return os.fspath((mount.layer.upperdir if mount.layer is not None else mount.merged) / self.name)


def hatched(*, read_only: bool = False) -> Canary:
    """A new one."""
    return Canary("" if read_only else f"{_PREFIX}{secrets.token_hex(8)}", secrets.token_hex(16))


def remove(directory: Path, canary: Canary) -> None:
    """Take the file away from the layer of the session in ``directory``, while nothing runs there.

    Only a plain file with what the gate writes, or as much of it as it wrote: whatever else has that name is the
    program's, stays, and is shown as its change.
    """
    # The name decides what is removed, and comes from a file.
    if not canary.name.startswith(_PREFIX) or "/" in canary.name:
        return
    for top in ("upper", "merged"):  # of the backend copy what is written is in the private copy
        with suppress(OSError):
            parent = os.open(directory / top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if _is_ours(parent, canary):
                    os.unlink(canary.name, dir_fd=parent)
            finally:
                os.close(parent)


def _is_ours(parent: int, canary: Canary) -> bool:
    fd = open_quietly(canary.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, parent)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        return canary.word.encode().startswith(os.read(fd, len(canary.word) + 1))
    finally:
        os.close(fd)
