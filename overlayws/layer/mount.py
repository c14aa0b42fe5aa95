"""The words of a layer: Layer, Mount, Backend; and the upperdir's marks that each backend writes.

Overlay terms as in the kernel's Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from overlayws.errors import UnableError


class MountError(UnableError):
    """A layer could not be mounted (or, for ``copy``, made)."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The four directories of one overlay; ``upperdir`` and ``workdir`` are on one file system."""

    lowerdir: Path
    upperdir: Path
    workdir: Path
    merged: Path


@dataclass(frozen=True, slots=True)
class Mount:
    """A layer that a process can be started in.

    ``enter`` is the argv prefix of a process that sees the mount at ``merged``: the mount is made in a mount
    namespace of that process and is gone with it, so that nothing is left behind whatever is killed.
    """

    merged: Path
    enter: tuple[str, ...]


class Backend(Protocol):
    """One way to put a writable layer over a base. A module, not a class."""

    # The extended-attribute prefix of the marks (opaque, origin ...) that this backend itself writes into the
    # upperdir. Marks under any other prefix were set by the program and mean nothing.
    XATTR_PREFIX: str

    def unusable(self, state: Path) -> str | None:
        """Why this machine cannot use the backend with a state directory at ``state``, or None.

        Found out by doing it once in a scratch directory below ``state``, not by version numbers.
        """

    def mounted(self, layer: Layer, at: Path | None = None) -> AbstractContextManager[Mount]:
        """The layer, usable through ``Mount.enter`` while the context is open.

        ``at``: where the mount should also be visible (the workspace's own path, shadowing it) for the
        processes under ``enter``; a backend without a namespace ignores it. Leaving the context completes the
        capture: afterwards the upperdir holds every difference. Raises MountError.
        """
