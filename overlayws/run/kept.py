"""What came out of a sandbox's memory: put in the upperdir's place in one step, and found again after a crash.

An upperdir that came whole gets a name that says so before it is exchanged with the session's. So whatever is killed,
the next command can tell one that is to be put in its place from the old one, and nothing that came whole is lost.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from overlayws.atomic import write_atomic
from overlayws.layer.mount import Layer
from overlayws.layer.upperdir import put_in_place
from overlayws.source.remove import remove_tree

UNPACKING, INCOMPLETE, CHECKPOINT = "unpacking", "incomplete", "checkpoint"  # beside the upperdir
# An upperdir that came whole: when, and its inode. Once it is in its place, what has its name is another one.
_WHOLE = re.compile(r"(received-(end|[0-9]{6})-([0-9]+))(\.old)?")
END = "end"  # instead of a checkpoint's time: all that the command changed


def keep(layer: Layer, made: Path, when: str) -> None:
    """Put ``made``, a whole upperdir beside the layer's, in its place in one step. ``when``: END, or the time of a
    checkpoint as HHMMSS. Raises OSError."""
    made.rename(made.with_name(f"received-{when}-{made.stat().st_ino}"))
    settle(layer)


def settle(layer: Layer) -> None:
    """Put what came whole in its place: also what a crash left of ``keep``, wherever it was. Raises OSError."""
    parent = layer.upperdir.parent
    for found in filter(None, map(_WHOLE.fullmatch, os.listdir(parent))):
        name, when = found[1], found[2]
        with suppress(FileNotFoundError):  # half-way on a file system without exchange
            if (parent / name).lstat().st_ino == int(found[3]):
                put_in_place(layer, name)
        when = when if when == END else ":".join(re.findall("..", when))
        # Before what tells of it is removed: a crash in between would be told as a loss.
        write_atomic(parent / CHECKPOINT, f"{when}\n".encode("ascii"))
        for old in (name, f"{name}.old"):
            remove_tree(parent / old)


def put_aside(layer: Layer) -> bool:
    """Keep what came of a tape without an end as ``incomplete``; whether there is anything."""
    left = layer.upperdir.with_name(UNPACKING)
    aside = layer.upperdir.with_name(INCOMPLETE)
    try:
        if not os.listdir(left):
            left.rmdir()
            return False
        remove_tree(aside)
        left.rename(aside)
        return True
    except FileNotFoundError:
        return False


def checkpoint(layer: Layer) -> str:
    """Of a run that did not end: the time of its last checkpoint, END where all of it is kept, or ""."""
    try:
        return layer.upperdir.with_name(CHECKPOINT).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def forget(layer: Layer) -> None:
    """The run's end was written down: what ``checkpoint`` says is over. Raises OSError."""
    layer.upperdir.with_name(CHECKPOINT).unlink(missing_ok=True)
