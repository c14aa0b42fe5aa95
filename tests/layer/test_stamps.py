"""Stamps: evidence that nobody touched a file, and knowing when there is none."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest

from overlayws.layer.stamps import pack, stamp, trustworthy, unpack, untouched


def test_rows_survive_packing(tmp_path: Path) -> None:
    row = stamp(tmp_path.stat(), 2**64 - 1)
    assert unpack(pack([row, (1, 2, 3, -4, 5)])) == {row[0]: row[1:], 1: (2, 3, -4, 5)}
    with pytest.raises(struct.error):
        unpack(pack([row])[:-1])


def test_a_file_is_untouched_until_something_is_done_to_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("1")
    known = unpack(pack([stamp(path.stat(), 7)]))
    assert untouched(known, path.stat(), 7)
    assert not untouched(known, path.stat(), 8)
    assert not untouched({}, path.stat(), 7)
    before = path.stat()
    time.sleep(0.02)
    path.write_text("2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not untouched(known, path.stat(), 7)


def test_changes_after_the_record_have_a_later_ctime(tmp_path: Path) -> None:
    newest = time.time_ns() + 50_000_000
    assert trustworthy(tmp_path, newest)
    (tmp_path / "f").touch()
    assert (tmp_path / "f").stat().st_ctime_ns > newest


def test_a_record_from_the_future_is_no_evidence(tmp_path: Path) -> None:
    assert not trustworthy(tmp_path, time.time_ns() + 10**12)


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no /dev/shm")
def test_a_file_system_that_does_not_see_writes_through_mappings_is_not_trusted() -> None:
    assert not trustworthy(Path("/dev/shm"), 0)
