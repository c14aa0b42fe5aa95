"""The words of a run: what to run, how it ended, and what a sandbox is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from overlayws.layer.mount import Mount
from overlayws.run.limits import Limits

# What a sandbox executes as the command: it says on descriptor 4 that the sandbox stands, gives the command the
# real standard error (until then descriptor 2 collects what the sandbox itself complains of) and becomes the
# command. A shell, because its `exec` has the statuses 126 and 127 and runs a script without a "#!" line.
STDERR, STARTED = 3, 4
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
    limits: Limits = Limits()
    image: str = ""  # of a container: its root; "" is this machine's own programs, read-only
    capture: str = "disk"  # or "memory": where gVisor keeps what is written until the end (memory.py)
    checkpoint_every: float | None = None  # seconds; with "memory": save what there is in between
    record: Path | None = None  # a file that says what a crash would leave outside (see leftovers.py)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended; every process of the sandbox is gone."""

    exit_code: int  # the command's own; 128 + n when signal n ended it; 126/127 as in a shell; 124 on timeout
    duration: float  # seconds
    timed_out: bool = False
    interrupted: bool = False  # ^C ended it
    out_of_memory: bool = False  # something of it was killed at its memory limit
    disk_limit: str = ""  # "enforced" by a file system, or "watched" (see disk.py); "" without one
    notes: tuple[str, ...] = ()  # what else the user must know of the run


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
    end: tuple[str, ...] = ()  # executed when overlayws is gone: ends what is no process of the supervisor's
    groups: tuple[str, ...] = ()  # files of control groups (cgroup.procs, tasks) that the process writes itself into
    rlimits: tuple[tuple[int, int], ...] = ()  # (resource, limit): setrlimit(2)
    stands_in: bool = False  # for a program that is no child: were it killed, nobody knows how the command ended
    processors: tuple[int, ...] = ()  # sched_setaffinity(2), unless empty
    passes_on: bool = False  # signals are for the program alone, which passes them on to what it started
    saving: float = 0.0  # seconds that it gets, when told by SIGUSR2 to end, to save what only it holds; then SIGKILL


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that can be started. ``enter``: how a process gets to the mount, or () where it does not need to."""

    launch: Launch
    enter: tuple[str, ...]
    concluded: Callable[[RunResult], RunResult] = lambda result: result  # what only the sandbox knows of the end
    notices: tuple[str, ...] = ()  # what the user must know: limits that are not enforced
    others: Callable[[], Iterable[int]] = lambda: ()  # processes of the run that are no descendants of ours
    cut_down: Callable[[], None] = lambda: None  # kills those, sooner than who owns them does when asked


class Sandbox(Protocol):
    """One way to confine a command. A module, not a class."""

    def unusable(self) -> str | None:
        """Why this machine cannot use the sandbox, or None. Found out by running `true` in it once."""

    def place(self, workspace: str) -> str:
        """Where the merged workspace appears inside, unless the user says otherwise."""

    def prepared(self, spec: RunSpec, mount: Mount) -> AbstractContextManager[Prepared]:
        """Everything that must stand before the run, and is gone after it: descriptors, groups, a container.

        Raises NotStartedError, UsageError for what this sandbox cannot do.
        """
