"""Secrets in a workspace of 5,000 files: none of them is anywhere afterwards, in no spelling."""

from __future__ import annotations

import base64
import os
import urllib.parse
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.filter.planted import ordinary, planted

NOT_FOUND = {"split literal", "short password"}  # docs/secrets.md says so


def spellings(value: bytes) -> set[bytes]:
    """The value raw, URL-encoded, in hex, and as Base64 at each of the three offsets, without what depends on the
    bytes beside it."""
    quoted = urllib.parse.quote_from_bytes(value, safe="").encode()
    found = {value, quoted, value.hex().encode(), value.hex().upper().encode()}
    for offset in range(3):
        whole = base64.b64encode(bytes(offset) + value)
        inner = whole[4 if offset else 0 :].rstrip(b"=")
        found |= {inner[: len(inner) - 2], inner[: len(inner) - 2].replace(b"+", b"-").replace(b"/", b"_")}
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5,000 ordinary files (their beginnings, so that all can be searched) and the planted ones."""
    root = tmp_path_factory.mktemp("planted") / "ws"
    files = [
        *((path, content[:700]) for path, content in ordinary(5000)),
        *((one.path, one.content) for one in planted() if one.kind not in NOT_FOUND),
    ]
    for path, content in files:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def test_a_spelling_is_recognised() -> None:
    for value in (b"Zx9+/=&q7Lm2", b"abc"):
        for offset in range(5):
            said = base64.b64encode(b"x" * offset + value + b"more")
            assert any(one in said for one in spellings(value)), offset


def test_no_planted_value_is_in_the_base_the_state_or_the_output(
    overlayws: Program, private_home: Path, tree: Path
) -> None:
    secrets = {one.kind: one.value for one in planted() if one.kind not in NOT_FOUND}
    assert len(secrets) >= 40
    said = []
    show = "cat planted/* ordinary/0000*/*; env; git log -p | head -c 30000000"
    change = "cp -r planted copied; for f in planted/*; do echo >> $f; done; git add -A; git commit -qm x"
    page = tree.parent / "page.html"
    paths = [one.path for one in planted() if one.kind not in NOT_FOUND]
    for command in (
        ["start", "--dry-run", "."], ["start", "--dry-run", "--json", "."], ["explain", *paths],
        ["explain", "--json", *paths[:5]],
        ["start", "--name", "s", "--git", "fresh", ".", "--", "sh", "-c", show], ["run", "s", "--", "sh", "-c", change],
        ["diff", "s"], ["diff", "--json", "s"], ["diff", "--html", str(page), "s"], ["doctor"], ["list", "--json"],
        ["status", "s"], ["apply", "--dry-run", "s"],
    ):  # fmt: skip
        done = overlayws(*command, code=None, cwd=tree)
        said.append((" ".join(command[:2]), done.out))
        said.append((" ".join(command[:2]) + " (stderr)", done.err.encode("utf-8", "surrogateescape")))
    said.append(("page", page.read_bytes()))
    looked_at = 0
    for directory, _, files in os.walk(overlayws.home):
        for name in files:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                looked_at += 1
                said.append((str(path.relative_to(overlayws.home)), path.read_bytes()))
    assert looked_at > 5000
    needles = {kind: {s for s in spellings(value) if len(s) > 5} for kind, value in secrets.items()}
    assert all(needles.values())
    everything = b"\0\n\0".join(data for _, data in said)
    leaked = {kind for kind, texts in needles.items() if any(text in everything for text in texts)}
    where = {kind: [name for name, data in said if any(text in data for text in needles[kind])] for kind in leaked}
    assert not leaked, where


def test_the_search_would_find_them(overlayws: Program, tmp_path: Path) -> None:
    """Without the rules the values are there: the test above is not blind."""
    some = [one for one in planted() if one.kind not in NOT_FOUND][:3]
    for one in some:
        (tmp_path / "few" / one.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "few" / one.path).write_bytes(one.content)
    shown = [word for one in some for word in ("--show", one.path)]
    command = ["start", *shown, ".", "--", "cat", *(one.path for one in some)]
    done = overlayws(*command, cwd=tmp_path / "few")
    for one in some:
        assert any(text in done.out for text in spellings(one.value)), one.kind
