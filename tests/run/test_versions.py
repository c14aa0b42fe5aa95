"""The programs with known escapes, told by their number."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from overlayws.run.versions import container_programs, parsed, told
from tests import engine

THREE = "CVE-2025-31133"


@pytest.mark.parametrize(
    ("version", "escapes"),
    [
        ("1.0.0-rc6", ["CVE-2019-5736", "CVE-2024-21626", THREE]),
        ("1.0.0-rc93", ["CVE-2024-21626", THREE]),
        ("1.1.5+ds1-1+deb12u1", ["CVE-2024-21626", THREE]),
        ("1.1.12", [THREE]),
        ("1.2.7", [THREE]),
        ("1.2.8", []),
        ("1.3.2", [THREE]),
        ("1.3.3", []),
        ("1.4.0-rc.2", [THREE]),
        ("1.4.0-rc.3", []),
        ("1.4.0", []),
        ("2.0.0", []),
        ("unknown", []),
    ],
)
def test_a_runc_is_told_with_the_escapes_of_its_number(version: str, escapes: list[str]) -> None:
    line = told("runc", version)
    assert line.startswith(version)
    assert [cve for cve in ("CVE-2019-5736", "CVE-2024-21626", THREE) if cve in line] == escapes


@pytest.mark.parametrize(
    ("version", "known"), [("1.3.8", True), ("1.3.9", False), ("1.4.2", True), ("1.6.20~ds1", False)]
)
def test_a_containerd_likewise(version: str, known: bool) -> None:
    assert ("CVE-2020-15257" in told("containerd", version)) is known


@pytest.mark.docker
def test_the_versions_are_those_that_the_engine_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host())
    found = container_programs()
    assert set(found) == {"runc", "containerd"} and all(map(parsed, found.values()))
    if shutil.which("runc"):
        said = subprocess.run(["runc", "--version"], capture_output=True, text=True, check=True).stdout
        assert parsed(found["runc"]) == parsed(said)
