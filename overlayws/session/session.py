"""Session: one workspace, one base, one upperdir, with a name. Ids and paths; no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from overlayws.layer.mount import Layer
from overlayws.run.limits import Limits

STATES = ("new", "running", "captured", "partly-applied", "applied", "discarded", "interrupted")
BASES = ("copy", "live")
KEPT_IN = ("disk", "memory")
DOING = ("", "run", "capture", "apply", "undo", "drop", "discard")


@dataclass(frozen=True, slots=True)
class Run:
    """One command that was run in the session."""

    command: tuple[str, ...]
    started: str  # ISO 8601, UTC
    exit_code: int | None = None  # None while it runs, or when it was interrupted
    duration: float | None = None  # seconds
    kept_in: str = "disk"  # one of KEPT_IN: where its changes were until its end
    notices: tuple[str, ...] = ()  # what was said before it began: which way it was confined, what is not enforced
    disk: str = ""  # its limit of disk was "enforced" by a file system, or "watched"; "" without a limit
    notes: tuple[str, ...] = ()  # what had to be said of it at its end


@dataclass(frozen=True, slots=True)
class Session:
    """What ``session.json`` says. ``directory`` is where the session's files are."""

    name: str
    directory: Path
    workspace: Path
    created: str  # ISO 8601, UTC
    backend: str
    sandbox: str
    own_git: bool  # the program has a repository of its own at the top
    state: str = "new"  # one of STATES
    # What was going on when the file was written, one of DOING. Not empty while no process holds the lock means that
    # it was interrupted.
    doing: str = ""
    journal: str = ""  # of an apply or undo that is going on
    then: str = ""  # the state when that is done
    network: str = "none"
    read_only: bool = False
    tools: tuple[str, ...] = ()
    image: str = ""  # of a container: its root file system; "" shows this machine's own programs
    workdir_at: str = ""  # where the workspace appears inside; "" is the sandbox's own choice
    limits: Limits = Limits()
    # Where a run's changes are until its end: the upperdir, or the memory of gVisor (run/memory.py). ``capture`` is
    # what was frozen of them.
    kept_in: str = "disk"
    checkpoint_every: float | None = None  # seconds; with "memory"
    runs: tuple[Run, ...] = field(default=())
    warnings: tuple[str, ...] = ()
    capture: str = (
        ""  # the frozen changes of the runs: captures/CAPTURE (see changes/freeze.py); empty before the first
    )
    base_mode: str = "copy"  # or "live": the workspace itself with a mask over it (see base/live_build.py)
    base_id: str = ""  # of a copy, shared with other sessions: bases/ID (see base/shelf.py)

    @property
    def base(self) -> Path:
        if self.base_id:
            return self.directory.parent.parent / "bases" / self.base_id
        return self.directory / "base"

    @property
    def manifest(self) -> Path:
        return self.base / "manifest.db"

    @property
    def outside(self) -> Path:
        """What a run makes outside of our processes, while it does (see run/leftovers.py)."""
        return self.directory / "outside"

    @property
    def owed(self) -> Path:
        """Where it is noted that an engine has something of a run left, which nobody could remove (as above)."""
        return self.directory / "owed"

    @property
    def journals(self) -> Path:
        return self.directory / "journal"

    @property
    def captures(self) -> Path:
        return self.directory / "captures"

    @property
    def layer(self) -> Layer:
        return Layer(
            lowerdir=self.base / "lower",
            upperdir=self.directory / "upper",
            workdir=self.directory / "work",
            merged=self.directory / "merged",
            below=(self.base / "mask", self.workspace) if self.base_mode == "live" else (),
        )
