"""keep: how a capture comes to be, whole or not at all; and the one of a session in which nothing was run."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

from overlayws.changes.change import ChangeSet
from overlayws.changes.frozen import MANIFEST, PACK, manifest_lines
from overlayws.source.remove import remove_tree

_MAKING = ".making-"


def keep(store: Path, fill: Callable[[Path], Iterable[bytes]]) -> str:
    """Make a capture below ``store``; its id. ``fill`` is given the directory that its contents go to, and gives the
    lines of its manifest. Raises OSError, and what ``fill`` does; then nothing is left."""
    making = store / f"{_MAKING}{os.getpid()}-{secrets.token_hex(4)}"
    store.mkdir(mode=0o700, exist_ok=True)
    making.mkdir(mode=0o700)
    try:
        lines = fill(making)
        digest = sha256()
        with open(making / MANIFEST, "xb", opener=private) as out:
            for line in lines:
                digest.update(line)
                out.write(line)
            out.flush()
            os.fsync(out.fileno())
        final = store / digest.hexdigest()
        # The same changes again: what was there may be damaged, what was just made is not.
        remove_tree(final)
        os.rename(making, final)
    except BaseException:
        remove_tree(making)
        raise
    return final.name


def keep_nothing(store: Path) -> str:
    """The capture of a session in which nothing was run yet: what ``freeze`` makes of an empty upperdir, without
    looking at one. Raises OSError."""

    def fill(making: Path) -> Iterable[bytes]:
        open(making / PACK, "xb", opener=private).close()
        return manifest_lines(ChangeSet(()), {})

    return keep(store, fill)


def private(path: str, flags: int) -> int:
    """As the ``opener`` of a file that nobody else may read, and that is made here. Raises OSError."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
