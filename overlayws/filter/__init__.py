"""Which paths the program may see: Docker's ignore syntax and the built-in secret rules.

``kept(ignore_file, paths)`` answers for a whole list of paths and raises ``IgnoreSyntaxError``; both are loaded
when first used. The walker uses ``overlayws.filter.sources.load_filter`` and ``overlayws.filter.match``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from overlayws.filter.ignorefile import IgnoreSyntaxError
    from overlayws.filter.match import kept

__all__ = ["IgnoreSyntaxError", "kept"]


def __getattr__(name: str) -> object:
    if name == "kept":
        from overlayws.filter.match import kept

        return kept
    if name == "IgnoreSyntaxError":
        from overlayws.filter.ignorefile import IgnoreSyntaxError

        return IgnoreSyntaxError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
