"""A case with its journals on the workspace's mount, and on another."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apply.build import Case, make_case
from tests.apply.test_crash import BASE, THEIRS


@pytest.fixture(params=["same-mount", "cross-mount"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    if request.param == "same-mount":
        yield make_case(tmp_path, BASE, THEIRS)
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as state:
        yield make_case(tmp_path, BASE, THEIRS, state=Path(state))
