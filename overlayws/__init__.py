"""Let a program you do not fully trust work on your code, and keep only what you reviewed.

Everything the commands do is a function here; nothing prints or exits. Importing the package is free: the names
are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from overlayws.api import apply, diff, discard, run, scan, start, undo

_API = ("apply", "diff", "discard", "run", "scan", "start", "undo")
__all__ = ["__version__", *_API]


def __getattr__(name: str) -> object:
    if name in _API:
        from overlayws import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
