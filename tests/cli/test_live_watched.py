"""``--base live``: what becomes a secret, or is changed, while the session lives."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from overlayws.base.live_manifest import STARTED
from tests.cli.conftest import Program
from tests.cli.live import ANY, AUTO, LIVE
from tests.cli.talking import Start, talking
from tests.cli.test_promises import PLANTED, repository
from tests.trees import Symlink, make_tree

pytestmark = pytest.mark.bwrap
__all__ = ["talking"]  # a fixture


@AUTO
def test_without_a_repository_of_its_own_there_is_none_also_when_the_user_makes_one(
    overlayws: Program, workspace: Path, talking: Start, backend: str
) -> None:
    program = talking("ls -a > /dev/null", "cat .git/config || echo none", *ANY, "--backend", backend)
    repository(workspace)
    out, _ = program.end()
    assert out.splitlines()[-1] == "none"


@AUTO
@pytest.mark.parametrize("name", [".env", ".aws/credentials"])
def test_a_secret_made_at_the_top_while_the_program_runs_is_never_there(
    overlayws: Program, workspace: Path, talking: Start, backend: str, name: str
) -> None:
    (workspace / ".env").unlink()
    # It looks all the time, from before the secret is made: no race is to be won.
    spy = f"(while :; do cat {name} 2>/dev/null && echo caught; done) & spy=$!"
    program = talking(spy, f"kill $spy; cat {name} || echo absent; ls -a", *ANY, "--backend", backend)
    make_tree(workspace, {name: PLANTED})
    time.sleep(0.3)
    out, _ = program.end()
    assert PLANTED not in out and "caught" not in out and "absent" in out
    assert name.split("/")[0] not in out.splitlines()


@AUTO
def test_no_program_is_started_at_a_time_that_could_still_be_the_start_s(
    overlayws: Program, workspace: Path, backend: str
) -> None:
    """A ctime is as old as the last tick of its clock: what a program sees changed must have one after the start."""
    overlayws("start", workspace, "--name", "s", "--no-run", *ANY, "--backend", backend)
    manifest = next(overlayws.home.glob("sessions/s/base/manifest.db"))
    later = time.time_ns() + 1_500_000_000
    with closing(sqlite3.connect(manifest)) as db, db:
        db.execute("UPDATE meta SET value = ? WHERE key = ?", (str(later), STARTED))
    began = overlayws("run", "s", "--", "date", "+%s%N").out
    assert int(began) > later


@LIVE
def test_a_secret_made_further_below_is_told_and_hidden(
    overlayws: Program, workspace: Path, talking: Start, backend: str
) -> None:
    after = "cat src/deep/.env made/new/.env || echo absent; cat made/new/code.py"
    program = talking("true", after, *ANY, "--backend", backend)
    make_tree(workspace, {"src/deep/.env": PLANTED})
    program.until_told("'src/deep/.env'")
    make_tree(workspace, {"made/new/.env": PLANTED, "made/new/code.py": "code = 1\n"})
    program.until_told("'made/new/.env'")
    out, err = program.end()
    assert PLANTED not in out + err
    assert "absent" in out and "code = 1" in out
    overlayws("run", "s", "--", "sh", "-c", "! cat src/deep/.env made/new/.env 2>/dev/null")
    hidden = json.loads(overlayws("diff", "--json").out)["base"]["hidden"]
    assert hidden == 3


@AUTO
@pytest.mark.parametrize("how", [os.rename, os.link])
def test_another_name_of_a_hidden_file_is_hidden_too(
    overlayws: Program, workspace: Path, talking: Start, backend: str, how: Callable[[Path, Path], None]
) -> None:
    program = talking("true", "cat src/notes.txt || echo absent", *ANY, "--backend", backend)
    how(workspace / ".env", workspace / "src/notes.txt")
    program.until_told("'src/notes.txt'")
    out, _ = program.end()
    assert "absent" in out and PLANTED not in out


@AUTO
def test_what_became_a_secret_before_a_run_is_hidden_in_it(overlayws: Program, workspace: Path, backend: str) -> None:
    make_tree(workspace, {"tls.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"})
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--no-run")
    make_tree(
        workspace,
        {
            "src/.env": PLANTED, "new/id_rsa": PLANTED, "tls.pem": f"-----BEGIN PRIVATE KEY-----\n{PLANTED}\n",
            ".npmrc": f"//r/:_authToken={PLANTED}\n", "src/link": Symlink("../tls.pem"),
        },
    )  # fmt: skip
    os.rename(workspace / ".env", workspace / "env.txt")
    done = overlayws("run", "s", "--", "sh", "-c", "grep -r planted .; ls -aR", code=None)
    assert PLANTED not in done.out.decode()
    for name in ("src/.env", "new/id_rsa", "tls.pem", "env.txt", "src/link"):
        assert repr(name) in done.err
    assert not {"env.txt", "tls.pem", "id_rsa", "link"} & set(done.out.decode().splitlines())


@AUTO
def test_the_rules_are_those_of_the_start(overlayws: Program, workspace: Path, backend: str) -> None:
    make_tree(workspace, {".overlaywsignore": "notes\n**/*.log\n", "notes": PLANTED, "src/a.log": PLANTED})
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--hide", "docs", "--no-run")
    (workspace / ".overlaywsignore").unlink()
    make_tree(workspace, {"src/b.log": PLANTED})
    done = overlayws("run", "s", "--", "sh", "-c", "ls -R; cat notes src/*.log", code=None)
    assert PLANTED not in done.out.decode() and "docs" not in done.out.decode()


@AUTO
def test_what_the_user_changes_under_the_program_is_told(
    overlayws: Program, workspace: Path, talking: Start, backend: str
) -> None:
    program = talking("true", "cat src/app.py", *ANY, "--backend", backend)
    (workspace / "src/app.py").write_text("edited\n")
    (workspace / "docs/guide.txt").unlink()
    time.sleep(0.2)
    out, err = program.end()
    assert "edited" in out
    assert "changed in the workspace while the program ran: 'docs/guide.txt', 'src/app.py'" in err


@AUTO
def test_a_session_whose_rules_are_gone_is_damaged(overlayws: Program, workspace: Path, backend: str) -> None:
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--no-run")
    (overlayws.session("s") / "base/rules.json").write_text("{}")
    assert "rules" in overlayws("run", "s", "--", "true", code=4).error
