"""An OCI bundle for ``runsc run`` without an engine: ``config.json``, and a root made of this machine's own programs.

OCI runtime-spec 1.0.2; the same view as under bwrap (root_view.py), shown by gVisor's own kernel.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

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
_NAMESPACES = ("pid", "mount", "ipc", "uts", "network")


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
    gate = ["/bin/sh", "-c", GATE, "overlayws", f"{spec.workspace}/{canary}" if canary else "", word]
    binds = {spec.workspace: os.fspath(merged), GATE_DIRECTORY: os.fspath(directory / "gate")}
    config = _config(spec, None if spec.image else view, os.fspath(root), gate, binds, uid, limits)
    (directory / "config.json").write_text(json.dumps(config))


def _config(
    spec: RunSpec,
    view: RootView | None,
    root: str,
    gate: list[str],
    binds: dict[str, str],
    uid: int,
    limits: Limits,
) -> dict[str, Any]:
    home = spec.env.get("HOME", HOME)
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        _tmpfs("/dev/shm", "64m", "1777"),
        *(_bind(path, path, "ro") for path in shown(spec, view)),
        *(_tmpfs(path, "4k", "0755", "ro") for path in masked(spec, view)),
        _tmpfs("/tmp", "100m", "1777"),
        _tmpfs("/var/tmp", "100m", "1777"),
        _tmpfs("/run", "100m", "0755"),
    ]
    if home not in ("/", spec.workspace):
        mounts.append(_tmpfs(home, "500m", "0700", f"uid={uid}", f"gid={uid}"))
    for target, source in binds.items():
        writable = target == spec.workspace and not spec.read_only
        mounts.append(_bind(source, target, "rw" if writable else "ro"))
    process: dict[str, Any] = {
        "terminal": spec.terminal,
        "user": {"uid": uid, "gid": uid},
        "args": [*gate, *spec.command],
        "env": [f"{name}={value}" for name, value in spec.env.items()],
        "cwd": spec.workspace,
        "capabilities": {name: [] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")},
        "noNewPrivileges": True,
        "rlimits": [
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_NPROC", "soft": limits.pids, "hard": limits.pids},
            *([{"type": "RLIMIT_FSIZE", "soft": limits.disk, "hard": limits.disk}] if limits.disk else []),
        ],
    }
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": root, "readonly": True},
        "hostname": "overlayws",
        "mounts": sorted(mounts, key=lambda mount: mount["destination"].count("/")),  # so that the deeper wins
        "linux": {"namespaces": [{"type": name} for name in _NAMESPACES]},
    }


def _bind(source: str, target: str, mode: str) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": source, "options": ["rbind", mode, "nosuid", "nodev"]}


def _tmpfs(target: str, size: str, mode: str, *more: str) -> dict[str, Any]:
    options = ["nosuid", "nodev", "noexec", f"size={size}", f"mode={mode}", *more]
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}
