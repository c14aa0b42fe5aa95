"""overlayfs without privilege: a user and a mount namespace of its own, marks under ``user.overlay.``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from overlayws.layer import overlay
from overlayws.layer.mount import Layer, Mount
from overlayws.layer.room import Room
from overlayws.layer.whiteout import USER_PREFIX, Marks

XATTR_PREFIX = USER_PREFIX


def unusable(state: Path) -> str | None:
    """Why this machine cannot use it for a state directory at ``state``, or None."""
    with trying(state) as answer:
        return answer()


def trying(state: Path) -> AbstractContextManager[Callable[[], str | None]]:
    """See ``Backend.trying``."""
    return overlay.trying("userns", Marks(XATTR_PREFIX), state)


def mounted(layer: Layer, at: Path | None = None, room: Room | None = None) -> AbstractContextManager[Mount]:
    """See ``Backend.mounted``: the upperdir is complete as soon as the last process under ``enter`` is gone."""
    return overlay.entered("userns", layer, at, room)
