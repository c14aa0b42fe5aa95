"""The program's own commits: told safely, whatever it made of its repository."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import BACKEND, Program
from tests.trees import stamps

EVERY_BACKEND = pytest.mark.parametrize("backend", BACKEND)
GIT = "env GIT_AUTHOR_NAME='A U Thor' GIT_AUTHOR_EMAIL=a@example.org git"


def start(program: Program, script: str, *, backend: str = "auto", code: int | None = 0) -> None:
    program("start", "--name", "s", "--git", "fresh", "--backend", backend, "--", "sh", "-euc", script, code=code)


def commits(program: Program) -> list[dict[str, object]]:
    found = json.loads(program("diff", "s", "--commits", "--json").out)
    assert found["schema"] == "overlayws.commits/1"
    return list(found["commits"])


@EVERY_BACKEND
def test_the_commits_are_listed_newest_first(overlayws: Program, backend: str) -> None:
    script = (
        f"echo x > new; git add new; {GIT} commit -qm one; git checkout -qb side; rm README.md; {GIT} commit -qam two"
    )
    start(overlayws, script, backend=backend)
    found = commits(overlayws)
    assert [(c["author"], c["email"], c["message"]) for c in found] == [
        ("A U Thor", "a@example.org", "two\n"), ("A U Thor", "a@example.org", "one\n"),
    ]  # fmt: skip
    assert found[0]["parents"] == [found[1]["commit"]]
    text = overlayws("diff", "s", "--commits").out.decode()
    assert f"commit {found[0]['commit']} (side)\nAuthor: A U Thor <a@example.org>\n" in text and "\n    two\n" in text


@pytest.mark.parametrize("script", ["git status; echo x > f; git add f", "git gc -q; git branch x", "rm -rf .git"])
def test_where_there_are_none_that_is_said(overlayws: Program, script: str) -> None:
    start(overlayws, script, backend="copy")
    done = overlayws("diff", "s", "--commits")
    assert done.out == b"" and "no commits" in done.err


@pytest.mark.parametrize(
    ("backend", "pack"),
    [
        pytest.param("kernel", "git gc -q --prune=now", marks=pytest.mark.kernel),
        pytest.param("userns", "git pack-refs --all", marks=pytest.mark.userns),
        ("copy", "git checkout -q --detach; git branch -D main"),
    ],
)
def test_packed_objects_and_branches_and_a_detached_head_are_found(overlayws: Program, backend: str, pack: str) -> None:
    start(overlayws, f"echo x > new; git add new; {GIT} commit -qm one; {pack}", backend=backend)
    assert [c["message"] for c in commits(overlayws)] == ["one\n"]


def test_without_a_repository_of_its_own_it_is_wrong_usage(overlayws: Program) -> None:
    overlayws("start", "--name", "s", "--git", "none", "--", "true")
    assert "has no repository of its own" in overlayws("diff", "s", "--commits", code=2).error


def test_an_author_does_not_steer_the_terminal(overlayws: Program) -> None:
    name = "$(printf 'E\\033[2JvilX\\342\\200\\256')"
    message = "$(printf 'subject\\033]0;t\\007\\n\\nAuthor: Root <root@x>\\ncommit 0000')"
    script = f'echo x > new; git add new; GIT_AUTHOR_NAME="{name}" GIT_AUTHOR_EMAIL=e@x git commit -qm "{message}"'
    start(overlayws, script)
    text = overlayws("diff", "s", "--commits").out.decode()
    assert "\x1b" not in text and "\u202e" not in text and "\\x1b[2J" in text and "<U+202E>" in text
    assert [line for line in text.splitlines() if line.startswith(("Author:", "commit "))][1:] == [
        "Author: E\\x1b[2JvilX<U+202E> <e@x>"
    ]


TRAPS = r"""
for hook in post-checkout pre-commit reference-transaction post-index-change update pre-receive; do
  mkdir -p .git/hooks; printf '#!/bin/sh\ntouch %s/pwned-hook\n' "$OUT" > .git/hooks/$hook
  chmod +x .git/hooks/$hook; done
cat >> .git/config <<EOF
[core]
  fsmonitor = "touch $OUT/pwned-fsmonitor"
  sshCommand = "touch $OUT/pwned-ssh"
  pager = "touch $OUT/pwned-pager"
  alternateRefsCommand = "touch $OUT/pwned-alternate"
[uploadpack]
  packObjectsHook = "touch $OUT/pwned-upload"
[gpg]
  program = "touch $OUT/pwned-gpg"
[log]
  showSignature = true
[include]
  path = /etc/passwd
[extensions]
  evil = true
EOF
mkdir -p .git/objects/info; echo /nonexistent/objects > .git/objects/info/alternates
"""


def test_nothing_of_its_configuration_runs(overlayws: Program, workspace: Path, tmp_path: Path) -> None:
    script = f"echo x > new; git add new; {GIT} commit -qm one\n" + TRAPS.replace("$OUT", str(tmp_path))
    start(overlayws, script)
    before = stamps(workspace)
    assert [c["message"] for c in commits(overlayws)] == ["one\n"]
    assert not list(tmp_path.glob("pwned*")) and stamps(workspace) == before


@pytest.mark.parametrize(
    "damage",
    [
        "f=.git/objects/$(git rev-parse HEAD | sed 's|..|&/|'); chmod u+w $f; printf 'junk' > $f",
        "for f in .git/objects/??/*; do rm -f $f; done",
        "git hash-object -t commit -w --literally --stdin <<EOF > id\ntree $(printf 0%.0s $(seq 40))\nEOF\n"
        "git update-ref --no-deref refs/heads/main $(cat id) || cat id > .git/refs/heads/main; rm id",
        # Sound but for git's fsck: a name that no tree may have.
        'blob=$(echo evil | git hash-object -w --stdin); tree=$(printf "100644 blob $blob\\t.git\\n" | git mktree); '
        f"c=$({GIT} commit-tree -m evil $tree); echo $c > .git/refs/heads/main",
    ],
)
def test_objects_that_are_not_sound_are_refused(overlayws: Program, damage: str) -> None:
    start(overlayws, f"echo x > new; git add new; {GIT} commit -qm one\n{damage}".replace("sh -", "bash -"))
    assert "not sound" in overlayws("diff", "s", "--commits", code=4).error
    assert b"new" in overlayws("diff", "s", "--name-status").out


def test_a_link_in_the_repository_is_not_followed(overlayws: Program, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    subprocess.run(["git", "init", "-q", secret], check=True)
    script = f"""
    rm -r .git/objects; ln -s {secret}/.git/objects .git/objects; rm .git/HEAD; ln -s /etc/passwd .git/HEAD
    ln -s /etc/passwd .git/packed-refs; mkfifo .git/refs/heads/fifo; rm .git/refs/heads/main
    ln -s /etc/passwd .git/refs/heads/main
    """
    start(overlayws, script)
    assert "no commits" in overlayws("diff", "s", "--commits").err


def test_a_branch_changed_after_the_run_has_no_effect(overlayws: Program) -> None:
    start(overlayws, f"echo x > new; git add new; {GIT} commit -qm one")
    shown = overlayws("diff", "s", "--commits").out
    upper = overlayws.session("s") / "upper/.git"
    (upper / "refs/heads/main").write_text("0" * 40)
    for path in (upper / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"evil")
    assert overlayws("diff", "s", "--commits").out == shown


def test_one_bit_of_the_captured_commits_is_noticed(overlayws: Program) -> None:
    start(overlayws, f"echo x > new; git add new; {GIT} commit -qm one")
    (capture,) = (overlayws.session("s") / "captures").iterdir()
    for file in (capture / "repository.json", next((capture / "git").rglob("??/*"))):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert "captured commits are damaged" in overlayws("diff", "s", "--commits", code=4).error
        file.write_bytes(whole)


def test_commits_that_are_not_listed_are_told(overlayws: Program, workspace: Path) -> None:
    subprocess.run(["git", "init", "-q", workspace], check=True)
    for words in (["add", "README.md"], ["-c", "user.name=U", "-c", "user.email=u@x", "commit", "-qm", "start"]):
        subprocess.run(["git", "-C", workspace, *words], check=True)
    stream = (
        'awk \'BEGIN { print "reset refs/heads/main\\nfrom refs/heads/main^0\\n"; for (n = 0; n < NUMBER; n++) '
        'print "commit refs/heads/main\\ncommitter U <u@x> " n " +0000\\ndata 1\\nm\\n'
        "M 644 inline new\\ndata 1\\nx\\n\" }' "
        "| git fast-import --quiet; echo x > other"
    )
    start(overlayws, stream.replace("NUMBER", "1001"))
    done = overlayws("diff", "s", "--commits")
    assert "only the newest 1000 commits are listed" in done.err and done.out.count(b"commit ") == 1000
    assert json.loads(overlayws("diff", "s", "--commits", "--json").out)["cut"] is True
    assert "more than 1000 commits" in overlayws("apply", "s", "--yes", "--branch", "b", code=None).error
    overlayws("discard", "s", "--yes")
    overlayws("start", "--name", "t", "--git", "fresh", "--", "sh", "-euc", stream.replace("NUMBER", "1000"))
    done = overlayws("diff", "t", "--commits")
    assert "only the newest" not in done.err and done.out.count(b"commit ") == 1000
