"""What becomes of secrets on the way back: flags, redacted files that both sides edit; and what is newer."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.cli.talking import Start, talking
from tests.filter.planted import BASE62, Fakes
from tests.trees import make_tree

__all__ = ["talking"]  # a fixture
FAKES = Fakes(77)
TOKEN, OTHER, THIRD = ("ghp_" + FAKES.draw(BASE62, 36) for _ in range(3))
NPMRC = f"registry=https://r/\n//r/:_authToken={TOKEN}\nengine=1\n"


def flags(overlayws: Program) -> dict[str, list[str]]:
    return {c["path"]: c["flags"] for c in json.loads(overlayws("diff", "--json").out)["changes"]}


@pytest.mark.parametrize("base", ["copy", "live"])
def test_a_placeholder_copied_elsewhere_stays_one_and_is_flagged(
    overlayws: Program, workspace: Path, base: str
) -> None:
    make_tree(workspace, {".npmrc": NPMRC})
    script = (
        "cp .npmrc copied; cp .npmrc src/.npmrc; sed -i 1p .npmrc; grep auth .npmrc >> README.md; echo more=2 >> .npmrc"
    )
    overlayws("start", "--name", "s", "--base", base, "--", "sh", "-euc", script)
    found = flags(overlayws)
    assert {path for path, said in found.items() if "secret" in said} == {"copied", "src/.npmrc", "README.md"}
    assert ".npmrc" in found
    for asked in (("--yes", "--dry-run"), ("--yes", "--dry-run", "--json"), ("--yes", "--json")):
        done = overlayws("apply", *asked)
        for place in ("copied: a placeholder is written literally, in line 2", "README.md: a placeholder is written"):
            assert f"warning: {place}" in done.err, asked
            assert "--json" not in asked or place in "".join(json.loads(done.out)["notes"])
        assert ".npmrc: a" not in done.err.replace("src/.npmrc", "")
    assert TOKEN in (workspace / ".npmrc").read_text() and "more=2" in (workspace / ".npmrc").read_text()
    for name in ("copied", "src/.npmrc", "README.md"):
        text = (workspace / name).read_text()
        assert TOKEN not in text and "overlayws-redacted-" in text


@pytest.mark.parametrize(
    ("path", "text", "edit", "flagged"),
    [
        ("cfg/config.yml", "db:\n  host: db.internal\n  password: {}\n", "s/db.internal/evil.example/", True),
        ("cfg/config.yml", "db:\n  sink: alpha\n  password: {}\n", "s/alpha/omega/", True),
        ("cfg/config.yml", "db:\n  password: {}\nproxy: a\n", "s/proxy: a/proxy: b/", True),
        ("cfg/config.yml", "db:\n  password: {}\nlog:\n  level: a\n", "s/level: a/level: b/", False),
        (".pypirc", "[p]\nrepository = https://a/\npassword = {}\n", "s,https://a/,https://evil/,", True),
        (".pypirc", "[p]\npassword = {}\n[q]\nx = 1\n", "s/x = 1/x = 2/", False),
        (".pypirc", "[p]\npassword = {}\n", "1a repository = https://evil/", True),
    ],
)
def test_another_host_beside_a_secret_is_flagged(
    overlayws: Program, workspace: Path, path: str, text: str, edit: str, flagged: bool
) -> None:
    make_tree(workspace, {path: text.format(OTHER)})
    overlayws("start", "--name", "s", "--", "sh", "-euc", f"grep -q overlayws-redacted- {path}; sed -i '{edit}' {path}")
    assert ("secret" in flags(overlayws)[path]) is flagged


def test_a_new_secret_is_flagged_and_an_old_one_is_not(overlayws: Program, workspace: Path) -> None:
    make_tree(
        workspace, {"shown.py": f"a = '{TOKEN}'\nb = 1\n", "more.py": f"a = '{TOKEN}'\n", "big.txt": "x" * 3_000_000}
    )
    script = (
        f"echo c = 2 >> shown.py; echo \"d = '{OTHER}'\" >> more.py; echo \"e = '{OTHER}'\" > new.py;"
        f" echo {THIRD} >> big.txt; echo 'password = ${{PASSWORD}}' > stand-in.ini; chmod 755 shown.py;"
        f" printf '{THIRD}' | iconv -t UTF-16 > wide.txt; echo //r/:_authToken=abcdefgh1234 > .npmrc"
    )
    overlayws("start", "--name", "s", "--show", "shown.py", "--show", "more.py", "--", "sh", "-euc", script)
    secret = {path for path, said in flags(overlayws).items() if "secret" in said}
    assert secret == {"more.py", "new.py", "big.txt", "wide.txt", ".npmrc"}


@pytest.mark.parametrize("base", ["copy", "live"])
def test_a_redacted_file_that_both_sides_edit_is_merged(overlayws: Program, workspace: Path, base: str) -> None:
    make_tree(workspace, {".npmrc": NPMRC})
    overlayws("start", "--name", "s", "--base", base, "--", "sh", "-euc", "echo theirs=1 >> .npmrc")
    (workspace / ".npmrc").write_text(NPMRC.replace("registry=https://r/", "registry=https://mine/"))
    overlayws("apply", "--yes")
    want = f"registry=https://mine/\n//r/:_authToken={TOKEN}\nengine=1\ntheirs=1\n"
    assert (workspace / ".npmrc").read_text() == want


def test_a_new_secret_of_the_users_in_a_redacted_file_stays(overlayws: Program, workspace: Path) -> None:
    make_tree(workspace, {".npmrc": NPMRC})
    overlayws("start", "--name", "s", "--", "sh", "-euc", "echo theirs=1 >> .npmrc")
    (workspace / ".npmrc").write_text(f"//mine/:_authToken={OTHER}\n{NPMRC}".replace(TOKEN, THIRD))
    overlayws("apply", "--yes")
    want = f"//mine/:_authToken={OTHER}\nregistry=https://r/\n//r/:_authToken={THIRD}\nengine=1\ntheirs=1\n"
    assert (workspace / ".npmrc").read_text() == want


@pytest.mark.parametrize(
    "script",
    [
        "sed -i s,//r/,//evil/, .npmrc",  # the secret would go to another host
        "sed -i '/authToken/d' .npmrc",
        "sed -i 's/overlayws-redacted-/x/' .npmrc",
        "echo $(grep authToken .npmrc | cut -d= -f2) > .npmrc",
    ],
)
def test_an_edit_of_the_secrets_line_beside_the_users_is_a_persons_to_decide(
    overlayws: Program, workspace: Path, script: str
) -> None:
    make_tree(workspace, {".npmrc": NPMRC})
    overlayws("start", "--name", "s", "--", "sh", "-euc", script)
    mine = NPMRC.replace(TOKEN, OTHER)
    (workspace / ".npmrc").write_text(mine)
    assert ".npmrc" in overlayws("apply", "--yes", code=1).err
    assert (workspace / ".npmrc").read_text() == mine


def test_nothing_newer_than_the_start_is_ever_visible_in_a_copy(
    overlayws: Program, workspace: Path, talking: Start
) -> None:
    look = "ls -aR; cat made/.env src/.env README.md new.txt"
    program = talking("true", look)
    make_tree(workspace, {"made/.env": TOKEN, "src/.env": TOKEN, "new.txt": "new", "README.md": "changed after\n"})
    (workspace / "docs/guide.txt").unlink()
    out, err = program.end()
    assert TOKEN not in out + err and "new.txt" not in out.splitlines() and "made" not in out.splitlines()
    assert "changed after" not in out and "one\ntwo\nthree" in out and "guide.txt" in out.splitlines()
    out = overlayws("run", "s", "--", "sh", "-c", look, code=None).out.decode()
    assert TOKEN not in out and "changed after" not in out


def test_a_placeholder_in_a_commit_of_the_programs_is_told_before_anybody_builds_it(
    overlayws: Program, workspace: Path
) -> None:
    make_tree(workspace, {".npmrc": NPMRC})
    for words in (
        "init -q",
        "config user.name x",
        "config user.email x@example.com",
        "add README.md",
        "commit -qm one",
    ):
        subprocess.run(["git", *words.split()], cwd=workspace, check=True)
    script = "cp .npmrc copied; git add copied; git commit -qm theirs"
    overlayws("start", "--name", "s", "--git", "fresh", "--", "sh", "-euc", script)
    done = overlayws("apply", "--yes", "--branch", "theirs")
    assert "warning: copied: a placeholder is written literally, in line 2" in done.err
