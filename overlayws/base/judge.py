"""Judge: all that decides what a program sees of a workspace."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from overlayws.filter.contents import Inspector
from overlayws.filter.match import Filter
from overlayws.filter.redact_formats import redactable_among


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

    def redactable(self, names: Collection[str]) -> Collection[str]:
        """Those of ``names``, all in one folder, for which ``redacts`` may say yes."""
        return redactable_among(names) if self.inspector is not None else ()

    @cached_property
    def _given(self) -> Filter:
        return self.rules.without_secrets()
