"""``gvisor``: a kernel of its own in user space (runsc), by the engine's runtime or, where no engine has it, alone.

Alone, runsc is a child of the supervisor inside the layer's mount namespace, like bwrap: nothing of it outlives the
run.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from overlayws.errors import NotStartedError, UnableError, UsageError
from overlayws.layer.mount import Mount
from overlayws.layer.outside import owned
from overlayws.run import bundle, docker, leftovers, memory
from overlayws.run.canary import hatched
from overlayws.run.cgroup import Held, limited
from overlayws.run.container import SIGNAL, WORKSPACE, check_places
from overlayws.run.limits import Limits, default
from overlayws.run.root_view import UID, root_view
from overlayws.run.runsc_program import installed, platform
from overlayws.run.sandbox import Launch, Prepared, RunSpec

_STANDALONE = Path(__file__).with_name("standalone.py")
_PLAN = 10


def unusable() -> str | None:
    """Why neither an engine's runtime nor runsc alone can be used, or None."""
    return _alone_unusable() if isinstance(docker.gvisor_runtime(), str) else None


def place(workspace: str) -> str:
    """``/workspace``."""
    return WORKSPACE


@contextmanager
def prepared(spec: RunSpec, mount: Mount) -> Iterator[Prepared]:
    """See ``Sandbox.prepared``."""
    if spec.network == "host":
        raise UsageError("gvisor has no way to the host's network", hint="--sandbox docker or bwrap has")
    runtime = docker.gvisor_runtime()
    directory = spec.image.startswith("/")
    if not isinstance(runtime, str) and not directory and spec.capture == "disk":
        with docker.prepared(spec, mount, runtime) as found:
            yield found
        return
    check_image(spec.image, spec.capture, runtime if isinstance(runtime, str) else "")
    if reason := _alone_unusable(spec.capture):
        raise NotStartedError(f"gvisor cannot be used here: {reason}", hint="overlayws doctor")
    if spec.capture == "memory":
        image = _checked_image(spec) if spec.image else ""
        with memory.prepared(spec, mount, _runsc(installed() or "runsc"), image) as found:
            yield found
        return
    with alone(spec, mount) as found:
        said = () if directory else (f"gvisor by runsc alone, not by an engine: {runtime}",)
        yield replace(found, notices=(*said, *found.notices))


def check_image(image: str, capture: str, why: str = "no container engine with gVisor") -> None:
    """Raises NotStartedError where ``image`` is no directory, as runsc alone needs it. ``why`` it is runsc alone."""
    why = "--capture memory needs runsc alone" if capture == "memory" else why
    if image and not image.startswith("/"):
        raise NotStartedError(
            f"{why}, so {image!r} cannot be an engine's image",
            hint="name the directory of a root file system (./NAME), or leave --image out",
        )
    if image and not os.path.isdir(image):
        raise NotStartedError(f"--image {image!r} is no directory", hint="name the directory of a root file system")


@contextmanager
def alone(spec: RunSpec, mount: Mount) -> Iterator[Prepared]:
    """``runsc run`` of a bundle of our own. As an ordinary user in user namespaces: runsc's inside of the layer's."""
    check_places(spec, {})
    rootless = ("--rootless",) if os.geteuid() != 0 else ()
    if rootless and spec.image:
        raise NotStartedError(
            "--image: without an engine, only root can show a directory as the root file system",
            hint="leave --image out, or use --sandbox docker",
        )
    image = _checked_image(spec) if spec.image else ""
    limits = spec.limits.or_else(default())
    program = installed() or "runsc"
    canary = hatched(read_only=spec.read_only)
    with leftovers.scratch(spec.record, canary) as directory:
        # Without root only our own id is mapped, and to runsc that is 0: inside it is as powerless as any other.
        uid, enter = (0, mount.enter) if rootless else (UID, owned(mount, UID).enter)
        bundle.write(directory, spec, root_view(), mount.merged, uid, limits, canary.name, canary.word)
        # The sentry's own threads would count as processes: inside, RLIMIT_NPROC of the bundle holds.
        with limited(Limits(limits.memory, limits.cpus)) as held:
            held = _of_the_whole(held)
            plan = {
                "runsc": [*_runsc(program), *rootless, "--root", os.fspath(directory / "state")],
                "name": f"overlayws-{secrets.token_hex(8)}",
                "bundle": os.fspath(directory),
                "image": image,
                "canary": canary.outside(mount),
                "word": canary.word,
                "tty": spec.terminal,
                "user": f"{uid}:{uid}",
                "signal": SIGNAL,
                "memory": None,
            }
            words = (sys.executable, "-I", "-S", str(_STANDALONE))
            launch = Launch(words[0], words, {}, "/", descriptors={_PLAN: _encoded(plan)}, passes_on=True)
            yield Prepared(held.applied(launch), enter, held.concluded, held.notices)


def _of_the_whole(held: Held) -> Held:
    """Without what limits a single process: the sentry reserves far more memory than it uses."""
    if not any(number == resource.RLIMIT_AS for number, _ in held.rlimits):
        return held
    told = tuple(line for line in held.notices if not line.startswith("--memory"))
    notice = "--memory is not enforced: no control group can be made here"
    return replace(held, rlimits=(), notices=(notice, *told))


def _checked_image(spec: RunSpec) -> str:
    """The real path of the image's directory. Raises NotStartedError where it could show what is to be hidden."""
    image = os.path.realpath(spec.image)
    for path in (*spec.hidden, spec.workspace):
        kept = os.path.realpath(path)
        if os.path.commonpath((image, kept)) in (image, kept):  # "/" is above everything
            raise NotStartedError(
                f"--image {spec.image!r} would show what is hidden: it is at, above or below {path!r}",
                hint="name a root file system elsewhere",
            )
    return image


def _encoded(plan: dict[str, Any]) -> bytes:
    return json.dumps(plan, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _runsc(program: str) -> list[str]:
    return [
        program, f"--platform={platform(program)}", "--network=none", "--ignore-cgroups", "--overlay2=none",
        "--host-uds=open",
    ]  # fmt: skip


def check_memory(backend: str, image: str) -> None:
    """Raises UnableError for what ``--capture memory`` needs and is not there."""
    try:
        check_image(image, "memory")
    except NotStartedError as error:
        raise UnableError(error.message, hint=error.hint) from None
    if reason := _alone_unusable("memory"):
        raise UnableError(reason, hint="--capture disk")
    if backend != "kernel":
        raise UnableError(
            f"--capture memory needs the backend kernel, not {backend}", hint="--backend kernel, or --capture disk"
        )


def _alone_unusable(capture: str = "disk") -> str | None:
    why = "--capture memory is runsc alone" if capture == "memory" else "no container engine has a runtime runsc"
    if installed() is None:
        return f"{why}, and runsc is not installed (apt-get install runsc)"
    if os.geteuid() != 0 and capture == "memory":
        return f"{why}, which needs root for it"
    return None
