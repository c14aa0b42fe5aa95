"""Sandboxes that need more than a program: where each is found, what its tests must promise, and what is left of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import engine
from tests.cli.conftest import Program

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


@pytest.fixture
def client() -> Iterator[Any]:
    import docker

    found = docker.APIClient(base_url=engine.host())
    yield found
    found.close()


def ours(client: Any, program: Program) -> list[str]:
    """The containers and volumes whose label names a session of ``program``."""
    filters = {"label": f"overlayws.session={program.session('s')}"}
    containers = [one["Id"] for one in client.containers(all=True, quiet=True, filters=filters)]
    return containers + [one["Name"] for one in client.volumes(filters=filters)["Volumes"] or ()]


def children(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parent = int(Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found.append(int(name))
    return found


def command_line(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "cmdline").read_text(errors="replace")
    except OSError:
        return ""
