"""Originals that cannot stay in a stage of the workspace: copied to the journal, and from there to a stage again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overlayws.apply.journal import Ground, Journal, directory
from overlayws.apply.moves import at
from overlayws.apply.record import Record
from overlayws.apply.rollback import Stuck
from overlayws.apply.stage import copy_node
from overlayws.apply.transaction import StepError, drift


def collect(ground: Ground, record: Record) -> tuple[tuple[int, str | None], ...]:
    """Copy the originals from the stages of the workspace; returns slot and digest of each. Raises StepError."""
    found = []
    with _kept(ground) as target:
        for step in record.moves:
            if step.op not in ("take", "swap") or not ground.state.places[step.stage].path:
                continue
            slot = str(step.slot)
            try:
                found.append((step.slot, copy_node(ground.stages[step.stage], slot, target, slot)))
            except FileNotFoundError:
                raise drift(step.path) from None
            except OSError as error:
                raise StepError(step.path, error) from error
    return tuple(found)


def bring(ground: Ground, slot: int, stage: int, apart: bool, digest: str | None) -> None:
    """Put an original in a slot of an undo's stage; ``apart``: it is in ``kept``, not in the journal's stage.

    Raises OSError, JournalError where it is not what was kept.
    """
    name = str(slot)
    if not apart and not ground.state.places[stage].path:
        return  # it is there: the very inode
    with directory(ground.journal.kept if apart else ground.journal.stage) as source:
        copy_node(source, name, ground.stages[stage], name, digest)


def rescue(ground: Ground, stuck: list[Stuck]) -> list[str]:
    """Bring what a rollback could not put back to the journal; returns a line for each path. Raises OSError."""
    lines = []
    for item in stuck:
        if item.slot is None:
            lines.append(repr(item.path))
        elif not ground.state.places[item.stage].path:
            lines.append(_line(item.path, ground.journal.stage / item.slot))
        else:
            with _kept(ground) as target:
                if at(target, item.slot) is not None:  # an earlier try was interrupted
                    os.unlink(item.slot, dir_fd=target)
                copy_node(ground.stages[item.stage], item.slot, target, item.slot)
            lines.append(_line(item.path, ground.journal.kept / item.slot))
    return lines


def listed(journal: Journal, record: Record) -> list[str]:
    """A line for each original that is in the journal."""
    paths = {str(step.slot): step.path for step in record.moves}
    folders = [folder for folder in (journal.stage, journal.kept) if folder.is_dir()]
    return [
        _line(paths.get(name.rstrip("~!"), name), folder / name)
        for folder in folders
        for name in sorted(os.listdir(folder))
    ]


def _line(path: str, where: Path) -> str:
    return f"{path!r} (its original: {where})"


@contextmanager
def _kept(ground: Ground) -> Iterator[int]:
    if not ground.journal.kept.is_dir():
        if not any(place.path for place in ground.state.places):
            yield -1
            return
        ground.journal.kept.mkdir(mode=0o700)
    with directory(ground.journal.kept) as fd:
        yield fd
