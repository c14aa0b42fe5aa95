"""State files that were damaged: said in one line, exit status 4, the other sessions usable, and a way out."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.trees import stamps


@pytest.fixture
def session(overlayws: Program) -> Program:
    """A session `s` with changes, some of them applied, and a session `other`."""
    overlayws("start", "--name", "other", "--", "sh", "-c", "echo x > fine")
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo x > new; echo more >> README.md; rm docs/guide.txt")
    overlayws("apply", "s", "--yes", "new")
    return overlayws


DAMAGE = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "garbage": lambda data: bytes(255 - byte for byte in data),
    "another schema": lambda data: data.replace(b"overlayws.session/1", b"overlayws.session/9"),
    "nested deeply": lambda data: b"[" * 100_000,
    "unknown backend": lambda data: data.replace(b'"backend": "', b'"backend": "x'),
    "unknown sandbox": lambda data: data.replace(b'"sandbox": "', b'"sandbox": "x'),
    "a NUL in the workspace": lambda data: data.replace(b'"workspace": "/', b'"workspace": "/\\u0000'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_session_file(session: Program, workspace: Path, damage: str) -> None:
    file = session.session("s") / "session.json"
    whole = file.read_bytes()
    file.write_bytes(DAMAGE[damage](whole))
    assert file.read_bytes() != whole
    before = stamps(workspace)
    if damage.startswith("unknown"):  # only to run something they are needed
        assert damage in session("run", "s", "--", "true", code=4).error
        session("diff", "s")
    else:
        for words in ("diff s", "apply s --yes", "run s -- true"):
            assert "session s" in session(*words.split(), code=4).error
    if "unknown" not in damage:
        assert "session s" in session("undo", "s", "--yes", code=4).error
    assert stamps(workspace) == before
    assert b"other" in session("list").out
    assert session("diff", "other", "--name-status").out == b"A\tfine\n"
    if not damage.startswith("unknown"):
        json.loads(session("list", "--json").out)["damaged"][0]
        session("gc", "--damaged", "--yes")
        assert not session.session("s").exists() and session.session("other").exists()


def base_of(session: Program, name: str) -> Path:
    """The directory of its manifest."""
    (found,) = [p.parent for p in session.home.rglob("manifest.db") if session_uses(session, name, p.parent)] or [None]
    assert found is not None
    return found


def session_uses(session: Program, name: str, base: Path) -> bool:
    data = json.loads((session.session(name) / "session.json").read_bytes())
    return base.is_relative_to(session.session(name)) or base.name == data.get("base_id")


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "garbage", "another schema"])
def test_a_damaged_manifest(session: Program, workspace: Path, damage: str) -> None:
    file = base_of(session, "s") / "manifest.db"
    whole = file.read_bytes()
    os.chmod(file, 0o600)
    if damage == "missing":
        file.unlink()
    elif damage == "another schema":
        import sqlite3

        with sqlite3.connect(file) as db:
            db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
        db.close()
    else:
        file.write_bytes(DAMAGE[damage](whole))
    before = stamps(workspace)
    for words in ("diff s", "apply s --yes", "status s"):
        assert "manifest" in session(*words.split(), code=4).error
    assert stamps(workspace) == before
    session("undo", "s", "--yes")  # needs none
    session("discard", "s", "--yes")
    session("gc", "--yes")


def test_flipped_bits_are_an_error_or_harmless_and_never_a_traceback(session: Program, workspace: Path) -> None:
    draw = random.Random(7)
    files = [base_of(session, "s") / "manifest.db", session.session("s") / "session.json"]
    files += [path for path in (session.session("s") / "journal").rglob("*.json")]
    for file in files:
        whole = file.read_bytes()
        os.chmod(file, 0o600)
        for _ in range(3):
            broken = bytearray(whole)
            for _ in range(draw.choice((1, 1, 40))):
                broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
            file.write_bytes(broken)
            for words in ("diff s --json", "apply s --dry-run", "list --json"):
                done = session(*words.split(), code=None)
                assert done.code in (0, 1, 4) or file.name == "session.json" and done.code == 2, (file, done.err)
        file.write_bytes(whole)
    assert session("diff", "s").out


def test_a_damaged_journal_stops_undo_and_nothing_else(session: Program, workspace: Path) -> None:
    (journal,) = (session.session("s") / "journal").iterdir()
    before = stamps(workspace)
    for name in sorted(os.listdir(journal)):
        if not name.endswith(".json"):
            continue
        kept = (journal / name).read_bytes()
        for damaged in (kept[: len(kept) // 2], b"", kept.replace(b"1", b"2", 1), b"{}"):
            (journal / name).write_bytes(damaged)
            assert str(journal / name) in session("undo", "s", "--yes", code=4).error
        (journal / name).write_bytes(kept)
    assert stamps(workspace) == before
    assert b"README.md" in session("diff", "s", "--name-status").out
    session("undo", "s", "--yes")
    assert not (workspace / "new").exists()


def test_a_workspace_that_is_gone_is_said(session: Program, workspace: Path, tmp_path: Path) -> None:
    workspace.rename(tmp_path / "moved")
    for words in ("apply s --yes", "undo s --yes"):
        assert "no workspace at" in session(*words.split(), code=2, cwd=tmp_path).error
    assert b"README.md" in session("diff", "s", "--name-status", cwd=tmp_path).out  # the changes can still be read
    (tmp_path / "moved").rename(workspace)
    session("undo", "s", "--yes")


def test_a_session_directory_that_lost_its_files_can_be_removed(session: Program) -> None:
    directory = session.session("s")
    shutil.rmtree(directory / "upper")
    assert b"README.md" in session("diff", "s").out, "what was captured is elsewhere"
    shutil.rmtree(directory / "captures")
    assert "captured changes are damaged" in session("diff", "s", code=4).error
    (directory / "session.json").unlink()
    assert "session.json is missing" in session("status", "s", code=4).error
    session("gc", "--damaged", "--yes")
    assert not directory.exists()


def test_an_upperdir_that_was_removed_is_damage_and_what_was_captured_stays(session: Program, workspace: Path) -> None:
    shutil.rmtree(session.session("s") / "upper")
    for command in (["run", "s", "--", "true"], ["discard", "s", "README.md", "--yes"]):
        done = session(*command, code=4)
        assert "upper is gone" in done.error
    assert b"more" in session("diff", "s").out
    session("apply", "s", "--yes")
    assert not (workspace / "docs/guide.txt").exists()
    session("undo", "s", "--yes")
    session("run", "other", "--", "true")
    session("discard", "s", "--yes")


def test_a_session_whose_upperdir_was_removed_while_it_was_interrupted_can_be_discarded(session: Program) -> None:
    file = session.session("s") / "session.json"
    file.write_text(file.read_text().replace('"doing": ""', '"doing": "capture"'))
    shutil.rmtree(session.session("s") / "upper")
    assert "upper is gone" in session("diff", "s", code=4).error
    session("discard", "s", "--yes")
    assert "discarded" in session("list").out.decode()
