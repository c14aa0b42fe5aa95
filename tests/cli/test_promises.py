"""The promises: the workspace is untouched until apply, no hidden byte gets anywhere, nothing hidden is overwritten,
nothing of the user's own edits is lost."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import BACKEND, Program, processes
from tests.trees import Symlink, make_tree, read_tree, stamps

EVERY_BACKEND = pytest.mark.parametrize("backend", BACKEND)
PLANTED = "planted-value-7141"


def times(root: Path) -> dict[str, int]:
    """The access times, without changing them."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            found[path] = os.lstat(path).st_atime_ns
    return found


def repository(workspace: Path) -> None:
    git = ["git", "-C", workspace, "-c", "user.name=u", "-c", "user.email=u@example.org"]
    for words in (["init", "-q"], ["add", "README.md", "src"], ["commit", "-qm", "start"]):
        subprocess.run([*git, *words], check=True)


@EVERY_BACKEND
def test_the_workspace_is_untouched_until_apply(overlayws: Program, workspace: Path, backend: str) -> None:
    repository(workspace)
    before, seen = stamps(workspace), times(workspace)
    script = "cat README.md > copy; echo x > src/app.py; rm -r docs; git add -A; git commit -qm theirs; cat .git/HEAD"
    overlayws("start", "--name", "s", "--backend", backend, "--", "sh", "-euc", script)
    overlayws("run", "s", "--", "sh", "-euc", "rm -rf .git src; mkdir src; echo new > src/new")
    for command in (["status"], ["diff"], ["diff", "--stat"], ["diff", "--json"], ["list"], ["apply", "--dry-run"]):
        overlayws(*command)
    overlayws("explain", ".env", "README.md")
    overlayws("discard", "--yes", "docs")
    overlayws("discard", "--yes")
    overlayws("gc", "--yes")
    assert stamps(workspace) == before
    assert times(workspace) == seen


@EVERY_BACKEND
def test_no_hidden_byte_is_anywhere_in_the_state_directory(overlayws: Program, workspace: Path, backend: str) -> None:
    repository(workspace)
    subprocess.run(["git", "-C", workspace, "config", "remote.origin.url", f"https://u:{PLANTED}@host/x"], check=True)
    (workspace / "also").hardlink_to(workspace / ".env")
    make_tree(workspace, {"key": Symlink(".env"), "keys/server.pem": f"-----BEGIN {PLANTED}\n"})
    look = "grep -r planted.value . /proc/self/environ; cat .env also key keys/server.pem; env; cat .git/config"
    done = overlayws("start", "--name", "s", "--backend", backend, "--", "sh", "-c", look, code=None)
    assert PLANTED not in done.out.decode() + done.err
    overlayws("run", "s", "--", "sh", "-c", "echo x > new; rm -rf docs")
    overlayws("diff")
    overlayws("apply", "--yes")
    overlayws("undo", "--yes")
    needles = [PLANTED.encode(), *(base64.b64encode(PLANTED.encode()[n:])[2:-4] for n in range(3))]
    looked_at = 0
    for directory, _, files in os.walk(overlayws.home):
        for name in files:
            if not Path(directory, name).is_file():  # a whiteout
                continue
            content = Path(directory, name).read_bytes()
            looked_at += 1
            assert not any(needle in content for needle in needles), Path(directory, name)
    assert looked_at > 10


@EVERY_BACKEND
def test_a_hidden_file_is_never_overwritten(overlayws: Program, workspace: Path, backend: str) -> None:
    overlayws("start", "--name", "s", "--backend", backend, "--", "sh", "-c", "echo MINE=1 > .env; echo x > new")
    before = stamps(workspace)
    done = overlayws("apply", "--yes", code=1)
    assert ".env" in done.err and "--skip-refused" in done.err.splitlines()[-1]
    assert stamps(workspace) == before
    done = overlayws("apply", "--yes", "--skip-refused")
    assert "left out" in done.err and ".env" in done.err
    assert (workspace / ".env").read_text() == f"TOKEN={PLANTED}\n" and (workspace / "new").exists()
    assert stamps(workspace)[str(workspace / ".env")] == before[str(workspace / ".env")]
    assert json.loads(overlayws("status", "--json").out)["state"] == "partly-applied"


@EVERY_BACKEND
@pytest.mark.parametrize(
    "script", ["rm -r conf", "mv conf moved", "rm -r conf; echo x > conf", "rm -r conf; ln -s / conf"]
)
def test_a_directory_that_goes_away_keeps_what_was_hidden_in_it(
    overlayws: Program, workspace: Path, backend: str, script: str
) -> None:
    make_tree(
        workspace, {"conf/.env": "A=1\n", "conf/deep/server.key": "k\n", "conf/plain": "p\n", "conf/deep/p": "q\n"}
    )
    hidden = ("conf/.env", "conf/deep/server.key")
    before = stamps(workspace)
    overlayws("start", "--name", "s", "--backend", backend, "--", "sh", "-euc", script)
    done = overlayws("apply", "--yes", "--skip-refused", code=None)
    for path in hidden:
        assert stamps(workspace)[str(workspace / path)] == before[str(workspace / path)]
    if script in ("rm -r conf", "mv conf moved"):
        assert done.code == 0
        assert not (workspace / "conf/plain").exists() and not (workspace / "conf/deep/p").exists()
        if "moved" in script:
            assert sorted(read_tree(workspace / "moved")) == ["deep", "deep/p", "plain"]
        overlayws("undo", "--yes")
        assert (workspace / "conf/plain").read_text() == "p\n"


@EVERY_BACKEND
def test_special_files_and_setuid_bits_do_not_arrive(overlayws: Program, workspace: Path, backend: str) -> None:
    script = "rm README.md; mkfifo README.md; cp /bin/true su; chmod 6755 su; echo x > new"
    overlayws("start", "--name", "s", "--backend", backend, "--", "sh", "-euc", script)
    assert b"README.md" in overlayws("diff", "--name-status").out
    flags = {c["path"]: c["flags"] for c in json.loads(overlayws("diff", "--json").out)["changes"]}
    assert "special" in flags["README.md"] and "setuid" in flags["su"]
    before = stamps(workspace)
    done = overlayws("apply", "--yes", code=1)
    assert "README.md" in done.err and stamps(workspace) == before
    overlayws("apply", "--yes", "--skip-refused", code=0)
    assert (workspace / "README.md").is_file() and (workspace / "new").exists()
    assert not (workspace / "su").exists() or not (workspace / "su").stat().st_mode & (stat.S_ISUID | stat.S_ISGID)


@EVERY_BACKEND
def test_what_the_command_left_running_is_gone_at_the_end(overlayws: Program, workspace: Path, backend: str) -> None:
    script = "setsid sh -c 'while :; do date >> busy; done' > /dev/null 2>&1 & sleep 0.3"
    overlayws("start", "--name", "s", "--backend", backend, "--", "sh", "-c", script)
    assert processes(workspace.parent, overlayws.home) == []
    digest = json.loads(overlayws("status", "--json").out)["digest"]
    time.sleep(0.3)
    assert json.loads(overlayws("status", "--json").out)["digest"] == digest


def test_two_sessions_of_one_workspace_are_merged_or_told_apart(overlayws: Program, workspace: Path) -> None:
    (workspace / "long").write_text("".join(f"line {n}\n" for n in range(30)))
    for name, script in (
        ("first", "sed -i 's/^line 2$/line two/' long"),
        ("merges", "sed -i 's/^line 27$/line twenty-seven/' long; echo x > also"),
        ("conflicts", "sed -i 's/^line 2$/LINE 2/' long; echo y > other"),
    ):
        overlayws("start", "--name", name, "--", "sh", "-euc", script)
    overlayws("apply", "first", "--yes")
    overlayws("apply", "merges", "--yes")
    lines = (workspace / "long").read_text().splitlines()
    assert lines[2] == "line two" and lines[27] == "line twenty-seven"
    before = stamps(workspace)
    done = overlayws("apply", "conflicts", "--yes", code=1)
    assert "long" in done.err and stamps(workspace) == before
    overlayws("apply", "conflicts", "--yes", "--on-conflict", "theirs")
    assert (workspace / "other").exists() and "LINE 2" in (workspace / "long").read_text()


def test_a_session_that_is_busy_says_so_at_once(overlayws: Program, workspace: Path) -> None:
    child = overlayws.ready("start", "--name", "s", "--", "sh", "-c", "echo x > new; echo ready; exec sleep 60")
    try:
        for command in (
            ["diff"],
            ["apply", "--yes"],
            ["discard", "--yes"],
            ["undo", "--yes"],
        ):
            assert "a command is running in session s" in overlayws(*command, code=1).error
        # 1 would be the command's own.
        assert "a command is running in session s" in overlayws("run", "s", "--", "true", code=125).error
        assert json.loads(overlayws("status", "--json").out)["state"] == "running"
        assert b"running" in overlayws("list").out
        overlayws("gc", "--yes")
    finally:
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)
    assert b"new" in overlayws("diff", "--name-status").out


def test_applies_at_the_same_time_take_turns(overlayws: Program, workspace: Path) -> None:
    names = [f"s{n}" for n in range(4)]
    for name in names:
        overlayws("start", "--name", name, "--", "sh", "-c", f"for n in $(seq 50); do echo {name} > {name}-$n; done")
    children = [overlayws.started("apply", name, "--yes") for name in names for _ in range(2)]
    for child in children:
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
    for name in names:
        assert all((workspace / f"{name}-{n}").read_text() == f"{name}\n" for n in range(1, 51))


def test_some_then_the_rest_is_all(overlayws: Program, workspace: Path) -> None:
    start = read_tree(workspace)
    script = "echo a > src/a; echo b > b; rm docs/guide.txt; chmod +x src/app.py"
    overlayws("start", "--name", "s", "--", "sh", "-euc", script)
    overlayws("apply", "--yes", "src")
    assert (workspace / "src/a").exists() and not (workspace / "b").exists()
    assert json.loads(overlayws("status", "--json").out)["state"] == "partly-applied"
    overlayws("apply", "--yes")
    assert (workspace / "b").exists() and not (workspace / "docs/guide.txt").exists()
    assert json.loads(overlayws("status", "--json").out)["state"] == "applied"
    after = stamps(workspace)
    assert "nothing to apply" in overlayws("apply", "--yes").err and stamps(workspace) == after
    overlayws("undo", "--yes")
    assert not (workspace / "b").exists() and (workspace / "src/a").exists()
    assert json.loads(overlayws("status", "--json").out)["state"] == "partly-applied"
    overlayws("undo", "--yes")
    assert read_tree(workspace) == start
    assert json.loads(overlayws("status", "--json").out)["state"] == "captured"
    assert "nothing of session s is applied" in overlayws("undo", "--yes", code=2).error


@EVERY_BACKEND
def test_undo_gives_the_start_and_refuses_after_an_edit(overlayws: Program, workspace: Path, backend: str) -> None:
    os.utime(workspace / "README.md", ns=(1, 123456789012345678))
    start, old = read_tree(workspace), {p: (s[1], s[3]) for p, s in stamps(workspace).items()}
    script = "echo more >> README.md; rm -r docs; mkdir -p a/b; echo x > a/b/c; mv src/app.py new.py; chmod 600 src/*/*"
    overlayws("start", "--name", "s", "--backend", backend, "--", "sh", "-euc", script)
    overlayws("apply", "--yes")
    (workspace / "a/b/c").write_text("by hand\n")
    before = stamps(workspace)
    assert "'a/b/c'" in overlayws("undo", "--yes", code=1).error
    assert stamps(workspace) == before
    (workspace / "a/b/c").write_text("x\n")
    overlayws("discard", "--yes")  # what was applied can still be undone
    overlayws("undo", "--yes")
    assert read_tree(workspace) == start
    assert {p: (s[1], s[3]) for p, s in stamps(workspace).items()} == old
    assert "nothing of session s is applied" in overlayws("undo", "s", "--yes", code=2).error


@EVERY_BACKEND
def test_after_a_discard_of_paths_a_command_sees_the_rest(overlayws: Program, workspace: Path, backend: str) -> None:
    script = "echo x >> README.md; rm -r src; echo y > new; mv docs/guide.txt docs/manual.txt"
    overlayws("start", "--name", "s", "--backend", backend, "--", "sh", "-euc", script)
    overlayws("discard", "--yes", "src/deep", "README.md")
    overlayws("discard", "--yes", "docs")
    assert overlayws("diff", "--name-status").out == b"A\tnew\nD\tsrc/app.py\n"
    check = "test ! -e src/app.py; test -f src/deep/util.py; test -f new; test -f docs/guide.txt; echo z >> README.md"
    overlayws("run", "s", "--", "sh", "-euc", check)
    assert overlayws("diff", "--name-status").out == b"M\tREADME.md\nA\tnew\nD\tsrc/app.py\n"
    assert b"-three\n+three\n" not in overlayws("diff", "README.md").out


def test_half_a_rename_that_is_discarded_is_pointed_out(overlayws: Program) -> None:
    overlayws("start", "--name", "s", "--", "mv", "docs/guide.txt", "docs/manual.txt")
    done = overlayws("discard", "--yes", "docs/manual.txt")
    assert "docs/guide.txt" in done.err and "deleted" in done.err


def test_a_discarded_session_says_so(overlayws: Program) -> None:
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo x > new")
    overlayws("discard", "--yes")
    for command in (["diff", "s"], ["apply", "s", "--yes"], ["run", "s", "--", "true"]):
        assert "was discarded" in overlayws(*command, code=2).error
    assert json.loads(overlayws("status", "s", "--json").out)["state"] == "discarded"
    overlayws("gc", "--yes")
    assert overlayws("list").out == b""


def test_the_python_interface_does_the_same(overlayws: Program, workspace: Path) -> None:
    script = (
        "import overlayws as o, sys\n"
        "s = o.start('.', name='s')\n"
        "assert o.run(s, ['sh', '-c', 'echo x > new; exit 4']).exit_code == 4\n"
        "assert [c.path for c in o.scan(s).changes] == ['new'] and b'+x' in o.diff(s)\n"
        "o.apply(s); assert open('new').read() == 'x\\n'; o.undo(s); o.discard(s)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=workspace, capture_output=True, check=False)
    assert done.returncode == 0 and done.stdout == b"" and done.stderr == b"", done.stderr.decode()
