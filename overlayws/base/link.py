"""link_files: what an older base of the workspace already holds is hard-linked from there, not copied again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from overlayws.base.files import Copied
from overlayws.base.fingerprint import unchanged
from overlayws.base.manifest import Finding, Manifest, Stored
from overlayws.beneath import open_directory

# No more links (ext4: 65,000), another device, or a file system without hard links: copy then.
_CANNOT = {errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOENT, errno.ENOTDIR}


@dataclass(frozen=True, slots=True)
class Previous:
    """A base to take files from; it is only read. ``lowerdir`` is an open descriptor."""

    lowerdir: int
    rows: Mapping[bytes, Stored]
    findings: tuple[Finding, ...]


@contextmanager
def previous_base(directory: Path) -> Iterator[Previous]:
    """The base in ``directory``, opened. Raises OSError, ManifestError."""
    lowerdir = os.open(directory / "lower", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Manifest(directory / "manifest.db") as manifest:
            rows = {row[0]: row for row in manifest.stored()}
            yield Previous(lowerdir, rows, tuple(manifest.findings()))
    finally:
        os.close(lowerdir)


def link_files(
    previous: Previous, target: int, files: Mapping[str, os.stat_result]
) -> tuple[Copied, dict[str, os.stat_result]]:
    """Link the unchanged ones of ``files`` into ``target``; what became of them, and the files that are left.

    A stamp tells of the content, the mode and the attributes (see fingerprint.py), so nothing of the file is read.
    Raises OSError where the target cannot be written.
    """
    done, left = Copied(), {}
    parent: str | None = None
    source = made = -1
    try:
        for path, st in files.items():
            row = previous.rows.get(path.encode("utf-8", "surrogateescape"))
            if row is None or row[1] != "file" or not unchanged(row, st):
                left[path] = st
                continue
            above, _, name = path.rpartition("/")
            try:
                if above != parent:
                    for fd in (source, made):
                        if fd >= 0:
                            os.close(fd)
                    parent, source, made = None, -1, -1
                    source, made = open_directory(previous.lowerdir, above), open_directory(target, above)
                    parent = above
                os.link(name, name, src_dir_fd=source, dst_dir_fd=made, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
                left[path] = st
                continue
            done.rows.append(row)
    finally:
        for fd in (source, made):
            if fd >= 0:
                os.close(fd)
    linked = {os.fsdecode(row[0]) for row in done.rows}
    done.findings = [finding for finding in previous.findings if finding.path in linked]
    return done, left
