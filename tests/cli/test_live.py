"""``--base live``: the workspace itself below a mask. What holds for a frozen base holds here, or it is said."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.cli.talking import Start, talking
from tests.cli.test_promises import PLANTED, repository, times
from tests.trees import Special, Symlink, make_tree, read_tree, stamps

LIVE = pytest.mark.parametrize(
    "backend", [pytest.param("kernel", marks=pytest.mark.kernel), pytest.param("userns", marks=pytest.mark.userns)]
)
AUTO = pytest.mark.parametrize("backend", ["auto"])  # as an ordinary user that is userns
pytestmark = pytest.mark.bwrap
ANY = ("--base", "live")
__all__ = ["talking"]  # a fixture


def upper(overlayws: Program) -> Path:
    return overlayws.session("s") / "upper"


@pytest.mark.parametrize(
    ("backend", "git"),
    [
        pytest.param("kernel", "fresh", marks=pytest.mark.kernel),
        pytest.param("userns", "none", marks=pytest.mark.userns),
    ],
)
def test_the_workspace_is_untouched_until_apply(overlayws: Program, workspace: Path, backend: str, git: str) -> None:
    repository(workspace)
    make_tree(workspace, {"link": Symlink("README.md")})
    before, seen = stamps(workspace), times(workspace)
    script = "cat README.md link > copy; echo x > src/app.py; rm -r docs; ls -R . > /dev/null; chmod 600 README.md"
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--git", git, "--", "sh", "-euc", script)
    overlayws("run", "s", "--", "sh", "-euc", "rm -rf .git src; mkdir src; echo new > src/new; chmod 000 src")
    for command in (["status"], ["diff"], ["diff", "--stat"], ["diff", "--json"], ["list"], ["apply", "--dry-run"]):
        overlayws(*command)
    overlayws("discard", "--yes", "docs", "copy", "src")
    overlayws("diff")
    overlayws("discard", "--yes")
    assert stamps(workspace) == before
    assert times(workspace) == seen


@LIVE
def test_no_hidden_byte_can_be_read(overlayws: Program, workspace: Path, backend: str) -> None:
    repository(workspace)
    subprocess.run(["git", "-C", workspace, "config", "remote.origin.url", f"https://u:{PLANTED}@host/x"], check=True)
    (workspace / "also").hardlink_to(workspace / ".env")
    (workspace / "docs/object").hardlink_to(workspace / ".git/config")
    tree = {
        "key": Symlink(".env"), "keys/server.pem": f"-----BEGIN {PLANTED}\n", "docs/.env.local": PLANTED,
        ".npmrc": f"//r/:_authToken={PLANTED}\nengine=1\n", "sub/.git/config": PLANTED, "pipe": Special("fifo"),
    }  # fmt: skip
    make_tree(workspace, tree)
    (workspace / "npmrc-too").hardlink_to(workspace / ".npmrc")
    look = (
        "grep -r planted.value . /proc/self/environ; cat .env also key keys/server.pem docs/.env.local .git/config"
        " docs/object sub/.git/config npmrc-too; find . -path ./.git -prune -o -print; cat .npmrc;"
        " test -e pipe || echo no-pipe"
    )
    done = overlayws("start", "--name", "s", *ANY, "--backend", backend, "--", "sh", "-c", look, code=None)
    out = done.out.decode()
    assert PLANTED not in out + done.err
    assert "engine=1" in out and "overlayws-redacted-" in out and "no-pipe" in out
    shown = {line for line in out.splitlines() if line.startswith("./")}
    assert shown == {
        "./README.md", "./src", "./src/app.py", "./src/deep", "./src/deep/util.py", "./docs", "./docs/guide.txt",
        "./keys", "./sub", "./.npmrc",
    }  # fmt: skip
    kept = b"".join(p.read_bytes() for p in overlayws.home.rglob("*") if p.is_file())
    assert PLANTED.encode() not in kept


@LIVE
def test_the_program_gets_a_repository_of_its_own(overlayws: Program, workspace: Path, backend: str) -> None:
    repository(workspace)
    subprocess.run(["git", "-C", workspace, "config", "remote.origin.url", f"https://u:{PLANTED}@host/x"], check=True)
    (workspace / "README.md").write_text("not committed\n")
    script = (
        "git log --format=%s; git remote; git status --short; git show HEAD:README.md; git ls-files; ls .git/hooks;"
        " echo more >> README.md; git commit -qam mine; git log --oneline | wc -l; cat .git/config"
    )
    options = ("--backend", backend, "--git", "fresh")
    done = overlayws("start", "--name", "s", *ANY, *options, "--", "sh", "-c", script, code=None)
    lines = done.out.decode().splitlines()
    assert lines[:6] == [
        "The workspace as it was given to you", "not committed", "README.md", "docs/guide.txt", "src/app.py",
        "src/deep/util.py",
    ]  # fmt: skip
    assert "2" in lines and PLANTED not in done.out.decode()
    assert b"README.md" in overlayws("diff", "--name-status").out


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
    kept = b"".join(p.read_bytes() for p in upper(overlayws).rglob("*") if p.is_file())
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


@AUTO
def test_a_directory_with_hidden_names_looks_as_it_did(overlayws: Program, workspace: Path, backend: str) -> None:
    make_tree(workspace, {"docs/.env": PLANTED, "docs/inner/.env": PLANTED})
    docs = workspace / "docs"
    os.setxattr(docs, "user.colour", b"blue")
    os.setxattr(docs / "inner", "user.overlay.opaque", b"y")  # a mark of overlayfs, which must not become one
    docs.chmod(0o751)
    os.utime(docs, ns=(1_000_000_000, 1_234_567_890_123_456_789))
    script = (
        "stat -c '%a %.9Y' docs; python3 -c \"import os; print(os.getxattr('docs', 'user.colour'))\"; ls docs/inner"
    )
    (docs / "inner/page").write_text("page\n")
    done = overlayws("start", "--name", "s", *ANY, "--backend", backend, "--", "sh", "-c", script)
    assert done.out.decode().splitlines() == ["751 1234567890.123456789", "b'blue'", "page"]
    overlayws("run", "s", "--", "sh", "-c", "echo x > docs/guide.txt")
    listed = json.loads(overlayws("diff", "--json").out)["changes"]
    assert [change["path"] for change in listed] == ["docs/guide.txt"]


@AUTO
def test_contents_are_looked_at_on_request(overlayws: Program, workspace: Path, backend: str) -> None:
    token = "ghp_" + "aB3dE5fG7hJ9" * 3
    make_tree(
        workspace,
        {
            "src/settings.py": f'TOKEN = "{token}"\nDEBUG = 1\n',
            "src/cut": "PuTTY-User-Key-File-3: x\nPrivate-Lines: 1\nAAAA\n",
        },
    )
    (workspace / "src/again.py").hardlink_to(workspace / "src/settings.py")
    options = ("--backend", backend)
    done = overlayws("start", *ANY, *options, "--", "cat", "src/settings.py")
    assert token in done.out.decode() and "only names were looked at" in done.err
    options = (*options, "--scan")
    show = "cat src/settings.py src/again.py; ls src"
    done = overlayws("start", "--name", "s", *ANY, *options, "--", "sh", "-c", show)
    assert token not in done.out.decode() + done.err
    assert done.out.decode().count("overlayws-redacted-") == 2 and "cut" not in done.out.decode()
    assert "only names were looked at" not in done.err


def test_the_copy_backend_refuses(overlayws: Program) -> None:
    done = overlayws("start", *ANY, "--backend", "copy", "--no-run", code=3)
    assert "copy" in done.error and "hidden files" in done.error


def test_it_is_never_chosen_by_itself(overlayws: Program) -> None:
    overlayws("start", "--name", "s", "--no-run")
    assert json.loads(overlayws("list", "--json").out)["sessions"][0]["base"] == "copy"


def test_scan_belongs_to_it(overlayws: Program) -> None:
    assert "--scan" in overlayws("start", "--scan", "--no-run", code=2).error


@AUTO
def test_a_session_whose_rules_are_gone_is_damaged(overlayws: Program, workspace: Path, backend: str) -> None:
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--no-run")
    (overlayws.session("s") / "base/rules.json").write_text("{}")
    assert "rules" in overlayws("run", "s", "--", "true", code=4).error


@AUTO
def test_a_workspace_that_is_gone_is_an_error_of_one_line(overlayws: Program, workspace: Path, backend: str) -> None:
    overlayws("start", "--name", "s", *ANY, "--backend", backend, "--", "touch", "new")
    elsewhere = workspace.rename(workspace.with_name("elsewhere"))
    assert "workspace" in overlayws("diff", "s", code=3, cwd=elsewhere).error
    overlayws("discard", "s", "--yes", cwd=elsewhere)


def test_a_directory_that_cannot_be_read_refuses_the_start(overlayws: Program, workspace: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read everything")
    (workspace / "docs").chmod(0)
    try:
        assert "docs" in overlayws("start", *ANY, "--no-run", code=3).error
    finally:
        (workspace / "docs").chmod(0o755)
