"""A frozen change set, read back: nothing of it is believed before its hash was compared.

The manifest is JSON lines in ASCII (surrogates escaped): a header with the counts, a line for each change
``[path, before, after, [flag …], offset]`` (of a live base with a second offset, for ``before``), each rename
``[old, new, similarity]``, each problem ``[path, why]`` each file with several names ``[path …]`` and
each path with an access list ``[path]``.
``before`` and ``after`` are as in the canonical encoding (docs/changes.md) but with a link's mode; ``offset`` is where
the content is in the pack, or null.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from overlayws.beneath import plain
from overlayws.changes.change import Change, ChangeSet, Problem, Rename
from overlayws.changes.contents import Contents
from overlayws.errors import UntrustedError
from overlayws.source.entry import Entry, Kind

SCHEMA = "overlayws.frozen/1"
MANIFEST, PACK, LARGE = "manifest", "pack", "large"
_CHUNK = 1 << 20
_HINT = "overlayws run SESSION -- true captures the session's changes again; then look at them again"
_KINDS = {kind.value: kind for kind in Kind}
T = TypeVar("T")


class DamagedCapture(UntrustedError):
    """The frozen changes of a session are missing, or not what was captured."""


def manifest_lines(
    changeset: ChangeSet, offsets: Mapping[str, int], repository: bytes | None = None
) -> Iterator[bytes]:
    """The manifest of ``changeset``; ``offsets`` says where in the pack a content (by its digest) begins,
    ``repository`` what was taken of the program's own repository."""
    counts = [len(changeset.changes), len(changeset.renames), len(changeset.problems)]
    counts += [len(changeset.links), len(changeset.access_lists)]
    taken = sha256(repository).hexdigest() if repository is not None else None
    yield _line({"schema": SCHEMA, "digest": changeset.digest, "counts": counts, "repository": taken})
    for change in changeset.changes:
        after = change.after
        places = [_offset(after, offsets)]
        if (before := _offset(change.before, offsets)) is not None:
            places.append(before)
        yield _line([change.path, _packed(change.before), _packed(after), change.flags, *places])
    for rename in changeset.renames:
        yield _line([rename.old, rename.new, rename.similarity])
    for problem in changeset.problems:
        yield _line([problem.path, problem.why])
    for link in changeset.links:
        yield _line(link)
    for path in changeset.access_lists:
        yield _line([path])


def _offset(entry: Entry | None, offsets: Mapping[str, int]) -> int | None:
    return offsets.get(entry.digest) if entry is not None and entry.digest is not None else None


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def _packed(entry: Entry | None) -> list[Any] | None:
    if entry is None:
        return None
    xattrs = [[name, value.hex()] for name, value in entry.xattrs]
    return [entry.kind.value, entry.mode, entry.size, entry.digest, entry.target, xattrs]


class FrozenContents(Contents):
    """The contents after the run, and of a live base the small ones before it. Use as a context manager.

    Raises DamagedCapture.
    """

    def __init__(self, directory: Path, offsets: Mapping[str, int]) -> None:
        self._directory = directory
        self._offsets = offsets
        try:
            self._pack = os.open(directory / PACK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise _damaged(f"{directory / PACK}: {error.strerror}") from None

    def close(self) -> None:
        os.close(self._pack)

    def keeps(self, entry: Entry) -> bool:
        return entry.digest in self._offsets

    def chunks(self, path: str, entry: Entry) -> Iterator[bytes]:
        if entry.digest is None:
            raise UntrustedError(f"{path!r} was not captured", hint="leave it out, or discard it")
        at = self._offsets.get(entry.digest)
        fd = self._pack
        try:
            if at is None:
                fd = os.open(self._directory / LARGE / entry.digest, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                if os.fstat(fd).st_size != entry.size:
                    raise _damaged(f"the content of {path!r} has another size")
            digest = sha256()
            done = 0
            while done < entry.size and (chunk := os.pread(fd, min(_CHUNK, entry.size - done), (at or 0) + done)):
                done += len(chunk)
                digest.update(chunk)
                yield chunk
        except OSError as error:
            raise _damaged(f"the content of {path!r}: {error.strerror}") from None
        finally:
            if fd != self._pack:
                os.close(fd)
        if digest.hexdigest() != entry.digest:
            raise _damaged(f"the content of {path!r} is not what was captured")


def thaw(store: Path, capture: str) -> tuple[ChangeSet, FrozenContents]:
    """The change set that ``freeze`` kept below ``store`` as ``capture``, and its contents (to be closed).

    Raises DamagedCapture where it is missing or a single bit of its manifest is another.
    """
    directory = store / capture
    data = _manifest(directory)
    try:
        lines = iter(data.splitlines())
        header = json.loads(next(lines))
        if header["schema"] != SCHEMA:
            raise ValueError("another schema")
        changes, renames, problems, *more = header["counts"]
        links, lists = more or [0, 0]  # captures of older versions have none
        offsets: dict[str, int] = {}
        changeset = ChangeSet(
            _take(lines, changes, lambda row: _change(row, offsets)),
            _take(lines, renames, lambda row: Rename(_path(row[0]), _path(row[1]), int(row[2]))),
            _take(lines, problems, lambda row: Problem(_text(row[0]), _text(row[1]))),
            _take(lines, links, lambda row: tuple(map(_path, row))),
            _take(lines, lists, lambda row: _path(row[0])),
        )
        if next(lines, None) is not None:
            raise ValueError("more lines than it says")
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError, StopIteration) as error:
        raise _damaged(f"{directory / MANIFEST}: {type(error).__name__}: {error}") from None
    return changeset, FrozenContents(directory, offsets)


def repository_digest(store: Path, capture: str) -> str | None:
    """The SHA-256 of what ``freeze`` wrote down of the program's own repository; None where it touched nothing of it.

    Raises as ``thaw``.
    """
    try:
        found = json.loads(_manifest(store / capture).partition(b"\n")[0])["repository"]
        return None if found is None else _text(found)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(f"{store / capture / MANIFEST}: {error}") from None


def _manifest(directory: Path) -> bytes:
    try:
        data = (directory / MANIFEST).read_bytes()
    except OSError as error:
        raise _damaged(f"{directory / MANIFEST}: {error.strerror}") from None
    if sha256(data).hexdigest() != directory.name:
        raise _damaged(f"{directory / MANIFEST} is not what was written")
    return data


def _take(lines: Iterator[bytes], count: int, made: Callable[[Any], T]) -> tuple[T, ...]:
    return tuple(made(json.loads(next(lines))) for _ in range(count))


def _change(row: Any, offsets: dict[str, int]) -> Change:
    path, before, after, flags, *places = row
    if not 0 < len(places) < 3:
        raise ValueError("places of two contents, or of one")
    change = Change(_path(path), _entry(before), _entry(after), tuple(_text(flag) for flag in flags))
    if before is None and after is None:
        raise ValueError(f"a change of nothing: {path!r}")
    for offset, entry in zip(places, (change.after, change.before), strict=False):
        if offset is None:
            continue
        digest = entry.digest if entry is not None else None
        if not isinstance(offset, int) or offset < 0 or digest is None:
            raise ValueError(f"no place of a content: {offset!r}")
        offsets[digest] = offset
    return change


def _entry(row: Any) -> Entry | None:
    if row is None:
        return None
    kind, mode, size, digest, target, xattrs = row
    if not isinstance(mode, int) or not isinstance(size, int) or mode & ~0o7777 or size < 0:
        raise ValueError("neither a mode nor a size")
    if digest is not None and (len(_text(digest)) != 64 or set(digest) - set("0123456789abcdef")):
        raise ValueError(f"not a digest: {digest!r}")
    if target is not None:
        _text(target)
    return Entry(
        _KINDS[kind], mode, size, digest, target, tuple((_text(name), bytes.fromhex(value)) for name, value in xattrs)
    )


def _path(value: Any) -> str:
    """Raises ValueError unless it can be a path of a workspace: components that are names (see ``plain``)."""
    return plain(_text(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    os.fsencode(value)  # raises for surrogates that no path can hold
    return value


def _damaged(why: str) -> DamagedCapture:
    return DamagedCapture(f"the captured changes are damaged: {why}", hint=_HINT)
