"""Judge: all that decides what a program sees of a workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from overlayws.filter.contents import Inspector
from overlayws.filter.match import Filter


@dataclass(frozen=True, slots=True)
class Judge:
    """``rules`` by name, ``inspector`` by content (None: contents are not looked at), and ``also``: further paths that
    are hidden, with the reason."""

    rules: Filter
    inspector: Inspector | None = None
    also: Mapping[str, str] = field(default_factory=dict)

    def redacts(self, path: str) -> bool:
        """Whether a file that a built-in rule names is shown, with its secrets replaced."""
        return self.inspector is not None and self.inspector.redacts(path)
