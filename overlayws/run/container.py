"""What the engine is told about one run: the whole hardened set, as the body of ``POST /containers/create``.

Docker Engine API 1.41. Each defence has a test that fails without it (tests/run/test_container_attacks.py).
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from overlayws.errors import NotStartedError, UsageError
from overlayws.run.environment import HOME, PATH
from overlayws.run.limits import Limits
from overlayws.run.root_view import RootView
from overlayws.run.sandbox import RunSpec
from overlayws.run.syscalls import profile

WORKSPACE = "/workspace"
# What a container executes: it shows that a write to the workspace comes back, waits until that was seen, and runs the
# command. $1 is the canary's path, or empty; $2 is a word that the program cannot know before it runs; $3 is the
# workspace as mountinfo has it, where there must be one mount and none below: whatever an image brought (a VOLUME
# behind a symlink) would take what is written, or hide what is there. The shell stays as the first process: it waits
# for orphans, and its end ends the others.
GATE = (
    'c=$1 w=$2 d=$3 s=ok n=; shift 3; if [ -n "$c" ]; then (printf %s "$w" >"$c") 2>/dev/null || s=unwritable; fi; '
    'while read -r _ _ _ _ m _; do case $m in "$d"|"$d"/*) n=1$n;; esac; done </proc/self/mountinfo; '
    '[ "$n" = 1 ] || s=covered; '
    'echo "$w:$s"; IFS= read -r _ || exit 125; [ -z "$c" ] || rm -f "$c"; echo "$w:go"; '
    'unset c w d s n m _; "$@"; exit $?'
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
_MEMORY = ("/tmp", "/var/tmp", "/run")  # always
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


def check_places(spec: RunSpec, image_config: Mapping[str, Any]) -> None:
    """Refuse memory that would lie over the workspace, where what is written is lost and "nothing changed".

    Raises UsageError for what the user chose, NotStartedError for what the image declares.
    """
    home = spec.env.get("HOME", HOME)
    if not home.startswith("/"):
        raise UsageError(f"--env HOME={home!r} is no absolute path", hint="name a directory, such as /home/agent")
    for path in (*_MEMORY, *(() if _plain(home) in (spec.workspace, "/") else (_plain(home),))):
        if _below(path, spec.workspace):
            raise UsageError(
                f"the workspace cannot be at {spec.workspace!r}: {path!r} is memory, which the run takes with it",
                hint="choose another --workdir-at" if path in _MEMORY else "choose a HOME that is not below it",
            )
    for declared in image_config.get("Volumes") or {}:
        path = _plain(declared)
        # One that is relative the engine would mount by itself, wherever that is.
        if not declared.startswith("/") or _below(path, spec.workspace) or _below(spec.workspace, path):
            raise NotStartedError(
                f"the image declares a volume {declared!r}, which could cover the workspace at {spec.workspace!r}",
                hint="choose another --workdir-at, or make the image without that VOLUME",
            )


def body(spec: RunSpec, container: Container, limits: Limits) -> dict[str, Any]:
    """The request. Pure."""
    home = _plain(spec.env.get("HOME", HOME))
    declared = container.image_config.get("Volumes") or {}
    canary = f"{spec.workspace}/{container.canary}" if container.canary else ""
    host: dict[str, Any] = {
        "Mounts": _mounts(spec, container),
        "Tmpfs": {
            "/tmp": _TMP,
            "/var/tmp": _TMP,
            "/run": _TMP.replace("1777", "0755"),
            # An image's VOLUMEs would be directories of the engine's, writable and without limit.
            **{_plain(path): _TMP for path in declared if path.startswith("/")},
            **({} if home in (spec.workspace, "/") else {home: _HOME.format(uid=container.uid)}),
            **dict.fromkeys(masked(spec, container.view), _MASK),
        },
        "NetworkMode": spec.network,
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": [
            "no-new-privileges",
            f"seccomp={json.dumps(profile(gvisor=container.gvisor, limited=limits.disk > 0))}",
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
    if limits.disk:  # see disk.py
        host["Ulimits"].append({"Name": "fsize", "Soft": limits.disk, "Hard": limits.disk})
    if container.gvisor:  # whose own threads would count as processes in the control group
        host["Ulimits"].append({"Name": "nproc", "Soft": limits.pids, "Hard": limits.pids})
    else:
        host["PidsLimit"] = limits.pids
    if container.runtime:
        host["Runtime"] = container.runtime
    return {
        "Image": container.image,
        "Entrypoint": ["/bin/sh", "-c", GATE, "overlayws", canary, container.word, _as_mounted(spec.workspace)],
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


def _plain(path: str) -> str:
    """As the engine cleans it: from the root, without . and .. and doubled slashes."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def _as_mounted(path: str) -> str:
    """As it is in mountinfo: proc(5)."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in path)


def _below(path: str, *directories: str) -> bool:
    return any(path == directory or path.startswith(directory.rstrip("/") + "/") for directory in directories)
