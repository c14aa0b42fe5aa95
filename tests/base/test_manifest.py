from __future__ import annotations

from pathlib import Path

import pytest

from overlayws.base.manifest import Hidden, Manifest, ManifestError, Recorded
from overlayws.base.manifest_write import write_manifest
from overlayws.source.entry import Entry, Kind, Stamp

HUGE = (1 << 64) - 1


def recorded(path: str, kind: Kind = Kind.FILE, **more: object) -> Recorded:
    entry = Entry(kind, 0o644, 5 if kind is Kind.FILE else 0, **more)  # type: ignore[arg-type]
    return Recorded(path, entry, Stamp(HUGE, 1 << 63, 5, -1, 1 << 62))


ENTRIES = [
    recorded("a", Kind.DIRECTORY),
    recorded("a-b"),
    recorded("a/b", xattrs=(("user.x", b"\0\n0\0"), ("user.y", b""))),
    recorded("a0"),
    recorded("n\udcff\n", Kind.SYMLINK, target="t\udcfe"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    where = tmp_path / "it's 100%?#.db"
    hidden = [Hidden(".env", Kind.FILE, "rule"), Hidden("a/secret", Kind.DIRECTORY, "rule")]
    write_manifest(where, ENTRIES, hidden, [("fifo", Kind.FIFO)])
    return where


def test_what_was_written_is_read_back_exactly(path: Path) -> None:
    with Manifest(path) as manifest:
        assert [manifest.get(r.path) for r in ENTRIES] == ENTRIES
        assert manifest.get("missing") is None
        assert list(manifest.below("")) == ENTRIES


def test_below_a_directory_is_what_is_in_it_and_nothing_that_only_begins_alike(path: Path) -> None:
    with Manifest(path) as manifest:
        assert [r.path for r in manifest.below("a")] == ["a/b"]
        assert [h.path for h in manifest.hidden_below("a")] == ["a/secret"]
        assert [h.path for h in manifest.hidden_below("")] == [".env", "a/secret"]


def test_what_lies_below_a_hidden_directory_is_hidden(path: Path) -> None:
    with Manifest(path) as manifest:
        assert manifest.hidden("a/secret/deep/file").path == "a/secret"  # type: ignore[union-attr]
        assert manifest.hidden("a/secretive") is None


def test_a_damaged_manifest_is_an_error_and_no_empty_tree(path: Path) -> None:
    data = path.read_bytes()
    for damage in (b"", b"x" * 4096, data[:100], data[: len(data) // 2]):
        path.write_bytes(damage)
        with pytest.raises(ManifestError), Manifest(path) as manifest:
            list(manifest.below(""))
    path.unlink()
    with pytest.raises(ManifestError):
        Manifest(path)
