"""Sandboxes that need more than a program: where each is to be found, and what a test of it must promise."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from tests import engine

NO_ENGINE = "unix:///nonexistent/engine"
_DOCKER = (pytest.mark.docker,)
_GVISOR = (pytest.mark.docker, pytest.mark.gvisor)

# docker; gVisor by the engine's runtime; gVisor without an engine, which needs root.
CONTAINED = [
    pytest.param("docker", marks=_DOCKER),
    pytest.param("gvisor", marks=_GVISOR),
    *([pytest.param("gvisor-alone", marks=pytest.mark.gvisor)] if os.geteuid() == 0 else []),
]
EVERY = [pytest.param("bwrap", marks=pytest.mark.bwrap), *CONTAINED]


def sandbox_of(kind: str) -> str:
    return kind.removesuffix("-alone")


def environment(kind: str) -> Mapping[str, str]:
    """The variables by which the program finds, or does not find, the tests' engine."""
    return {"DOCKER_HOST": engine.host() if kind in ("docker", "gvisor") else NO_ENGINE}
