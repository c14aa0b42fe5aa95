"""Run one command through overlayws, as a process of its own: ``python driver.py JSON``.

The last line of the report (descriptor ``report``) is JSON: the RunResult, or the error. ``without`` switches
defences off, so that the tests can show that they would notice.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from overlayws.errors import OverlaywsError
from overlayws.layer.mount import Mount
from overlayws.run import bwrap, runner
from overlayws.run.all_sandboxes import SANDBOXES
from overlayws.run.sandbox import Launch, Prepared, RunSpec


def without_options(launch: Launch, unwanted: list[list[str]]) -> Launch:
    """``launch`` with these sequences of bwrap options left out."""
    words = launch.descriptors[10].split(b"\0")[:-1]
    for sequence in unwanted:
        encoded = [os.fsencode(word) for word in sequence]
        at = next(i for i in range(len(words)) if words[i : i + len(encoded)] == encoded)
        del words[at : at + len(encoded)]
    return dataclasses.replace(launch, descriptors={**launch.descriptors, 10: b"".join(w + b"\0" for w in words)})


def supervised_with(replacements: dict[str, str], **popen: Any) -> None:
    """Weaken the supervisor's source, and the way in which it is started."""
    source = runner._SUPERVISE.read_text()
    for old, new in replacements.items():
        assert old in source
        source = source.replace(old, new)
    weak = Path(os.environ["SCRATCH"]) / "supervise.py"
    weak.write_text(source)
    runner._SUPERVISE = weak
    real = runner.subprocess.Popen

    class Weak(real):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            for fd in kwargs["pass_fds"]:
                os.set_inheritable(fd, True)
            super().__init__(*args, **{**kwargs, **popen})

    runner.subprocess.Popen = Weak  # type: ignore[misc]


class Weakened:
    """A sandbox whose launch was changed."""

    def __init__(self, name: str, program: str | None, without: dict[str, Any]) -> None:
        self._name, self._program, self._without = name, program, without

    def unusable(self) -> str | None:
        return None

    def place(self, workspace: str) -> str:
        return workspace

    @contextmanager
    def prepared(self, spec: RunSpec, mount: Mount) -> Iterator[Prepared]:
        with SANDBOXES[self._name]().prepared(spec, mount) as prepared:
            if self._name == "bwrap":
                prepared = dataclasses.replace(prepared, launch=self.launch(spec, mount.merged))
            yield prepared

    def launch(self, spec: RunSpec, merged: Path) -> Launch:
        launch = bwrap.launch(spec, merged, self._program)
        launch = without_options(launch, self._without.get("options", []))
        if self._without.get("empty_environment"):
            launch = dataclasses.replace(launch, env=dict(os.environ))
        if self._without.get("arguments_in_a_descriptor"):
            argv = bwrap.argv(spec, merged)
            launch = dataclasses.replace(launch, argv=tuple(argv))
        return launch


def main() -> None:
    task = json.loads(sys.argv[1])
    if "leak" in task:
        # Its number must survive what the supervisor itself opens and executes.
        os.dup2(os.open(task["leak"], os.O_RDONLY), 50, inheritable=True)
    without = task.get("without", {})
    if without.get("closed_descriptors"):
        supervised_with({"os.closerange(": "(lambda *_: None)("}, close_fds=False, pass_fds=())
    if without.get("session"):
        supervised_with({}, start_new_session=False)
    sandbox = Weakened(task["sandbox"], task.get("program"), without)
    spec = RunSpec(**{k: tuple(v) if isinstance(v, list) else v for k, v in task["spec"].items()})
    mount = Mount(Path(task["merged"]), tuple(task.get("enter", ())))
    try:
        said = dataclasses.asdict(runner.run(spec, mount, sandbox, interactive=task.get("interactive")))
    except OverlaywsError as error:
        said = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    Path(task["report"]).write_text(json.dumps(said))


if __name__ == "__main__":
    main()
