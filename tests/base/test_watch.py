"""What inotify tells of a tree."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from overlayws.base.watch import Event, Watch


class Collected:
    """The events of a watch on ``top``, followed in a thread as a run does."""

    def __init__(self, top: Path, pause: float = 0) -> None:
        self._pause = pause
        self.watch = Watch()
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        self.watch.add("", fd)
        os.close(fd)
        self.events: list[Event] = []
        self.wake, self._end = os.pipe()
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        for event in self.watch.events(self.wake):
            self.events.append(event)
            time.sleep(self._pause)

    def finish(self) -> list[Event]:
        os.close(self._end)
        self._thread.join(10)
        assert not self._thread.is_alive()
        os.close(self.wake)
        with self.watch:
            return self.events


def test_names_that_appear_and_change_are_told_as_they_are(tmp_path: Path) -> None:
    odd = os.fsdecode(b"new\nline \xff")
    (tmp_path / "old").write_text("x")
    collected = Collected(tmp_path)
    (tmp_path / odd).write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "old").rename(tmp_path / "moved")
    (tmp_path / "moved").chmod(0o600)
    (tmp_path / "moved").unlink()
    found = collected.finish()
    assert {e.path for e in found if e.appeared} == {odd, "sub", "moved"}
    assert [e.path for e in found if e.directory] == ["sub"]
    assert found[-1] == Event("moved") and Event("old") in found
    assert not any(e.lost for e in found)


def test_more_than_the_queue_holds_is_told_as_lost(tmp_path: Path) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 20_000:
        pytest.skip(f"the queue holds {most} events")
    with Watch() as watch:
        fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        watch.add("", fd)
        for number in range(most // 2 + 10):
            os.mknod(f"{number % 50}", dir_fd=fd)
            os.unlink(f"{number % 50}", dir_fd=fd)
        os.close(fd)
        wake, end = os.pipe()
        os.close(end)
        assert any(event.lost for event in watch.events(wake))
        os.close(wake)


def test_somebody_who_writes_all_the_time_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    collected = Collected(tmp_path, pause=0.01)  # what is done about an event takes its time
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            (tmp_path / f"log{number % 7}").write_text("x")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(0.3)
        began = time.monotonic()
        assert collected.finish()
        assert time.monotonic() - began < 8
    finally:
        stop.set()
        writer.join()
