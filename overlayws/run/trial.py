"""Whether a sandbox works here, found out by running a command in it that writes to an overlay."""

from __future__ import annotations

import re
from pathlib import Path

from overlayws.errors import OverlaywsError
from overlayws.layer.all_backends import choose
from overlayws.layer.mount import scratch_layer
from overlayws.run import docker, gvisor
from overlayws.run.environment import environment
from overlayws.run.runner import start
from overlayws.run.sandbox import RunSpec, Sandbox

_SECONDS = 60.0
_RUNTIME = '{"runtimes": {"runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--host-uds=open", "--oci-seccomp"]}}}'
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})")
_REPAIRED = (1, 1, 12)  # of runc, for CVE-2024-21626


def tried(sandbox: Sandbox, scratch: Path) -> str | None:
    """Why a command cannot write to a layer in ``scratch``, an own directory, in ``sandbox``, or None.

    What is outside of our processes meanwhile is in the record ``scratch/outside``.
    """
    if reason := sandbox.unusable():
        return reason
    try:
        layer = scratch_layer(scratch)
        layer.lowerdir.mkdir()
        spec = RunSpec(("touch", "made"), sandbox.place("/workspace"), environment({}), record=scratch / "outside")
        with choose("auto", scratch.parent)[1].mounted(layer) as mount, sandbox.prepared(spec, mount) as prepared:
            result = start(prepared.launch, enter=prepared.enter, timeout=_SECONDS)
        if result.exit_code:
            return f"a command that writes a file ended with status {result.exit_code} in it"
        return None if (layer.upperdir / "made").exists() else "what a command writes in it does not come back"
    except (OverlaywsError, OSError) as error:
        hint = f" ({error.hint})" if isinstance(error, OverlaywsError) and error.hint else ""
        return f"{error}{hint}"


def note(name: str) -> str:
    """What else is to be known of a sandbox that works, or what would help; "" for nothing."""
    try:
        if name == "docker":
            versions = docker.versions()
            text = ", ".join(f"{what} {version}" for what, version in versions.items())
            found = _VERSION.match(versions.get("runc", ""))
            if found and tuple(map(int, found.groups())) < _REPAIRED:
                text += "; runc before 1.1.12 needs its distribution's repair of CVE-2024-21626"
            return text
        if name == "gvisor":
            runtime = docker.gvisor_runtime()
            if isinstance(runtime, str):
                how = "by runsc alone" if gvisor.unusable() is None else "not"
                return f"{how}; the engine would have it with {_RUNTIME} in /etc/docker/daemon.json"
            ignored = "; limits of memory and processors not enforced (--ignore-cgroups)"
            return f"by the engine's runtime {runtime.name}" + (ignored if runtime.ignores_limits else "")
    except OverlaywsError:
        pass
    return ""
