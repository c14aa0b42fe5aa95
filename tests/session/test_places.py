from __future__ import annotations

from pathlib import Path

import pytest

from overlayws.errors import UsageError
from overlayws.session.places import checked_workspace


def test_a_plain_directory_is_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    (tmp_path / "link").symlink_to("ws")
    assert checked_workspace(tmp_path / "link", tmp_path / "state") == (tmp_path / "ws").resolve()


def test_what_cannot_be_a_workspace_is_refused_with_a_hint(tmp_path: Path, private_home: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "ws").mkdir()
    for path, state in (
        (tmp_path / "missing", tmp_path / "state"),
        (tmp_path / "file", tmp_path / "state"),
        (tmp_path / "loop", tmp_path / "state"),
        (Path("/"), tmp_path / "state"),
        (private_home, tmp_path / "state"),
        (tmp_path / "ws", tmp_path / "ws/.state"),
        (tmp_path / "ws", tmp_path / "ws"),
        (tmp_path / "ws", tmp_path),
    ):
        with pytest.raises(UsageError) as error:
            checked_workspace(path, state)
        assert error.value.exit_code == 2 and error.value.hint
