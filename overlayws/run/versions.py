"""The container programs of this machine that had escapes, by number.

The numbers are those of the upstream advisories: opencontainers/runc GHSA-xr7r-f8xq-vfvv (CVE-2024-21626),
GHSA-9493-h29p-rfm2, GHSA-qw9x-cqr3-wc7r and GHSA-cgrx-mc8f-2prm (2025); containerd GHSA-36xw-fx78-c5r4. A distribution
mends a program without giving it a new number, so this tells where to look; it is no verdict.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass

from overlayws.errors import OverlaywsError
from overlayws.run.engine import connect

Version = tuple[int, ...]
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CANDIDATE = -1000  # in the fourth place: 1.4.0-rc.3 comes before 1.4.0


@dataclass(frozen=True, slots=True)
class Escape:
    """A way out of a container, and for each branch that was mended the first version without it, the oldest first."""

    program: str
    cve: str
    mended: tuple[Version, ...]

    def open_in(self, version: Version) -> bool:
        """Whether ``version`` has it, going by its number."""
        first = next((mended for mended in self.mended if mended[:2] == version[:2]), self.mended[-1])
        return version < first


ESCAPES = (
    Escape("runc", "CVE-2019-5736", ((1, 0, 0, _CANDIDATE + 7),)),
    Escape("runc", "CVE-2024-21626", ((1, 1, 12, 0),)),
    Escape(
        "runc", "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881",
        ((1, 2, 8, 0), (1, 3, 3, 0), (1, 4, 0, _CANDIDATE + 3)),
    ),
    Escape("containerd", "CVE-2020-15257", ((1, 3, 9, 0), (1, 4, 3, 0))),
)  # fmt: skip


def parsed(text: str) -> Version | None:
    """``1.4.0-rc.3`` or ``1.1.5+ds1-1+deb12u1`` as numbers that compare, or None where there is no version in it."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)(?:[-~.]?rc\.?(\d+))?", text)
    if found is None:
        return None
    major, minor, patch, candidate = found.groups()
    return int(major), int(minor), int(patch), _CANDIDATE + int(candidate) if candidate else 0


def told(program: str, version: str) -> str:
    """The version, and the escapes that a program of this number has."""
    number = parsed(version)
    if number is None:
        return version
    known = [escape.cve for escape in ESCAPES if escape.program == program and escape.open_in(number)]
    if not known:
        return version
    return f"{version}: by its number it has {', '.join(known)} (escapes); see whether your distribution mended them"


def container_programs() -> dict[str, str]:
    """The versions of runc and containerd: of those that the engine uses, else of this machine's runc, if any."""
    with suppress(OverlaywsError):
        client = connect()
        try:
            parts = client.version().get("Components") or ()
        finally:
            client.close()
        return {str(one["Name"]): str(one["Version"]) for one in parts if one["Name"] in ("runc", "containerd")}
    try:
        done = subprocess.run(
            ["runc", "--version"], env={"PATH": _PATH}, capture_output=True, text=True, errors="replace", timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    found = re.match(r"runc version (\S+)", done.stdout)
    return {"runc": found[1]} if found else {}
