"""Sandboxes that need more than a program: where each is to be found, and what a test of it must promise."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from tests import engine

NO_ENGINE = "unix:///nonexistent/engine"
_DOCKER = (pytest.mark.docker,)
_GVISOR = (pytest.mark.docker, pytest.mark.gvisor)

_ROOT = os.geteuid() == 0

# docker; gVisor by the engine's runtime; gVisor without an engine.
CONTAINED = [
    pytest.param("docker", marks=_DOCKER),
    pytest.param("gvisor", marks=_GVISOR),
    pytest.param("gvisor-alone", marks=pytest.mark.gvisor),
]
# And gVisor with --capture memory, which needs root as well.
ISOLATED = [*CONTAINED, *([pytest.param("gvisor-memory", marks=pytest.mark.gvisor)] if _ROOT else [])]
EVERY = [pytest.param("bwrap", marks=pytest.mark.bwrap), *ISOLATED]


def sandbox(kind: str) -> list[str]:
    """The options that choose it."""
    name, _, how = kind.partition("-")
    return ["--sandbox", name, *(["--capture", "memory"] if how == "memory" else [])]


def environment(kind: str) -> Mapping[str, str]:
    """The variables by which the program finds, or does not find, the tests' engine."""
    return {"DOCKER_HOST": engine.host() if kind in ("docker", "gvisor") else NO_ENGINE}
