"""copy_all: the files of a workspace, by this process and, where there are many, by another one beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from overlayws.base.contents import Scan
from overlayws.base.files import Copied, copy_files


def copy_all(
    root: int,
    target: int,
    paths: Sequence[str],
    *,
    clock: int,
    scan: Scan | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> Copied:
    """As ``copy_files``."""
    return copy_files(root, target, paths, clock=clock, scan=scan, progress=progress)
