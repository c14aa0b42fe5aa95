"""overlayfs as root: a mount namespace of its own, marks under ``trusted.overlay.``."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from overlayws.layer import overlay
from overlayws.layer.mount import Layer, Mount
from overlayws.layer.room import Room
from overlayws.layer.whiteout import TRUSTED_PREFIX, Marks

XATTR_PREFIX = TRUSTED_PREFIX


def unusable(state: Path) -> str | None:
    """Why this machine cannot use it for a state directory at ``state``, or None."""
    with trying(state) as answer:
        return answer()


def trying(state: Path) -> AbstractContextManager[Callable[[], str | None]]:
    """See ``Backend.trying``."""
    if not permitted():
        return nullcontext(lambda: "needs root")
    return overlay.trying("kernel", Marks(XATTR_PREFIX), state)


def permitted() -> bool:
    """Whether a trial can be of use at all."""
    return os.geteuid() == 0


def mounted(layer: Layer, at: Path | None = None, room: Room | None = None) -> AbstractContextManager[Mount]:
    """See ``Backend.mounted``: the upperdir is complete as soon as the last process under ``enter`` is gone."""
    return overlay.entered("kernel", layer, at, room)
