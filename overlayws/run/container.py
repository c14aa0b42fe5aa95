"""What the engine is told about one run: the whole hardened set, as the body of ``POST /containers/create``.

Docker Engine API 1.41. Each defence has a test that fails without it (tests/run/test_container_attacks.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from overlayws.run.environment import HOME, PATH
from overlayws.run.limits import Limits
from overlayws.run.root_view import RootView
from overlayws.run.sandbox import RunSpec
from overlayws.run.syscalls import profile

WORKSPACE = "/workspace"
# What a container executes: it shows that a write to the workspace comes back, waits until that was seen, and runs the
# command. $1 is the canary's path, or empty; $2 is a word that the program cannot know before it runs. The shell stays
# as the first process: it waits for orphans, and its end ends the others.
GATE = (
    'c=$1 w=$2; shift 2; s=ok; if [ -n "$c" ]; then (printf %s "$w" >"$c") 2>/dev/null || s=unwritable; fi; '
    'echo "$w:$s"; IFS= read -r _ || exit 125; [ -z "$c" ] || rm -f "$c"; echo "$w:go"; '
    'unset c w s _; "$@"; exit $?'
)
# A first process gets no signal that it does not handle (pid_namespaces(7)), so the others are given them. Not by a
# kill(2) of -1, at which gVisor of 2022 ends the sandbox; and parents first (the shorter number), or a shell that waits
# for a program would see that one interrupted and go on.
SIGNAL = (
    "/bin/sh",
    "-c",
    "cd /proc; l=; for p in [0-9] [0-9][0-9] [0-9][0-9][0-9] [0-9][0-9][0-9][0-9] [0-9][0-9][0-9][0-9]*[0-9]; do "
    '[ ! -d $p ] || [ $p = 1 ] || [ $p = $$ ] || l="$l $p"; done; kill -"$1" $l',
    "overlayws",
)
_TMP = "rw,noexec,nosuid,nodev,size=100m,mode=1777"
_HOME = "rw,noexec,nosuid,nodev,size=500m,mode=0700,uid={uid},gid={uid}"
_MASK = "ro,noexec,nosuid,nodev,size=4k,mode=0755"


@dataclass(frozen=True, slots=True)
class Container:
    """What depends on this machine and this session."""

    image: str
    image_config: Mapping[str, Any]  # the image's own, as the engine tells it ("Config" of an inspected image)
    source: Mapping[str, str]  # {"Type": "bind", "Source": path} or {"Type": "volume", "Source": name}
    uid: int
    gid: int
    label: Mapping[str, str]
    canary: str  # the name of the file that must come back, or ""
    word: str
    runtime: str = ""  # of the engine; "" is its default
    view: RootView | None = None  # this machine's own root, where there is no image of the user's
    gvisor: bool = False


def body(spec: RunSpec, container: Container, limits: Limits) -> dict[str, Any]:
    """The request. Pure."""
    home = spec.env.get("HOME", HOME)
    declared = container.image_config.get("Volumes") or {}
    canary = f"{spec.workspace}/{container.canary}" if container.canary else ""
    host: dict[str, Any] = {
        "Mounts": _mounts(spec, container),
        "Tmpfs": {
            "/tmp": _TMP,
            "/var/tmp": _TMP,
            "/run": _TMP.replace("1777", "0755"),
            # An image's VOLUMEs would be directories of the engine's, writable and without limit.
            **{path: _TMP for path in declared if path.startswith("/")},
            **({} if home in (spec.workspace, "/") else {home: _HOME.format(uid=container.uid)}),
            **dict.fromkeys(masked(spec, container.view), _MASK),
        },
        "NetworkMode": spec.network,
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": [
            "no-new-privileges",
            f"seccomp={json.dumps(profile(gvisor=container.gvisor))}",
        ],
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Memory": limits.memory,
        "MemorySwap": limits.memory,
        "NanoCpus": int(limits.cpus * 1e9),
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
        "ShmSize": 64 << 20,
    }
    if container.gvisor:  # whose own threads would count as processes in the control group
        host["Ulimits"].append({"Name": "nproc", "Soft": limits.pids, "Hard": limits.pids})
    else:
        host["PidsLimit"] = limits.pids
    if container.runtime:
        host["Runtime"] = container.runtime
    return {
        "Image": container.image,
        "Entrypoint": ["/bin/sh", "-c", GATE, "overlayws", canary, container.word],
        "Cmd": list(spec.command),
        "Env": [f"{name}={value}" for name, value in _environment(spec, container).items()],
        "User": f"{container.uid}:{container.gid}",
        "WorkingDir": spec.workspace,
        "Hostname": "overlayws",
        "Tty": spec.terminal,
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": dict(container.label),
        "HostConfig": host,
    }


def _mounts(spec: RunSpec, container: Container) -> list[dict[str, Any]]:
    private = {"Propagation": "rprivate"}
    mounts = [
        {"Type": "bind", "Source": path, "Target": path, "ReadOnly": True, "BindOptions": private}
        for path in shown(spec, container.view)
    ]
    workspace = {**container.source, "Target": spec.workspace, "ReadOnly": spec.read_only}
    workspace |= {"BindOptions": private} if container.source["Type"] == "bind" else {"VolumeOptions": {"NoCopy": True}}
    return [*mounts, workspace]


def shown(spec: RunSpec, view: RootView | None) -> list[str]:
    """What of the host is shown at its own path, read-only."""
    own = () if view is None else (*view.directories, *view.etc)
    return [
        path
        for path in dict.fromkeys((*own, *spec.tools))
        if not _below(path, spec.workspace) and path not in spec.hidden
    ]


def masked(spec: RunSpec, view: RootView | None) -> list[str]:
    """What must not be seen of it; a tool below is shown again."""
    paths = (*(() if view is None else view.directories), *spec.tools)
    return [path for path in dict.fromkeys(spec.hidden) if _below(path, *paths) and not _below(path, spec.workspace)]


def _environment(spec: RunSpec, container: Container) -> dict[str, str]:
    env = dict(spec.env)
    own = dict(word.split("=", 1) for word in container.image_config.get("Env") or () if "=" in word)
    if "PATH" in own and env.get("PATH", "").endswith(PATH):
        # The image knows where its programs are; those of --tools still come first.
        env["PATH"] = env["PATH"].removesuffix(PATH) + own["PATH"]
    return env


def _below(path: str, *directories: str) -> bool:
    return any(path == directory or path.startswith(directory.rstrip("/") + "/") for directory in directories)
