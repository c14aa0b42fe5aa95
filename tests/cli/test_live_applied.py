"""``--base live``: apply, undo and discard, where the user edited what is the base."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.cli.live import ANY, AUTO, LIVE
from tests.cli.talking import Start, talking
from tests.cli.test_promises import PLANTED
from tests.trees import make_tree, read_tree

pytestmark = pytest.mark.bwrap
__all__ = ["talking"]  # a fixture


@LIVE
def test_an_edit_of_both_sides_is_a_conflict_and_nothing_is_written(
    overlayws: Program, workspace: Path, backend: str
) -> None:
    make_tree(workspace, {"gone.py": "g\n", "kept.py": "k\n", "dropped.py": "d\n", "turned": "t\n"})
    script = "for f in README.md src/app.py gone.py turned; do echo theirs >> $f; done; rm dropped.py docs/guide.txt"
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--", "sh", "-euc", script)
    (workspace / "src/app.py").write_text("mine\n")
    (workspace / "gone.py").unlink()
    (workspace / "dropped.py").write_text("mine too\n")
    (workspace / "turned").unlink()
    (workspace / "turned").mkdir()
    before = read_tree(workspace)
    refused = overlayws("apply", "--yes", code=1)
    for name in ("src/app.py", "gone.py", "dropped.py", "turned"):
        assert name in refused.err
    assert "README.md:" not in refused.err
    assert read_tree(workspace) == before
    overlayws("apply", "--yes", "README.md", "docs")
    assert (workspace / "README.md").read_text() == "one\ntwo\nthree\ntheirs\n"
    assert not (workspace / "docs/guide.txt").exists()
    overlayws("apply", "--yes", "--on-conflict", "theirs", "src", "dropped.py")
    assert (workspace / "src/app.py").read_text() == "print('hello')\ntheirs\n"
    assert not (workspace / "dropped.py").exists()


@AUTO
def test_an_edit_after_the_run_is_merged(overlayws: Program, workspace: Path, backend: str) -> None:
    make_tree(workspace, {"long.txt": "".join(f"line {n}\n" for n in range(20)), "gone.txt": "same\n"})
    script = "sed -i 's/line 3$/theirs/' long.txt; rm gone.txt"
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--", "sh", "-euc", script)
    shown = overlayws("diff").out
    (workspace / "long.txt").write_text((workspace / "long.txt").read_text().replace("line 15", "mine"))
    (workspace / "gone.txt").write_text("same\n")  # touched, and still what the program was given
    assert overlayws("diff").out == shown
    overlayws("apply", "--yes")
    merged = (workspace / "long.txt").read_text()
    assert "theirs\n" in merged and "mine\n" in merged and "line 3\n" not in merged
    assert not (workspace / "gone.txt").exists()


@AUTO
@pytest.mark.parametrize("again", [False, True])
def test_an_edit_during_the_run_is_a_conflict_and_flagged(
    overlayws: Program, workspace: Path, talking: Start, backend: str, again: bool
) -> None:
    make_tree(workspace, {"a.txt": "a\n", "b.txt": "b\n", "c.txt": "c\n"})
    program = talking("echo theirs >> a.txt", "rm b.txt; echo theirs >> c.txt", *ANY, "--backend", backend)
    for name in ("a.txt", "b.txt"):
        st = (workspace / name).stat()
        (workspace / name).write_text("A\n" if name == "a.txt" else "B\n")
        os.utime(workspace / name, ns=(st.st_atime_ns, st.st_mtime_ns))
    (workspace / "c.txt").unlink()
    program.end()
    if again:
        overlayws("run", "s", "--", "touch", "new")
    flags = {c["path"]: c["flags"] for c in json.loads(overlayws("diff", "--json").out)["changes"]}
    assert "drift" in flags["a.txt"] and "drift" in flags["b.txt"]
    refused = overlayws("apply", "--yes", code=1)
    assert "a.txt" in refused.err and "b.txt" in refused.err
    assert (workspace / "a.txt").read_text() == "A\n" and (workspace / "b.txt").read_text() == "B\n"


@AUTO
def test_an_edit_that_keeps_size_and_times_is_no_less_an_edit(
    overlayws: Program, workspace: Path, backend: str
) -> None:
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--", "sh", "-c", "echo theirs >> src/app.py")
    path = workspace / "src/app.py"
    st = path.stat()
    path.write_text("print('HELLO')\n")
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
    assert "src/app.py" in overlayws("apply", "--yes", code=1).err
    assert path.read_text() == "print('HELLO')\n"


@AUTO
def test_a_directory_moved_into_the_place_of_another_has_drifted(
    overlayws: Program, workspace: Path, backend: str
) -> None:
    make_tree(workspace, {"other/app.py": "print('other')\n"})
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--", "sh", "-c", "echo theirs >> src/app.py")
    (workspace / "src").rename(workspace / "src.old")
    (workspace / "other").rename(workspace / "src")
    assert "src/app.py" in overlayws("apply", "--yes", code=1).err
    assert (workspace / "src/app.py").read_text() == "print('other')\n"


@AUTO
def test_what_is_newer_than_the_session_stays_when_its_directory_is_deleted(
    overlayws: Program, workspace: Path, backend: str
) -> None:
    make_tree(workspace, {"docs/.env": PLANTED})
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--", "rm", "-rf", "docs", "src")
    make_tree(workspace, {"docs/new.txt": "mine\n"})
    overlayws("apply", "--yes", code=None)
    assert sorted(os.listdir(workspace / "docs")) == [".env", "new.txt"]
    assert (workspace / "docs/.env").read_text() == PLANTED
    assert not (workspace / "src").exists()


@AUTO
def test_apply_undo_and_apply_again(overlayws: Program, workspace: Path, backend: str) -> None:
    make_tree(workspace, {"bin/run": "x\n"})
    before = read_tree(workspace)
    script = "echo theirs >> src/app.py; rm README.md; chmod 755 bin/run; echo new > new"
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--", "sh", "-euc", script)
    shown = overlayws("diff").out
    overlayws("apply", "--yes")
    after = read_tree(workspace)
    assert after != before
    overlayws("undo", "--yes")
    assert read_tree(workspace) == before
    assert overlayws("diff").out == shown
    overlayws("apply", "--yes")
    assert read_tree(workspace) == after
    overlayws("run", "s", "--", "sh", "-euc", "echo more >> src/app.py")
    overlayws("apply", "--yes")
    assert (workspace / "src/app.py").read_text() == "print('hello')\ntheirs\nmore\n"


@AUTO
def test_an_edit_between_apply_and_undo_of_another_session_is_still_drift(
    overlayws: Program, workspace: Path, backend: str
) -> None:
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--", "sh", "-c", "echo theirs >> src/app.py")
    (workspace / "src/app.py").write_text("mine\n")
    overlayws("apply", "--yes", "--on-conflict", "theirs")
    overlayws("undo", "--yes")
    assert (workspace / "src/app.py").read_text() == "mine\n"
    assert "src/app.py" in overlayws("apply", "--yes", code=1).err


@LIVE
def test_discard_brings_back_what_was_given_and_nothing_hidden(
    overlayws: Program, workspace: Path, backend: str
) -> None:
    make_tree(workspace, {".npmrc": f"//r/:_authToken={PLANTED}\nengine=1\n", "docs/.env": PLANTED})
    script = "echo own > .env; echo x > .npmrc; rm -rf docs src; mkdir docs; echo own > docs/.env; echo x > new.pem"
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--", "sh", "-euc", script)
    make_tree(workspace, {"new.pem": PLANTED})
    overlayws("discard", "--yes", ".env", ".npmrc", "docs", "src", "new.pem")
    assert overlayws("diff").out.decode() == ""
    kept = b"".join(p.read_bytes() for p in (overlayws.session("s") / "upper").rglob("*") if p.is_file())
    assert PLANTED.encode() not in kept
    done = overlayws(
        "run", "s", "--", "sh", "-c", "cat docs/guide.txt src/deep/util.py .npmrc; cat .env docs/.env", code=1
    )
    assert b"guide\nx = 1\n" in done.out and b"overlayws-redacted" in done.out and PLANTED.encode() not in done.out


@AUTO
def test_the_secret_of_a_redacted_file_stays_in_its_place(overlayws: Program, workspace: Path, backend: str) -> None:
    make_tree(workspace, {".npmrc": f"//r/:_authToken={PLANTED}\nengine=1\n"})
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--", "sh", "-euc", "echo more=2 >> .npmrc")
    assert PLANTED.encode() not in overlayws("diff").out
    overlayws("apply", "--yes")
    assert (workspace / ".npmrc").read_text() == f"//r/:_authToken={PLANTED}\nengine=1\nmore=2\n"
