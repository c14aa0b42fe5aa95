"""Let a program you do not fully trust work on your code, and keep only what you reviewed.

Everything the commands do is a function here; nothing prints or exits. Importing the package is free: the names
are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from overlayws.api import apply as apply
    from overlayws.api import diff as diff
    from overlayws.api import discard as discard
    from overlayws.api import run as run
    from overlayws.api import scan as scan
    from overlayws.api import start as start
    from overlayws.api import undo as undo

_API = ("apply", "diff", "discard", "run", "scan", "start", "undo")


def __getattr__(name: str) -> object:
    if name in _API:
        from overlayws import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
