"""What a run makes outside of our own processes, and how the next command takes it away when overlayws was killed.

Before anything is made, a record is written into the session's directory: which engine, which container. Containers and
volumes carry the session's directory as a label; nothing without it is touched.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overlayws.atomic import write_atomic
from overlayws.errors import UntrustedError
from overlayws.layer import outside
from overlayws.layer.bounded import absorb
from overlayws.layer.mount import scratch_layer
from overlayws.run.canary import Canary
from overlayws.run.canary import remove as remove_canary
from overlayws.run.engine import LABEL, EngineError, connect, explained
from overlayws.run.host_image import ensured
from overlayws.run.root_view import root_view
from overlayws.source.remove import remove_tree

_SCRATCH = "sandbox"
_OWED = "owed"  # beside a record: the engine that still has a container of the session, whose processes were ended
_ID = re.compile(r"[0-9a-f]{64}")  # what an engine invents: no other group or argument is like it
_SHIM, _RUNSC = b"containerd-shim", (b"runsc", b"exe")  # their arguments name a container; "exe": runsc, confined
_PATIENCE = 20.0  # seconds until a killed process is given up


class LeftRunning(UntrustedError):
    """A container may still run, and cannot be asked about or ended."""


@dataclass(frozen=True, slots=True)
class Record:
    """The file of one session, or none (a run without a session); and what the gate of its run writes."""

    path: Path | None
    canary: Canary = Canary("", "")

    def write(self, **about: str) -> None:
        """Say what is about to be made; durable."""
        if self.path is not None:
            words = {**about, "canary": self.canary.name, "word": self.canary.word}
            write_atomic(self.path, json.dumps(words).encode("ascii") + b"\n")

    def container(self) -> str:
        """The container that was made, or ""."""
        try:
            return "" if self.path is None else str(json.loads(self.path.read_bytes()).get("container", ""))
        except (OSError, ValueError, AttributeError):
            return ""

    def engine(self) -> str:
        """The engine's socket, or ""."""
        try:
            return "" if self.path is None else str(json.loads(self.path.read_bytes()).get("engine", ""))
        except (OSError, ValueError, AttributeError):
            return ""

    def owe(self, engine: str) -> None:
        """Nothing runs any more, but ``engine`` cannot be asked to remove what it knows: see ``settle``; durable."""
        if self.path is not None:
            write_atomic(self.path.with_name(_OWED), json.dumps({"engine": engine}).encode("ascii") + b"\n")

    def clear(self) -> None:
        """All of it is gone, but perhaps the canary."""
        if self.path is not None:
            remove_canary(self.path.parent, self.canary)
            self.path.unlink(missing_ok=True)


@contextmanager
def scratch(path: Path | None, canary: Canary) -> Iterator[Path]:
    """A directory for one run, beside the record at ``path``: the next command finds what a crash left of it."""
    if path is None:
        with tempfile.TemporaryDirectory(prefix="overlayws-run-") as name:
            yield Path(name)
        return
    record, directory = Record(path, canary), path.with_name(_SCRATCH)
    record.write()
    remove_tree(directory)
    try:
        directory.mkdir(mode=0o700)
        yield directory
    finally:
        remove_tree(directory)
        record.clear()


def remove(client: Any, label: dict[str, str], record: Record, workdir: Path | None) -> None:
    """End and remove the containers that carry ``label``, then their volumes and with them the mounts of layers.

    Raises LeftRunning where that cannot be vouched for; then the record stays.
    """
    try:
        _remove(client, label, workdir)
    except EngineError as error:
        container = record.container()
        if not container or not _ended(container):
            hint = f"start the engine again; then overlayws list tries again{_by_hand(container)}"
            raise LeftRunning(f"a container may still run: {error.message}", hint=hint) from error
        record.owe(record.engine())
    record.clear()


def _remove(client: Any, label: dict[str, str], workdir: Path | None) -> None:
    words = [f"{name}={value}" for name, value in label.items()]
    with explained("the container engine"):
        for container in client.containers(all=True, quiet=True, filters={"label": words}):
            client.remove_container(container["Id"], v=True, force=True)
        for volume in client.volumes(filters={"label": words})["Volumes"] or ():
            client.remove_volume(volume["Name"], force=True)
        if workdir is not None:
            _open_up(client, label, workdir / "work")


def _open_up(client: Any, label: dict[str, str], work: Path) -> None:
    """Have the engine empty what overlayfs, mounted by it, made in our workdir: it is root's, and closed to us."""
    try:
        if work.lstat().st_uid == os.geteuid() or os.geteuid() == 0:
            return
    except FileNotFoundError:
        return
    body = {
        "Image": ensured(client, root_view()),
        "Entrypoint": ["/bin/sh", "-c", "rm -rf /tmp/work"],
        "User": "0:0",
        "Labels": label,
        "HostConfig": {
            "Mounts": [
                {"Type": "bind", "Source": path, "Target": path, "ReadOnly": True} for path in root_view().directories
            ]
            + [{"Type": "bind", "Source": os.fspath(work.parent), "Target": "/tmp"}],
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "CapAdd": ["DAC_OVERRIDE"],  # the directories are of two users, and open to one each
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "none"},
        },
    }
    made = client.create_container_from_config(body, f"overlayws-{secrets.token_hex(8)}")["Id"]
    try:
        client.start(made)
        client.wait(made, timeout=_PATIENCE)
    finally:
        client.remove_container(made, v=True, force=True)


def _by_hand(container: str) -> str:
    return f", or: docker rm --force {container[:12]}" if container else ""


def clean(path: Path) -> bool:
    """Take away what the record at ``path`` tells of; False where there is none. Raises LeftRunning, MountError."""
    try:
        about = json.loads(path.read_bytes())
        engine, container = str(about.get("engine", "")), str(about.get("container", ""))
        canary = Canary(str(about.get("canary", "")), str(about.get("word", "")))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError) as error:
        raise LeftRunning(
            f"{path} is damaged ({error}): a container may still run", hint=f"then remove {path}"
        ) from error
    try:
        if engine:
            _remove_from(engine, path)
    except EngineError as error:
        # Without a container's name in the record none was made.
        if container and not _ended(container):
            hint = f"start the engine again{_by_hand(container)}"
            raise LeftRunning(f"a container of it may still run: {error.message}", hint=hint) from error
        Record(path, canary).owe(engine)
    remove_tree(path.with_name(_SCRATCH))
    if os.geteuid() == 0:
        outside.drop(path.parent / "merged")
    absorb(scratch_layer(path.parent))  # the canary may be in it
    Record(path, canary).clear()
    return True


def settle(path: Path) -> None:
    """Remove from the engine what was left to it; where it still does not answer, the next command tries again."""
    owed = path.with_name(_OWED)
    try:
        _remove_from(str(json.loads(owed.read_bytes())["engine"]), path)
    except (EngineError, OSError):
        return
    except (ValueError, KeyError, TypeError):
        pass  # damaged: nothing of it runs
    owed.unlink(missing_ok=True)


def _remove_from(engine: str, path: Path) -> None:
    client = connect(f"unix://{engine}")
    try:
        _remove(client, {LABEL: os.fspath(path.parent)}, path.with_name("work"))
    finally:
        client.close()


def _ended(container: str) -> bool:
    """Kill, without an engine, the processes that are in the control group of ``container``; whether none is left.

    As root alone: the groups of others' containers tell nothing that can be acted on.
    """
    if os.geteuid() != 0 or not _ID.fullmatch(container):
        return False
    end = time.monotonic() + _PATIENCE
    while pids := members(container):
        if time.monotonic() > end:
            return False
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return True


def cut_down(container: str) -> None:
    """Kill at once what runs in a container, as far as we may: what the engine is asked for takes it some tenths of a
    second, in which a program writes a gigabyte. The shim stays, to tell the engine of the end."""
    for pid in members(container, runtimes=_RUNSC):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def members(container: str, runtimes: tuple[bytes, ...] = (_SHIM, *_RUNSC)) -> list[int]:
    """The processes of an engine's container, its runtime's included."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                process = Path("/proc", name)
                about = (process / "cgroup").read_bytes()
                # The shim is in no group of the container's, nor is runsc where it may use none.
                if (process / "comm").read_bytes().strip().startswith(runtimes):
                    about += (process / "cmdline").read_bytes()
                if container.encode() in about:
                    found.append(int(name))
    return found
