"""Limits of a run that is a process of ours: control groups where we may make one, else what rlimits can do.

cgroups(7), Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst; setrlimit(2), sched_setaffinity(2).
"""

from __future__ import annotations

import os
import resource
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from overlayws.run.limits import Limits
from overlayws.run.sandbox import Launch, RunResult

_PREFIX = "overlayws-"
_PERIOD = 100_000  # microseconds: the kernel's own default period of a processor quota


@dataclass(frozen=True, slots=True)
class Held:
    """The limits as they are enforced."""

    groups: tuple[Path, ...] = ()
    rlimits: tuple[tuple[int, int], ...] = ()
    processors: tuple[int, ...] = ()
    notices: tuple[str, ...] = ()

    def applied(self, launch: Launch) -> Launch:
        """``launch`` with them."""
        files = tuple(str(group / "cgroup.procs") for group in self.groups)
        return replace(launch, groups=files, rlimits=self.rlimits, processors=self.processors)

    def concluded(self, result: RunResult) -> RunResult:
        """``result``, and whether the memory limit ended something."""
        return replace(result, out_of_memory=any(_killed(group) for group in self.groups))


@contextmanager
def limited(limits: Limits) -> Iterator[Held]:
    """Groups for one run, removed at the end; those that killed commands left are removed too."""
    made: list[Path] = []
    try:
        missing, settings = _settings(limits)
        for place, files in settings.items():
            _sweep(place)
            try:
                group = place / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
                group.mkdir()
                made.append(group)
                for name, value in files.items():
                    if name.startswith("memory.memsw") and not (group / name).exists():
                        continue  # no accounting of swap
                    (group / name).write_text(value)
            except OSError:
                missing = limits
                break
        if missing is limits:
            _remove(made)
            made.clear()
        yield _by_rlimits(replace(missing, disk=limits.disk), tuple(made))
    finally:
        _remove(made)


def _by_rlimits(missing: Limits, groups: tuple[Path, ...]) -> Held:
    rlimits: list[tuple[int, int]] = []
    notices: list[str] = []
    processors: tuple[int, ...] = ()
    if missing.disk:
        rlimits.append((resource.RLIMIT_FSIZE, missing.disk))  # see disk.py
    if missing.memory:
        rlimits.append((resource.RLIMIT_AS, missing.memory))
        notices.append("--memory holds for each process, not for all together: no control group can be made here")
    if missing.pids:
        rlimits.append((resource.RLIMIT_NPROC, missing.pids))
        if os.geteuid() == 0:
            notices.append("--pids is not enforced: no control group can be made here")
        else:
            notices.append("--pids counts all processes of yours in the sandbox's user namespace")
    if missing.cpus:
        processors = tuple(sorted(os.sched_getaffinity(0))[: max(1, ceil(missing.cpus))])
        if missing.cpus != len(processors):
            notices.append(f"--cpus is {len(processors)}, a whole number: no control group can be made here")
    return Held(groups, tuple(rlimits), processors, tuple(notices))


def _settings(limits: Limits) -> tuple[Limits, dict[Path, dict[str, str]]]:
    """(what no group can do, directory to make a group in -> file -> value)."""
    if not limits:
        return limits, {}
    found: dict[Path, dict[str, str]] = {}
    one = _unified()
    places = {name: place for name in ("memory", "pids", "cpu") if (place := one or _hierarchy(name)) is not None}
    quota = str(max(1000, int(limits.cpus * _PERIOD)))
    missing = Limits()
    if limits.memory and "memory" in places:
        files = {"memory.max": str(limits.memory), "memory.swap.max": "0"} if one else {
            "memory.limit_in_bytes": str(limits.memory), "memory.memsw.limit_in_bytes": str(limits.memory),
        }  # fmt: skip
        found.setdefault(places["memory"], {}).update(files)
    else:
        missing = replace(missing, memory=limits.memory)
    if limits.pids and "pids" in places:
        found.setdefault(places["pids"], {})["pids.max"] = str(limits.pids)
    else:
        missing = replace(missing, pids=limits.pids)
    if limits.cpus and "cpu" in places:
        files = {"cpu.max": f"{quota} {_PERIOD}"} if one else {
            "cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": quota,
        }  # fmt: skip
        found.setdefault(places["cpu"], {}).update(files)
    else:
        missing = replace(missing, cpus=limits.cpus)
    return missing, found


def _unified() -> Path | None:
    """In cgroup v2: the directory beside or below our own group where groups with all three controllers can be made."""
    own = _own_groups().get("")
    if own is None or not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return None
    here = Path("/sys/fs/cgroup") / own.lstrip("/")
    for place in (here, here.parent):
        with suppress(OSError):
            controllers = (place / "cgroup.subtree_control").read_text().split()
            if {"memory", "pids", "cpu"} <= set(controllers) and os.access(place, os.W_OK):
                return place
    return None


def _hierarchy(controller: str) -> Path | None:
    """In cgroup v1: our own group in the controller's hierarchy, where we may make groups."""
    own = _own_groups().get(controller)
    if own is None:
        return None
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields, _, rest = line.partition(" - ")
            kind, _, options = rest.split(" ", 2)
            if kind == "cgroup" and controller in options.split(","):
                place = Path(fields.split()[4]) / own.lstrip("/")
                return place if os.access(place, os.W_OK) else None
    return None


def _own_groups() -> dict[str, str]:
    found = {}
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                found[controller] = path
    return found


def _killed(group: Path) -> bool:
    for name in ("memory.events", "memory.oom_control"):
        with suppress(OSError):
            for line in (group / name).read_text().splitlines():
                if line.startswith("oom_kill ") and line.split()[1] != "0":
                    return True
    return False


def _remove(groups: list[Path]) -> None:
    for group in groups:
        for _ in range(50):
            try:
                group.rmdir()
            except FileNotFoundError:
                break
            except OSError:  # busy: the last process is just being taken out of it
                time.sleep(0.02)
            else:
                break


def _sweep(place: Path) -> None:
    """Remove the empty groups of commands that are gone. rmdir(2) refuses those that hold a process."""
    with suppress(OSError):
        for left in place.glob(f"{_PREFIX}*-*"):
            owner = left.name.split("-")[1]
            if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
                with suppress(OSError):
                    left.rmdir()
