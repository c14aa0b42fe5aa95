"""The words of a run: what to run, how it ended, and what a sandbox is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

# What a sandbox executes as the command: it says on descriptor 4 that the sandbox stands, gives the command the
# real standard error (until then descriptor 2 collects what the sandbox itself complains of) and becomes the
# command. A shell, because its `exec` has the statuses 126 and 127 and runs a script without a "#!" line.
EXEC = ("/bin/sh", "-c", 'echo >&4; exec 2>&3 3>&- 4>&-; exec "$@"', "overlayws")


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
    hidden: tuple[str, ...] = ()  # host directories to mask wherever /usr or `tools` would show them
    terminal: bool = False  # 0 and 1 are a terminal made for this run; `run` decides


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended; every process of the sandbox is gone."""

    exit_code: int  # the command's own; 128 + n when signal n ended it; 126/127 as in a shell; 124 on timeout
    duration: float  # seconds
    timed_out: bool = False
    interrupted: bool = False  # ^C ended it


@dataclass(frozen=True, slots=True)
class Launch:
    """What the supervisor executes. Descriptors 0 to 4 (see EXEC) and ``descriptors`` are all that it has open."""

    program: str  # absolute path
    argv: tuple[str, ...]
    env: Mapping[str, str]
    directory: str  # the working directory
    same_as: str | None = None  # a nicer name of ``directory``, used only where it is the same directory
    descriptors: Mapping[int, bytes] = field(default_factory=dict)  # number (10 and up) -> content to read there
    no_new_privs: bool = False  # set PR_SET_NO_NEW_PRIVS, for a sandbox that does not do it itself
    own_home: bool = False  # HOME inside is a directory of the host: give it an empty one if it does not exist


class Sandbox(Protocol):
    """One way to confine a command. A module, not a class."""

    def unusable(self) -> str | None:
        """Why this machine cannot use the sandbox, or None. Found out by running `true` in it once."""

    def argv(self, spec: RunSpec, merged: Path) -> list[str]:
        """The whole command line that runs ``spec`` confined, for a process that sees the mount. Pure."""

    def launch(self, spec: RunSpec, merged: Path) -> Launch:
        """The same, as it is executed: what other processes must not read is moved into descriptors."""
