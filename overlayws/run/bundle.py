"""An OCI bundle for ``runsc run`` without an engine: ``config.json``, and a root made of this machine's own programs.

OCI runtime-spec 1.0.2; the same view as under bwrap (root_view.py), shown by gVisor's own kernel.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overlayws.run import inside
from overlayws.run.container import masked, shown
from overlayws.run.environment import HOME
from overlayws.run.host_image import files
from overlayws.run.limits import Limits
from overlayws.run.root_view import RootView
from overlayws.run.sandbox import RunSpec

GATE_DIRECTORY = "/run/overlayws-gate"
# As container.GATE, for a program that holds the caller's own streams: it waits for a file instead of a line.
GATE = (
    'c=$1 w=$2; shift 2; if [ -n "$c" ]; then (printf %s "$w" >"$c") 2>/dev/null; fi; '
    f"until [ -e {GATE_DIRECTORY}/go ]; do sleep 0.01; done; "
    '[ -z "$c" ] || rm -f "$c"; unset c w; "$@"; exit $?'
)
PROCESS = "process.json"
_NAMESPACES = ("pid", "mount", "ipc", "uts", "network")
# Of gVisor's kernel, for our own first process alone: to mount, to make the upperdir the program's, to read it whatever
# its modes, and to end every other process.
_CAPABILITIES = (
    "CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_FOWNER", "CAP_FSETID", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_MKNOD",
    "CAP_KILL",
)  # fmt: skip


def write(
    directory: Path,
    spec: RunSpec,
    view: RootView,
    merged: Path,
    uid: int,
    limits: Limits,
    canary: str,
    word: str,
) -> None:
    """Make the bundle in an empty ``directory``. ``spec.image``: a directory to be the root, instead of the view.

    runsc makes mount points in the root: over an image standalone.py mounts directories of our own, which get them.
    """
    _prepare(directory, spec, view)
    gate = ["/bin/sh", "-c", GATE, "overlayws", f"{spec.workspace}/{canary}" if canary else "", word]
    process = _process(spec, [*gate, *spec.command], uid, limits)
    binds = {spec.workspace: os.fspath(merged), GATE_DIRECTORY: os.fspath(directory / "gate")}
    mounts = _mounts(spec, view, uid)
    for target, source in binds.items():
        writable = target == spec.workspace and not spec.read_only
        mounts.append(_bind(source, target, "rw" if writable else "ro"))
    _write_config(directory, process, mounts)


def write_for_memory(
    directory: Path,
    spec: RunSpec,
    view: RootView,
    base: Path,
    uid: int,
    limits: Limits,
    size: int,
    first: Sequence[str],
    hosts: Sequence[str],
) -> None:
    """The same for ``--capture memory``: the first process is ours (``first``, see inside.py), root with the
    capabilities to mount, and finds ``base`` and ``size`` bytes of memory; the program is executed later, as the file
    PROCESS says. ``hosts`` are the directories of this machine that ours needs until it has begun.
    """
    _prepare(directory, spec, view)
    (directory / "code").mkdir(mode=0o755)
    process = {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": list(first),
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        "cwd": "/",
        "capabilities": {name: list(_CAPABILITIES) for name in ("bounding", "effective", "permitted")},
        "noNewPrivileges": True,
        "rlimits": _rlimits(limits.pids + 1, limits.disk),  # runsc of 2022 gives these to what is executed later, too
    }
    mounts = [
        *_mounts(spec, view, uid),
        _tmpfs(spec.workspace, "4k", "0755", "ro"),  # a place for the overlay to be mounted on
        _tmpfs(inside.PLACE, "64k", "0700"),
        _bind(os.fspath(base), inside.BASE, "ro"),
        _bind(os.fspath(directory / "code"), inside.CODE, "ro"),
        _tmpfs(inside.MEMORY, str(size), "0700"),
        *(_bind(path, f"{inside.HOST}{path}", "ro") for path in hosts),
    ]
    _write_config(directory, process, mounts)
    # A shell, because its `exec` has the statuses 126 and 127, and runs a script without a "#!" line.
    command = ["/bin/sh", "-c", 'exec "$@"', "overlayws", *spec.command]
    (directory / PROCESS).write_text(json.dumps(_process(spec, command, uid, limits)))


def _prepare(directory: Path, spec: RunSpec, view: RootView) -> None:
    root = directory / "root"
    for name in ("gate", "root", *(("image-upper", "image-work") if spec.image else ())):
        (directory / name).mkdir(mode=0o755)
    if not spec.image:
        for path, content in files(view).items():
            if content is None:
                (root / path).mkdir(mode=0o755, parents=True, exist_ok=True)
            elif isinstance(content, str):
                os.symlink(content, root / path)
            else:
                (root / path).write_bytes(content)
                (root / path).chmod(0o644)
        for path in (spec.workspace, *shown(spec, None), *masked(spec, None), spec.env.get("HOME", HOME)):
            (root / path.lstrip("/")).mkdir(mode=0o755, parents=True, exist_ok=True)


def _mounts(spec: RunSpec, view: RootView, uid: int) -> list[dict[str, Any]]:
    """All but the workspace."""
    home = spec.env.get("HOME", HOME)
    own = None if spec.image else view
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        _tmpfs("/dev/shm", "64m", "1777"),
        *(_bind(path, path, "ro") for path in shown(spec, own)),
        *(_tmpfs(path, "4k", "0755", "ro") for path in masked(spec, own)),
        _tmpfs("/tmp", "100m", "1777"),
        _tmpfs("/var/tmp", "100m", "1777"),
        _tmpfs("/run", "100m", "0755"),
    ]
    if home not in ("/", spec.workspace):
        mounts.append(_tmpfs(home, "500m", "0700", f"uid={uid}", f"gid={uid}"))
    return mounts


def _process(spec: RunSpec, words: list[str], uid: int, limits: Limits) -> dict[str, Any]:
    """The program: no capability, none to be had."""
    return {
        "terminal": spec.terminal,
        "user": {"uid": uid, "gid": uid},
        "args": words,
        "env": [f"{name}={value}" for name, value in spec.env.items()],
        "cwd": spec.workspace,
        "capabilities": {name: [] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")},
        "noNewPrivileges": True,
        "rlimits": _rlimits(limits.pids, limits.disk),
    }


def _rlimits(pids: int, disk: int = 0) -> list[dict[str, Any]]:
    limits = {"RLIMIT_CORE": 0, "RLIMIT_NPROC": pids, **({"RLIMIT_FSIZE": disk} if disk else {})}
    return [{"type": name, "soft": value, "hard": value} for name, value in limits.items()]


def _write_config(directory: Path, process: dict[str, Any], mounts: list[dict[str, Any]]) -> None:
    config = {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": os.fspath(directory / "root"), "readonly": True},
        "hostname": "overlayws",
        "mounts": sorted(mounts, key=lambda mount: mount["destination"].count("/")),  # so that the deeper wins
        "linux": {"namespaces": [{"type": name} for name in _NAMESPACES]},
    }
    (directory / "config.json").write_text(json.dumps(config))


def _bind(source: str, target: str, mode: str) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": source, "options": ["rbind", mode, "nosuid", "nodev"]}


def _tmpfs(target: str, size: str, mode: str, *more: str) -> dict[str, Any]:
    options = ["nosuid", "nodev", "noexec", f"size={size}", f"mode={mode}", *more]
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}
