"""The words of a layer: Layer, Mount, Backend; and the upperdir's marks that each backend writes.

Overlay terms as in the kernel's Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from overlayws.errors import UnableError
from overlayws.layer.room import Room

# The keys of all_backends.BACKENDS, for who needs to name them and not to load them.
BACKEND_NAMES = ("kernel", "userns", "copy")


class MountError(UnableError):
    """A layer could not be mounted (or, for ``copy``, made)."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The four directories of one overlay; ``upperdir`` and ``workdir`` are on one file system.

    ``below`` are further lowerdirs, the topmost first (of ``--base live``: the mask, and the workspace itself).
    """

    lowerdir: Path
    upperdir: Path
    workdir: Path
    merged: Path
    below: tuple[Path, ...] = ()


def scratch_layer(directory: Path) -> Layer:
    """A layer to try something with, in the four usual directories below ``directory``."""
    return Layer(directory / "lower", directory / "upper", directory / "work", directory / "merged")


@dataclass(frozen=True, slots=True)
class Mount:
    """A layer that a process can be started in.

    ``enter`` is the argv prefix of a process that sees the mount at ``merged``: the mount is made in a mount
    namespace of that process and is gone with it, so that nothing is left behind whatever is killed. Start it as
    a direct child of the process (and from a thread that lives as long as it) that opened ``mounted``: it dies
    with that parent. It keeps its standard streams and every inheritable descriptor. When its exit status is 125,
    126 or 127, ask ``check_entered`` whether that was ``enter``'s own.
    """

    merged: Path
    enter: tuple[str, ...]
    status: Path | None = None  # where a failing ``enter`` says why; None for an empty prefix
    layer: Layer | None = None  # what is mounted; None where ``merged`` is a plain directory
    mode: str = ""  # ``kernel`` or ``userns``: which marks the mount writes; "" for a plain directory
    space: Path | None = None  # the top of a file system of the asked for Room, which the upperdir is on; None: no such
    unbounded: str = ""  # why, where one was asked for


def check_entered(mount: Mount) -> None:
    """Raises MountError if a process under ``mount.enter`` could not be started in the mount.

    Nothing to say also means that nothing was started yet.
    """
    if mount.status is None:
        return
    try:
        said = mount.status.read_bytes().partition(b"\n")[0]
        told = json.loads(said) if said else None
    except (OSError, ValueError):
        raise MountError(f"cannot mount {shown(mount.merged)}: it was not said why") from None
    if told is not None:
        raise MountError(f"cannot mount {shown(mount.merged)}: {told['error']}", hint=told["hint"])


def shown(path: Path) -> str:
    """A path for a message of one line: quoted where it holds what a terminal would not print."""
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)


class Backend(Protocol):
    """One way to put a writable layer over a base. A module, not a class."""

    # The extended-attribute prefix of the marks (opaque, origin ...) that this backend itself writes into the
    # upperdir. Marks under any other prefix were set by the program and mean nothing.
    XATTR_PREFIX: str

    def unusable(self, state: Path) -> str | None:
        """Why this machine cannot use the backend with a state directory at ``state``, or None.

        Found out by doing it once in a scratch directory below ``state``, not by version numbers.
        """

    def trying(self, state: Path) -> AbstractContextManager[Callable[[], str | None]]:
        """``unusable`` in two steps: what is entered has begun to find out, what it gives waits for the answer.

        Leaving the context takes away everything of the trial, also where nobody asked. Raises nothing.
        """

    def mounted(self, layer: Layer, at: Path | None = None, room: Room | None = None) -> AbstractContextManager[Mount]:
        """The layer, usable through ``Mount.enter`` while the context is open.

        ``at``: where the mount should also be visible (the workspace's own path, shadowing it) for the
        processes under ``enter``. Only for a program that is not confined: whatever ``enter`` executes is looked
        up in the shadowed view, so that a sandbox's own program in a virtual environment inside the workspace
        would be the copy that the confined program can write. A backend without a namespace ignores it.

        ``room``: what the upperdir may take, all in all. ``Mount.space`` says whether the kernel sees to that; then
        one process can be started under ``enter``, and ``Mount.layer`` is where upperdir and workdir are meanwhile.

        Leaving the context completes the capture: afterwards the upperdir holds every difference. Raises MountError.
        """
