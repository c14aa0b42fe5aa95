"""``--base live``: what was hidden stays hidden under every name that it gets, edited or not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.cli.live import LIVE
from tests.cli.talking import Start, talking
from tests.cli.test_promises import PLANTED
from tests.trees import make_tree

pytestmark = pytest.mark.bwrap
__all__ = ["talking"]  # a fixture


@LIVE
@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (f"sed -i s/.*/A={PLANTED}/ .env; mv .env src/late.txt", "src/late.txt"),
        (f"sed -i s/.*/A={PLANTED}/ .env; mv .env a.txt; mv a.txt late.txt", "late.txt"),
        (f"echo B={PLANTED} >> .env; sleep 0.3; ln .env late.txt", "late.txt"),
        ("mv .aws .aws2", ".aws2"),
        (f"echo B={PLANTED} >> .npmrc; mv .npmrc late.txt", "late.txt"),
    ],
)
def test_what_was_edited_and_renamed_is_hidden(
    overlayws: Program, workspace: Path, talking: Start, backend: str, edit: str, name: str
) -> None:
    make_tree(workspace, {".aws/credentials": PLANTED, ".npmrc": f"//r/:_authToken={PLANTED}\n"})
    look = "grep -rs planted.value . ; ls -aR; echo end"
    program = talking("true", look, "--base", "live", "--backend", backend)
    subprocess.run(["sh", "-euc", edit], cwd=workspace, check=True)
    program.until_told(repr(name))
    out, err = program.end()
    assert PLANTED not in out + err and "end" in out
    later = overlayws("run", "s", "--", "sh", "-c", look)
    assert PLANTED not in later.out.decode() + later.err
    assert not {"late.txt", ".aws2"} & set(later.out.decode().splitlines())


@LIVE
def test_an_edit_of_a_hidden_file_is_known_in_the_next_run(
    overlayws: Program, workspace: Path, talking: Start, backend: str
) -> None:
    program = talking("true", "true", "--base", "live", "--backend", backend)
    subprocess.run(["sh", "-euc", f"sed -i s/.*/A={PLANTED}/ .env; sleep 0.3"], cwd=workspace, check=True)
    program.end()
    (workspace / ".env").rename(workspace / "late.txt")
    later = overlayws("run", "s", "--", "sh", "-c", "cat late.txt || echo absent")
    assert "absent" in later.out.decode() and PLANTED not in later.out.decode()
    assert "'late.txt'" in later.err


@LIVE
def test_a_hidden_directory_is_known_by_its_files_between_runs(
    overlayws: Program, workspace: Path, backend: str
) -> None:
    make_tree(workspace, {".aws/credentials": PLANTED, ".aws/sub/other": PLANTED})
    overlayws("start", "--name", "s", "--base", "live", "--backend", backend, "--no-run")
    (workspace / ".aws/credentials").rename(workspace / "creds.txt")
    (workspace / ".aws").rename(workspace / "src/of-aws")
    later = overlayws("run", "s", "--", "sh", "-c", "grep -rs planted.value .; ls -aR")
    assert PLANTED not in later.out.decode()
    assert "'creds.txt'" in later.err


@LIVE
def test_a_hidden_name_that_goes_away_is_told(
    overlayws: Program, workspace: Path, talking: Start, backend: str
) -> None:
    program = talking("true", "true", "--base", "live", "--backend", backend)
    (workspace / ".env").unlink()
    _, err = program.end()
    assert "hidden, and removed or renamed while the program ran" in err and "'.env'" in err


@LIVE
def test_a_file_that_is_saved_by_way_of_a_hidden_name_stays_visible(
    overlayws: Program, workspace: Path, talking: Start, backend: str
) -> None:
    make_tree(workspace, {".overlaywsignore": "**/*.tmp\n"})
    program = talking("true", "cat src/app.py", "--base", "live", "--backend", backend)
    script = "echo saved > src/app.py.tmp; sleep 0.2; mv src/app.py.tmp src/app.py; sleep 0.2"
    subprocess.run(["sh", "-euc", script], cwd=workspace, check=True)
    out, err = program.end()
    assert "saved" in out
    assert b"saved" in overlayws("run", "s", "--", "cat", "src/app.py").out
