"""Let a program you do not fully trust work on your code, and keep only what you reviewed.

Everything the commands do is a function here; nothing prints or exits. Importing the package is free: the names
are loaded when first used.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from overlayws.api import Confinement as Confinement
    from overlayws.api import apply as apply
    from overlayws.api import diff as diff
    from overlayws.api import discard as discard
    from overlayws.api import explain as explain
    from overlayws.api import preview as preview
    from overlayws.api import run as run
    from overlayws.api import scan as scan
    from overlayws.api import start as start
    from overlayws.api import undo as undo

_API = ("Confinement", "apply", "diff", "discard", "explain", "preview", "run", "scan", "start", "undo")


class _Verb(ModuleType):
    """A stage's package that can be called as the verb of its name: ``overlayws.run(…)``, ``overlayws.run.runner``."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return __getattr__(self.__name__.rpartition(".")[2])(*arguments, **options)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        if name in _API and isinstance(value, ModuleType):  # the import system: a package hides the verb from now on
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _API:
        from overlayws import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
