"""A program that waits inside while its user does something outside."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.cli.conftest import Program


class Talking:
    """A program that says ``ready`` and then waits for a line, while its user does something."""

    def __init__(self, overlayws: Program, before: str, after: str, *options: str) -> None:
        script = f"{before}; echo ready; read line; {after}"
        self.process = overlayws.ready(
            "start", "--name", "s", *options, "--", "sh", "-c", script, stdin=subprocess.PIPE
        )

    def until_told(self, what: str) -> None:
        """Wait until the watcher says it."""
        assert self.process.stderr is not None
        patience = threading.Timer(20, self.process.kill)
        patience.start()
        try:
            for line in self.process.stderr:
                if what in line.decode():
                    return
        finally:
            patience.cancel()
        raise AssertionError(f"it was not told: {what}")

    def end(self) -> tuple[str, str]:
        out, err = self.process.communicate(b"go\n", timeout=60)
        return out.decode(), err.decode()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


Start = Callable[..., Talking]


@pytest.fixture
def talking(overlayws: Program) -> Iterator[Start]:
    """Starts a program that talks (as Talking)."""
    started: list[Talking] = []

    def start(before: str, after: str, *options: str) -> Talking:
        started.append(Talking(overlayws, before, after, *options))
        return started[-1]

    yield start
    for one in started:
        one.close()
