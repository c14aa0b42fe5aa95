from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.run.confined import Place, place


@pytest.fixture
def here() -> Iterator[Place]:
    """A place of whoever runs the tests."""
    with place("caller") as found:
        yield found


@pytest.fixture(params=["caller", "user"])
def anyone(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place of whoever runs the tests, and one of an ordinary user."""
    with place(request.param) as found:
        yield found
