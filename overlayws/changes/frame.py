"""A directory of the upperdir on the stack of a scan."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from overlayws.base.manifest import Row


@dataclass(slots=True)
class Frame:
    """A directory of the upperdir that is being scanned."""

    fd: int  # -1 while it is closed
    prefix: str  # path and '/', or ''
    known: bool  # the base has a directory here
    cut: bool  # an opaque directory here or above: nothing of the base shows through
    identity: tuple[int, int]
    entries: list[os.DirEntry[str]]
    base: dict[str, Row] = field(default_factory=dict)  # what the base has at the paths of the entries
    below: list[str] = field(default_factory=list)  # directories still to open
    ready: list[Frame] = field(default_factory=list)  # directories that are open, still to enter
    mark: int = 0  # of Unlocked
