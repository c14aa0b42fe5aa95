"""What a sandbox sends ends in a reason, never in a traceback: also where it cannot be written here."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from overlayws.layer.mount import Layer
from overlayws.layer.tape import Member, Writer
from overlayws.layer.unpack import Most
from overlayws.layer.whiteout import TRUSTED_PREFIX, Marks
from overlayws.run.inside import Order
from overlayws.run.receive import ANSWERS, GO, ORDERS, Receiver

pytestmark = pytest.mark.root


def test_a_name_that_is_no_text_and_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, scratch = tmp_path / "state", tmp_path / "scratch"
    state.mkdir()
    scratch.mkdir()
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=10", "tmpfs", state], check=True)
    try:
        layer = Layer(state / "lower", state / "upper", state / "work", state / "merged")
        layer.upperdir.mkdir()
        order = Order("00" * 32, "/ws", 1000, False, None, ())
        with Receiver(scratch, layer, Marks(TRUSTED_PREFIX), order, Most(1000, 1 << 20)) as receiver:
            taken = os.open(scratch / ORDERS, os.O_RDONLY)
            said = os.open(scratch / ANSWERS, os.O_WRONLY)
            to = Writer(lambda data: os.write(said, data), bytes(32))
            to.end("ready")
            while not (scratch / GO).exists():  # our upperdir was sent
                time.sleep(0.01)
            to.member(Member(b"", "directory", 0o755))
            for number in range(20):
                to.member(Member(b"\xff%d" % number, "directory", 0o755))
            to.end("final")
            os.close(said)
            os.close(taken)
            found = receiver.received()
        assert "No space left" in found.reason and not failures
        assert os.listdir(layer.upperdir) == []
    finally:
        subprocess.run(["umount", state], check=True)
