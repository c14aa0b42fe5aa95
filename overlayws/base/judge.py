"""Judge: all that decides what a program sees of a workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from overlayws.filter.contents import Inspector
from overlayws.filter.match import Filter


@dataclass(frozen=True)
class Judge:
    """``rules`` by name, ``inspector`` by content (None: contents are not looked at), and ``also``: further paths that
    are hidden, with the reason."""

    rules: Filter
    inspector: Inspector | None = None
    also: Mapping[str, str] = field(default_factory=dict)

    def redacts(self, path: str) -> bool:
        """Whether a file that a built-in rule names is shown, with its secrets replaced: not if somebody's own rule
        hides it too."""
        if self.inspector is None or not self.inspector.redacts(path):
            return False
        return not self._given.hidden_path(path, False).hidden

    @cached_property
    def _given(self) -> Filter:
        return self.rules.without_secrets()
