"""What the tests of ``--base live`` share."""

from __future__ import annotations

import pytest

ANY = ("--base", "live")
LIVE = pytest.mark.parametrize(
    "backend", [pytest.param("kernel", marks=pytest.mark.kernel), pytest.param("userns", marks=pytest.mark.userns)]
)
AUTO = pytest.mark.parametrize("backend", ["auto"])  # as an ordinary user that is userns
