"""freeze: the change set as it is after the run, in a store of its own that no program can reach.

What is shown, reviewed, exported and applied is read from here, never from the upperdir: whatever still writes there
has no effect. The store of one capture is a directory, named after the SHA-256 of its manifest:

    ID/manifest      the changes, a line each (``frozen.py``)
    ID/pack          the contents of the small files, one after the other, each once
    ID/large/SHA256  the larger ones, holes as holes
    ID/git           what the program put into its own repository (``program_git.py``)

The small contents are the very bytes that the scan hashed; nothing is read twice. The manifest says where each of
them is, its own hash is kept in ``session.json``, and every content is hashed again when it is read: a bit that
changed is an error, never another change.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from overlayws.base.manifest import Manifest
from overlayws.changes.bounds import WHOLE
from overlayws.changes.capture import keep, private
from overlayws.changes.change import ChangeSet
from overlayws.changes.contents import TreeContents
from overlayws.changes.frozen import LARGE, PACK, manifest_lines
from overlayws.changes.marking import marked
from overlayws.changes.program_git import LISTING, gather
from overlayws.changes.scan import scan
from overlayws.changes.secret import Secrets
from overlayws.layer.mount import Layer
from overlayws.source.entry import Kind
from overlayws.source.remove import remove_tree


def freeze(layer: Layer, manifest: Manifest, xattr_prefix: str, *, own_git: bool, store: Path) -> str:
    """Scan ``layer`` (see ``scan``), which nobody uses any more, and keep what was found below ``store``; its id.

    The captures that were there stay (``drop_others``). What could not be read is in the change set's problems.
    Raises OSError (no space), ManifestError, UntrustedError if the upperdir changes meanwhile.
    """

    def fill(making: Path) -> Iterable[bytes]:
        with open(making / PACK, "xb", opener=private, buffering=1 << 18) as pack:
            packing = _Packing(pack)
            changeset = scan(layer, manifest, xattr_prefix, own_git=own_git, keep=packing.keep, secrets=Secrets())
            changeset = marked(changeset, manifest)
        _copy_large(layer, changeset, making / LARGE)
        repository = gather(layer, xattr_prefix, making) if own_git else None
        if repository is not None:
            (making / LISTING).write_bytes(repository)
        return manifest_lines(changeset, packing.offsets, repository)

    return keep(store, fill)


def drop_others(store: Path, capture: str) -> None:
    """Remove every capture below ``store`` but ``capture``, and what was left of one that was not finished."""
    try:
        names = os.listdir(store)
    except FileNotFoundError:
        return
    for name in names:
        if name != capture:
            remove_tree(store / name)


class _Packing:
    """The small contents, each once; ``offsets`` says where in the pack."""

    def __init__(self, pack: BinaryIO) -> None:
        self._pack = pack
        self._at = 0
        self.offsets: dict[str, int] = {}

    def keep(self, digest: str, data: bytes) -> None:
        if digest not in self.offsets:
            self.offsets[digest] = self._at
            self._at += len(data)
            self._pack.write(data)


def _copy_large(layer: Layer, changeset: ChangeSet, target: Path) -> None:
    """The contents of more than WHOLE bytes: blocks shared where the file system can, holes kept."""
    wanted = {
        c.after.digest: c
        for c in changeset.changes
        if c.after is not None and c.after.kind is Kind.FILE and c.after.size > WHOLE and c.after.digest
    }
    if not wanted:
        return
    target.mkdir(mode=0o700)
    with TreeContents(layer.upperdir) as upper:
        for digest, change in wanted.items():
            with open(target / digest, "xb", opener=private) as out:
                upper.clone(change.path, out.fileno())
