"""The runsc program: where it is, and which platform it has."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def installed() -> str | None:
    """The absolute path of this machine's runsc, or None."""
    return shutil.which("runsc", path=_PATH)


@cache
def platform(program: str) -> str:
    """systrap where this runsc has it, else ptrace; kvm needs a device that few may open."""
    return "systrap" if "systrap" in _said(program, "flags") else "ptrace"


def _said(program: str, *arguments: str) -> str:
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, errors="replace", timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout + done.stderr
