"""Hand-written layers: a base with its manifest, and an upperdir of either format, from dicts."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from overlayws.base.files import digest_of_text
from overlayws.base.manifest import Hidden, Manifest, Recorded
from overlayws.base.manifest_write import write_manifest
from overlayws.changes.change import ChangeSet
from overlayws.changes.contents import Contents, TreeContents
from overlayws.changes.scan import scan
from overlayws.changes.secret import Secrets
from overlayws.layer.mount import Layer
from overlayws.source.entry import Entry, Kind, Stamp, kind_of
from tests.trees import Dir, Node, Symlink, Tree, make_tree, read_tree

TRUSTED, USER = "trusted.overlay.", "user.overlay."


@dataclass(frozen=True)
class Whiteout:
    pass


@dataclass(frozen=True)
class Opaque:
    mode: int = 0o755


Upper = Mapping[str, Node | Whiteout | Opaque]


@dataclass(frozen=True)
class Case:
    """A layer that was written by hand; ``prefix`` is the backend's."""

    layer: Layer
    manifest: Path
    prefix: str
    own_git: bool = False

    def scan(self) -> ChangeSet:
        with Manifest(self.manifest) as manifest:
            return scan(self.layer, manifest, self.prefix, own_git=self.own_git, secrets=Secrets())

    def base(self) -> Contents:
        return TreeContents(self.layer.lowerdir)

    def theirs(self) -> Contents:
        return TreeContents(self.layer.upperdir)

    def statuses(self) -> dict[str, str]:
        changeset = self.scan()
        assert changeset.problems == ()
        return {change.path: change.status for change in changeset.changes}


def make_case(
    top: Path,
    base: Mapping[str, Node],
    upper: Upper = MappingProxyType({}),
    *,
    prefix: str = USER,
    own_git: bool = False,
    hidden: tuple[str, ...] = (),
    digests: bool = False,
) -> Case:
    """Trusted marks need root: a test that does not care takes the user prefix. ``digests``: as where the start
    inspects the contents."""
    layer = Layer(top / "lower", top / "upper", top / "work", top / "merged")
    make_tree(layer.lowerdir, base)
    make_upper(layer.upperdir, upper, prefix)
    record(layer.lowerdir, top / "manifest.db", hidden, digests)
    return Case(layer, top / "manifest.db", prefix, own_git)


def make_upper(root: Path, upper: Upper, prefix: str) -> None:
    plain = {path: node for path, node in upper.items() if not isinstance(node, Whiteout | Opaque)}
    opaque = {path: node for path, node in upper.items() if isinstance(node, Opaque)}
    make_tree(root, {**{path: Dir(node.mode) for path, node in opaque.items()}, **plain})
    for path in opaque:
        os.setxattr(root / path, prefix + "opaque", b"y")
    for path, node in upper.items():
        if isinstance(node, Whiteout):
            make_tree((root / path).parent, {})
            os.mknod(root / path, stat.S_IFCHR, 0)


def record(lower: Path, manifest: Path, hidden: tuple[str, ...] = (), digests: bool = False) -> None:
    """The manifest of a base, made by looking at it."""
    found = []
    for path, node in read_tree(lower).items():
        st = os.lstat(lower / path)
        kind = kind_of(st.st_mode)
        mode = 0o777 if kind is Kind.SYMLINK else stat.S_IMODE(st.st_mode)
        entry = Entry(
            kind,
            mode,
            st.st_size if kind is Kind.FILE else 0,
            digest_of_text((lower / path).read_bytes()) if digests and kind is Kind.FILE else None,
            target=node.target if isinstance(node, Symlink) else None,
            xattrs=getattr(node, "xattrs", ()),
        )
        found.append(Recorded(path, entry, Stamp.of(st)))
    found.sort(key=lambda r: os.fsencode(r.path))
    write_manifest(manifest, found, [Hidden(path, Kind.FILE, "test") for path in hidden], [])


def merged(base: Tree, upper: Upper, made: Tree) -> Tree:
    """What the kernel's merged view shows (overlayfs.rst), from the three trees; a model to compare with.

    ``made`` is the upperdir as it lies on disk.
    """
    shown: Tree = {}
    for path, node in base.items():
        cover = next((p for p in _above(path) if _covers(p, upper, made)), None)
        if cover is None:
            shown[path] = node
    for path, node in made.items():
        if not isinstance(upper.get(path), Whiteout):
            # The mark itself is no attribute of the merged directory.
            shown[path] = Dir(node.mode) if isinstance(node, Dir) else node
    return shown


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]


def _covers(path: str, upper: Upper, made: Tree) -> bool:
    """Whether the upperdir's entry hides what the base has at ``path`` and below."""
    return path in made and (not isinstance(made[path], Dir) or isinstance(upper.get(path), Opaque))
