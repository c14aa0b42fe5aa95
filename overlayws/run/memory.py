"""``--capture memory`` of gVisor: its own kernel captures in its own memory what the program writes.

The base is bound into the sandbox, read-only and for gVisor alone (exclusive file access), an overlay over it is
mounted by a process of ours inside (inside.py), and its upperdir comes out as a tape (receive.py). No write of the
program's leaves the sandbox before that, and no look-up does either once gVisor knows a file.
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

import overlayws
from overlayws.errors import NotStartedError
from overlayws.layer.mount import Mount
from overlayws.layer.outside import base_shown
from overlayws.layer.unpack import Most
from overlayws.layer.whiteout import TRUSTED_PREFIX, Marks
from overlayws.run import bundle, interpreter, leftovers
from overlayws.run.canary import Canary
from overlayws.run.cgroup import limited
from overlayws.run.container import SIGNAL, check_places
from overlayws.run.inside import CODE, HOST, PLACE, Order
from overlayws.run.limits import Limits, default
from overlayws.run.receive import ANSWERS, GO, NO, ORDERS, CaptureLost, Receiver
from overlayws.run.root_view import UID, root_view
from overlayws.run.sandbox import Launch, Prepared, RunResult, RunSpec

_STANDALONE = Path(__file__).with_name("standalone.py")
_PLAN = 10
_SAVING = 600.0  # seconds for the last tape after which even that is killed
# What inside.py needs, and those need.
_MODULES = (
    "beneath", "source.entry", "layer.whiteout", "layer.cursor", "layer.tape", "layer.pack", "layer.unpack",
    "run.inside",
)  # fmt: skip
_START = f"import sys; sys.path[:0] = [{CODE!r}]; from overlayws.run.inside import main; sys.exit(main())"
_MOST_NAMES = 50_000
_FULL = 1 << 18  # bytes that are left of a memory that is as good as full
_LEAST_INODE = 512  # bytes that gVisor needs for a file at the very least: so many fit into its memory


@contextmanager
def prepared(spec: RunSpec, mount: Mount, program: list[str], image: str) -> Iterator[Prepared]:
    """See ``Sandbox.prepared``. ``program``: runsc and its options. Needs root."""
    check_places(spec, {})
    if mount.layer is None:
        raise NotStartedError("--capture memory needs a layer", hint="--backend kernel")
    shown = base_shown(mount, UID)
    limits = spec.limits.or_else(default())
    size = size_of(limits)
    hosts = interpreter.directories()
    order = Order(
        key=secrets.token_hex(32),
        workspace=spec.workspace,
        uid=UID,
        read_only=spec.read_only,
        every=spec.checkpoint_every,
        # The deepest first: one may be mounted in another.
        hosts=tuple(sorted((f"{HOST}{path}" for path in hosts), reverse=True)) + (f"{PLACE}/base", CODE),
    )
    most = Most(limits.memory // _LEAST_INODE, 2 * size)
    with leftovers.scratch(spec.record, Canary("", "")) as directory:
        words = (*interpreter.command(HOST), "-I", "-S", "-c", _START)
        bundle.write_for_memory(directory, spec, root_view(), mount.merged, UID, limits, size, words, hosts)
        _copy_code(directory / "code")
        with (
            limited(Limits(limits.memory, limits.cpus)) as held,
            Receiver(directory, mount.layer, Marks(TRUSTED_PREFIX), order, most) as receiver,
        ):
            plan: dict[str, Any] = {
                "runsc": [
                    *program,
                    "--file-access-mounts=exclusive",
                    f"--dcache={_names()}",
                    "--root",
                    os.fspath(directory / "state"),
                ],
                "name": f"overlayws-{secrets.token_hex(8)}",
                "bundle": os.fspath(directory),
                "image": image,
                "canary": "",
                "word": "",
                "tty": spec.terminal,
                "user": f"{UID}:{UID}",
                "signal": SIGNAL,
                "memory": {"orders": ORDERS, "answers": ANSWERS, "go": GO, "no": NO, "process": bundle.PROCESS},
            }
            argv = (sys.executable, "-I", "-S", str(_STANDALONE))
            encoded = json.dumps(plan, ensure_ascii=False).encode("utf-8", "surrogateescape")
            launch = Launch(argv[0], argv, {}, "/", descriptors={_PLAN: encoded}, passes_on=True, saving=_SAVING)

            def conclude(result: RunResult) -> RunResult:
                result = held.concluded(result)
                # Ended (^C) before the sandbox stood: nothing was run, so that nothing can have been lost.
                return _concluded(result, receiver, size) if (directory / GO).exists() else result

            saved = f"every {spec.checkpoint_every:g} s" if spec.checkpoint_every else "at the end alone"
            said = (
                f"capture memory: changes are in the sandbox's memory, at most {_mebibytes(size)}, and saved {saved}; "
                "a crash loses what was not saved (--capture disk loses nothing)"
            )
            yield Prepared(held.applied(launch), shown.enter, conclude, (*held.notices, said))


def size_of(limits: Limits) -> int:
    """Bytes that changes may take: half of the sandbox's memory, which they share with the program, or --disk."""
    half = limits.memory // 2
    return min(half, limits.disk) if limits.disk else half


def _names() -> int:
    """How many names gVisor may know at a time (by itself 1,000 for each mount); what is beyond is asked of its gofer
    each time. A name costs the gofer two descriptors, and its limit is ours."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _MOST_NAMES if limit == resource.RLIM_INFINITY else min(_MOST_NAMES, limit // 4)


def _copy_code(directory: Path) -> None:
    top = Path(overlayws.__file__).parent
    for name in _MODULES:
        target = directory.joinpath("overlayws", *name.split(".")).with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(top.joinpath(*name.split(".")).with_suffix(".py").read_bytes())
    for package in (directory / "overlayws", *{path.parent for path in directory.rglob("*.py")}):
        (package / "__init__.py").touch()


def _concluded(result: RunResult, receiver: Receiver, size: int) -> RunResult:
    received = receiver.received()
    if received.reason:
        why = "it was out of memory (see --memory)" if result.out_of_memory else received.reason
        raise CaptureLost(
            f"what the command changed did not come back whole from the sandbox's memory: {why}",
            hint="overlayws diff shows what was saved before; --capture disk loses nothing in a crash",
        )
    if received.unsaved:
        raise CaptureLost(
            f"not saved: {', '.join(received.unsaved)}; all else that the command changed is kept",
            hint="--capture disk keeps files of any size and with any attributes",
        )
    if received.free < _FULL:
        note = f"the memory for changes was full: {_mebibytes(size)} (half of --memory, or --disk)"
        return replace(result, notes=(*result.notes, note))
    return result


def _mebibytes(number: int) -> str:
    return f"{number >> 20} MiB"
