"""``docker``: a container of this machine's engine, with everything that container.py says.

The engine runs the program, not we: a process of ours (attach.py) stands for it under the supervisor, and the
container's removal is what makes sure that every process of the run is gone. What a crash would leave is written down
before it is made (leftovers.py).
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from overlayws.errors import OverlaywsError, UsageError
from overlayws.layer import outside
from overlayws.layer.mount import Mount
from overlayws.run import leftovers
from overlayws.run.canary import Canary, hatched
from overlayws.run.container import SIGNAL, WORKSPACE, Container, body, check_places
from overlayws.run.engine import LABEL, EngineError, connect, explained, one_line
from overlayws.run.host_image import ensured
from overlayws.run.images import check_reference
from overlayws.run.limits import Limits, default
from overlayws.run.root_view import UID, root_view
from overlayws.run.sandbox import Launch, Prepared, RunResult, RunSpec

_ATTACH = Path(__file__).with_name("attach.py")
_PLAN = 10
_KILLED = 128 + 9  # by the kernel, too


def unusable() -> str | None:
    """Why no engine of this machine can be used, or None. That a container runs, ``doctor`` tries (``tried``)."""
    try:
        about = _about()
    except OverlaywsError as error:
        return f"{error.message} ({error.hint})" if error.hint else error.message
    return None if about.get("OSType") == "linux" else "the container engine runs no Linux containers"


def place(workspace: str) -> str:
    """``/workspace``."""
    return WORKSPACE


@contextmanager
def prepared(spec: RunSpec, mount: Mount, runtime: Runtime | None = None) -> Iterator[Prepared]:
    """See ``Sandbox.prepared``. ``runtime``: gVisor's, None for the engine's own."""
    if any(character in spec.workspace for character in ":,"):
        raise UsageError(f"--workdir-at {spec.workspace!r} holds a : or a comma", hint="choose a plain path")
    check_places(spec, {})
    if spec.image:
        check_reference(spec.image)
    canary = hatched(read_only=spec.read_only)
    record = leftovers.Record(spec.record, canary)
    with ExitStack() as stack:
        client = connect()
        stack.callback(client.close)
        _check_tools(spec, _socket_of(client))
        label = {LABEL: os.fspath(mount.merged.parent)}
        record.write(engine=_socket_of(client))
        workdir = None if mount.layer is None else mount.layer.workdir
        stack.callback(leftovers.remove, client, label, record, workdir)
        container = _described(client, spec, runtime, canary, label)
        source = _source(stack, client, mount, label)
        limits = spec.limits.or_else(default())
        request = body(spec, replace(container, source=source), limits)
        with explained(f"image {spec.image}" if spec.image else "the container engine"):
            made = client.create_container_from_config(request, f"overlayws-{secrets.token_hex(8)}")["Id"]
        record.write(engine=_socket_of(client), container=made)
        plan = {
            "socket": _socket_of(client),
            "container": made,
            "tty": spec.terminal,
            "word": canary.word,
            "canary": canary.outside(mount),
            "must": runtime is not None,
            "signal": SIGNAL,
            "unmount": os.fspath(mount.merged) if os.geteuid() == 0 else "",
        }
        launch = Launch(
            program=sys.executable,
            argv=(sys.executable, "-I", "-S", str(_ATTACH)),
            env={},
            directory="/",
            end=(sys.executable, "-I", "-S", str(_ATTACH), "end", _socket_of(client), made),
            descriptors={_PLAN: json.dumps(plan).encode("ascii")},
            stands_in=True,
        )

        def conclude(result: RunResult) -> RunResult:
            return _concluded(client, made, result)

        notices = runtime.notices(spec.limits) if runtime else ()
        yield Prepared(launch, (), conclude, notices, lambda: leftovers.members(made), lambda: leftovers.cut_down(made))


def _check_tools(spec: RunSpec, socket: str) -> None:
    """Raises UsageError where --tools would show the engine's socket: a read-only bind does not stop connect(2)."""
    for tool in spec.tools:
        if os.path.realpath(socket).startswith(os.path.realpath(tool).rstrip("/") + "/"):
            raise UsageError(
                f"--tools {tool} holds the socket of the container engine, which is as good as root",
                hint="name a directory without it",
            )


def _described(client: Any, spec: RunSpec, runtime: Runtime | None, canary: Canary, label: dict[str, str]) -> Container:
    view = None
    image = spec.image
    uid, gid = (UID, UID) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    if not image:
        view = root_view()
        image = ensured(client, view, uid, gid)
    about = _image(client, image)
    check_places(spec, about.get("Config") or {})
    return Container(
        image=about["Id"],
        image_config=about.get("Config") or {},
        source={},
        uid=uid,
        gid=gid,
        label=label,
        canary=canary.name,
        word=canary.word,
        runtime="" if runtime is None else runtime.name,
        view=view,
        gvisor=runtime is not None,
    )


def _image(client: Any, image: str) -> dict[str, Any]:
    from docker.errors import ImageNotFound

    with explained(f"image {one_line(image)}"):
        try:
            found: dict[str, Any] = client.inspect_image(image)
        except ImageNotFound:
            raise EngineError(
                f"No such image on the container engine: {one_line(image)}",
                hint=f"docker pull {one_line(image)}, or overlayws image import DIRECTORY {one_line(image)}",
            ) from None
    return found


def _source(stack: ExitStack, client: Any, mount: Mount, label: dict[str, str]) -> dict[str, str]:
    """The workspace, as the engine is to find it."""
    if os.geteuid() == 0:
        stack.enter_context(outside.staying(mount, UID))
        return {"Type": "bind", "Source": os.fspath(mount.merged)}
    if mount.layer is None:
        return {"Type": "bind", "Source": os.fspath(mount.merged)}
    options = outside.volume(mount)
    name = f"overlayws-{secrets.token_hex(8)}"
    with explained("the container engine"):
        client.create_volume(name, driver="local", driver_opts=options, labels=label)
    return {"Type": "volume", "Source": name}


def _concluded(client: Any, container: str, result: RunResult) -> RunResult:
    try:
        with explained("the container engine"):
            out_of_memory = bool(client.inspect_container(container)["State"].get("OOMKilled"))
            if result.exit_code == _KILLED and not out_of_memory:
                out_of_memory = _told_later(client, container)
    except EngineError:
        return result  # its removal, which comes next, says what is wrong
    return replace(result, out_of_memory=out_of_memory)


def _told_later(client: Any, container: str) -> bool:
    """The engine notes what it knew at the container's end; that it was out of memory may reach it just afterwards,
    and then is an event alone."""
    for pause in (0.0, 0.1, 0.3):
        time.sleep(pause)
        until = f"{time.time():.9f}"  # without it the answer has no end
        if any(True for _ in client.events(since=0, until=until, filters={"container": container, "event": "oom"})):
            return True
    return False


def _socket_of(client: Any) -> str:
    for adapter in client.adapters.values():
        if hasattr(adapter, "socket_path"):
            return str(adapter.socket_path)
    raise EngineError("the container engine has no socket on this machine", hint="set DOCKER_HOST=unix://…")


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime of the engine's that is gVisor."""

    name: str
    arguments: tuple[str, ...]

    @property
    def ignores_limits(self) -> bool:
        """Whether it puts its containers in no control group."""
        return "--ignore-cgroups" in self.arguments

    def notices(self, limits: Limits) -> tuple[str, ...]:
        """What must be said of the limits that it does not enforce."""
        if not self.ignores_limits:
            return ()
        return (f"--memory and --cpus are not enforced: the engine's runtime {self.name} has --ignore-cgroups",)


def versions() -> dict[str, str]:
    """The engine's version and its default runtime's. Raises EngineError."""
    client = connect()
    try:
        with explained("the container engine"):
            parts = client.version().get("Components") or ()
    finally:
        client.close()
    found = {str(part.get("Name", "")).lower(): one_line(str(part.get("Version", ""))) for part in parts}
    return {name: found[name] for name in ("engine", "runc") if name in found}


def gvisor_runtime() -> Runtime | str:
    """The engine's runtime that is gVisor, the one named runsc first; or why there is none."""
    try:
        runtimes = _about().get("Runtimes") or {}
    except OverlaywsError as error:
        return error.message
    for name in sorted(runtimes, key=lambda name: (name != "runsc", name)):
        about = runtimes[name]
        if os.path.basename(str(about.get("path", ""))).startswith("runsc"):
            return Runtime(name, tuple(map(str, about.get("runtimeArgs") or ())))
    return "the container engine has no runtime runsc"


def _about() -> Any:
    client = connect()
    try:
        with explained("the container engine"):
            return client.info()
    finally:
        client.close()
