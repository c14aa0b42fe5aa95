"""The words of a run: what to run, how it ended, and what a sandbox is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What to run, and what it may see."""

    command: tuple[str, ...]
    workspace: str  # where the merged workspace appears inside, absolute; also the working directory
    env: Mapping[str, str] = field(default_factory=dict)  # the whole environment of the command
    network: str = "none"  # or "host"
    read_only: bool = False
    tools: tuple[str, ...] = ()  # host directories shown read-only at their own path
    timeout: float | None = None  # wall-clock seconds


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended; every process of the sandbox is gone."""

    exit_code: int  # the command's own; 128 + n when signal n ended it; 126/127 as in a shell
    duration: float  # seconds
    timed_out: bool = False
    interrupted: bool = False  # ^C


class Sandbox(Protocol):
    """One way to confine a command. A module, not a class."""

    def unusable(self) -> str | None:
        """Why this machine cannot use the sandbox, or None. Found out by running `true` in it once."""

    def argv(self, spec: RunSpec, merged: Path) -> list[str]:
        """The command line that runs ``spec`` confined, for a process that sees the mount. Pure."""
