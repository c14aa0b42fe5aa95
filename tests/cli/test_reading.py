"""What the reading commands print: JSON for scripts, patches for git; and which session and paths are meant."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.filter.planted import BASE62, Fakes
from tests.trees import Dir, Symlink, make_tree, read_tree, stamps

SCRIPT = """
printf 'one\\n2\\nthree\\nfour\\n' > README.md
mkdir -p src/new; echo fresh > src/new/file.py; rm docs/guide.txt; mv src/deep/util.py src/util.py
printf '\\000\\001' > blob; ln -s README.md link; chmod +x src/app.py; printf x > "$(printf 'odd\\nname\\377')"
"""


TOKEN = "ghp_" + Fakes(41).draw(BASE62, 36)


@pytest.fixture
def session(overlayws: Program) -> Program:
    overlayws("start", "--name", "calm-otter", "--", "sh", "-euc", SCRIPT)
    return overlayws


def test_the_change_set_is_what_the_contract_says(session: Program, workspace: Path) -> None:
    data = json.loads(session("diff", "--json").out)
    assert set(data) >= {"schema", "session", "digest", "base", "changes", "summary"}
    assert data["schema"] == "overlayws.changeset/1" and data["session"] == "calm-otter"
    assert data["digest"].startswith("sha256:") and len(data["digest"]) == 71
    assert data["base"]["mode"] == "copy" and data["base"]["files"] == 4 and data["base"]["hidden"] == 1
    changes = {change["path"]: change for change in data["changes"]}
    readme = changes["README.md"]
    expected = {
        "path": "README.md", "status": "modified", "kind": "file", "mode": ["0644", "0644"], "size": [14, 17],
        "sha256": [_sha256(b"one\ntwo\nthree\n"), _sha256(b"one\n2\nthree\nfour\n")],
        "added": 2, "removed": 1, "binary": False, "flags": [],
    }  # fmt: skip
    assert {name: readme[name] for name in expected} == expected
    assert changes["blob"]["binary"] is True and changes["blob"]["sha256"][0] is None
    assert changes["link"]["kind"] == "symlink"
    assert changes["src/app.py"]["status"] == "mode-changed" and changes["src/app.py"]["flags"] == ["executable"]
    assert changes["src/util.py"]["status"] == "renamed"
    assert changes["docs/guide.txt"]["status"] == "deleted" and changes["docs/guide.txt"]["size"][1] is None
    odd = next(change for change in data["changes"] if "path_b64" in change)
    assert base64.b64decode(odd["path_b64"]) == b"odd\nname\xff"
    assert set(data["summary"]) == {"files", "added", "removed"} and data["summary"]["files"] == len(changes)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_every_reading_command_has_valid_json(session: Program) -> None:
    for command in (
        ["list"],
        ["status"],
        ["diff"],
        ["explain", ".env", "README.md"],
        ["apply", "--dry-run"],
        ["doctor"],
    ):
        done = session(*command, "--json")
        data = json.loads(done.out.decode("utf-8"))
        assert data["schema"].startswith("overlayws.") and data["schema"].endswith("/1")
        assert "�" not in done.out.decode("utf-8", "replace")
    paths = json.loads(session("explain", ".env", "README.md", "--json").out)["paths"]
    assert [row["verdict"] for row in paths] == ["hidden", "visible"] and paths[0]["rule"]
    listed = json.loads(session("list", "--json").out)["sessions"]
    assert [(s["name"], s["state"]) for s in listed] == [("calm-otter", "captured")]
    status = json.loads(session("status", "--json").out)
    assert status["digest"] == json.loads(session("diff", "--json").out)["digest"]


def test_explain_gives_the_rule_in_parts_for_scripts(overlayws: Program, workspace: Path) -> None:
    long = "l" * 240
    make_tree(
        workspace,
        {
            ".overlaywsignore": f"# none\n*.log\n!keep.log\nvendor\n{long}\nx\u202ey\n",
            "a.log": "", "keep.log": "", "vendor/b": "", "more": "", "key.p12": "", "to-log": Symlink("a.log"),
            "app.py": f'key = "{TOKEN}"\n', long: "", "x\u202ey": "",
        },
    )  # fmt: skip
    expected = {
        "a.log": ("hidden", ".overlaywsignore", 2, "*.log"),
        "keep.log": ("visible", ".overlaywsignore", 3, "!keep.log"),
        "vendor/b": ("hidden", ".overlaywsignore", 4, "vendor"),
        long: ("hidden", ".overlaywsignore", 5, long),
        "x\u202ey": ("hidden", ".overlaywsignore", 6, "x\\u202ey"),
        "more": ("hidden", "--hide", None, "mor*"),
        ".env": ("hidden", "built-in", None, "env"),
        "key.p12": ("visible", "--show", None, "key.p12"),
        "to-log": ("hidden", None, None, None),  # a link to what is hidden: no rule of its own
        "app.py": ("redacted", None, None, None),
        "no-rule": ("visible", None, None, None),
    }
    told = overlayws("explain", *expected, "--hide", "mor*", "--show", "key.p12", "--json")
    rows = json.loads(told.out)["paths"]
    assert {r["path"]: (r["verdict"], r["source"], r["line"], r["pattern"]) for r in rows} == expected
    assert rows[0]["rule"] == "`.overlaywsignore` line 2: `*.log`"  # as it was: for a person
    assert rows[2]["rule"].endswith(", which hides vendor")


def test_exit_code_tells_whether_there_are_changes(session: Program) -> None:
    session("diff", "--exit-code", code=1)
    session("diff", "--exit-code", "--stat", "README.md", code=1)
    session("diff")
    session("discard", "--yes", ".")
    assert session("diff", "--exit-code").out == b""


def test_the_patch_is_what_git_applies(session: Program, workspace: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    shutil.copytree(workspace, fresh, symlinks=True)
    patch = session("diff").out
    subprocess.run(["git", "apply", "-"], cwd=fresh, input=patch, check=True)
    session("apply", "--yes")
    assert _files(fresh) == _files(workspace)


def _files(root: Path) -> dict[str, object]:
    return {path: node for path, node in read_tree(root).items() if not isinstance(node, Dir)}  # git knows none


def test_no_colour_and_no_pager_into_a_pipe(session: Program, tmp_path: Path) -> None:
    (tmp_path / "pager").write_text("#!/bin/sh\necho PAGED\n")
    (tmp_path / "pager").chmod(0o755)
    for command in (["diff"], ["diff", "--stat"], ["diff", "--word"], ["status"], ["list"], ["doctor"]):
        done = session(*command, env={"PAGER": str(tmp_path / "pager"), "TERM": "xterm-256color"}, code=None)
        assert b"\x1b" not in done.out and "\x1b" not in done.err and b"PAGED" not in done.out


def test_the_session_is_that_of_the_directory_one_is_in(overlayws: Program, workspace: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    overlayws("start", "--name", "first", "--no-run")
    overlayws("start", other, "--name", "elsewhere", "--no-run")
    overlayws("start", "--name", "second", "--", "sh", "-c", "echo x > src/new; echo y > top")
    for where in (workspace, workspace / "src", workspace / "src/deep"):
        assert json.loads(overlayws("status", "--json", cwd=where).out)["name"] == "second"
    assert json.loads(overlayws("status", "--json", cwd=other).out)["name"] == "elsewhere"
    assert "no session of a workspace" in overlayws("status", code=2, cwd=tmp_path).error
    overlayws("discard", "second", "--yes")
    assert json.loads(overlayws("status", "--json").out)["name"] == "first"


def test_paths_are_relative_to_the_current_directory(overlayws: Program, workspace: Path, tmp_path: Path) -> None:
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo x > src/new; echo x > new; echo x >> src/app.py")
    names = ["diff", "--name-status"]
    assert overlayws(*names, "new", cwd=workspace / "src").out == b"A\tsrc/new\n"
    assert overlayws(*names, ".", cwd=workspace / "src").out == b"M\tsrc/app.py\nA\tsrc/new\n"
    assert overlayws(*names, "../new", cwd=workspace / "src").out == b"A\tnew\n"
    assert overlayws(*names, "s", "src/", cwd=tmp_path).out == b"M\tsrc/app.py\nA\tsrc/new\n"
    assert overlayws(*names, workspace / "new", cwd=workspace / "src").out == b"A\tnew\n"
    overlayws("discard", "--yes", "new", cwd=workspace / "src")
    overlayws("apply", "--yes", "app.py", cwd=workspace / "src")
    assert (workspace / "src/app.py").read_text().endswith("x\n") and not (workspace / "new").exists()


def test_dry_run_and_digest_write_nothing_where_they_should_not(session: Program, workspace: Path) -> None:
    before = stamps(workspace)
    out = session("apply", "--dry-run").out
    assert b"README.md" in out and b"src/util.py" in out
    plan = json.loads(session("apply", "--dry-run", "--json").out)
    assert plan["applied"] is False and len(plan["steps"]) == len(out.splitlines())
    assert "not sha256:0" in session("apply", "--yes", "--digest", "sha256:" + "0" * 64, code=4).error
    assert stamps(workspace) == before
    digest = json.loads(session("status", "--json").out)["digest"]
    session("run", "calm-otter", "--", "sh", "-c", "echo more >> README.md")
    assert digest in session("apply", "--yes", "--digest", digest, code=4).error
    assert stamps(workspace) == before
    digest = json.loads(session("status", "--json").out)["digest"]
    session("apply", "--yes", "--digest", digest)
    assert (workspace / "README.md").read_text().endswith("more\n")


def test_what_asks_wants_an_answer_or_yes(session: Program, workspace: Path) -> None:
    before = stamps(workspace)
    for command in (["apply"], ["discard"], ["discard", "README.md"]):
        assert "--yes" in session(*command, code=2).err.splitlines()[-1]
    assert stamps(workspace) == before
    session("apply", "--yes")
    for command in (["undo"], ["gc"]):
        assert "--yes" in session(*command, code=2).err.splitlines()[-1]
    assert json.loads(session("status", "--json").out)["state"] == "applied"
    session("undo", "--yes")
    assert read_tree(workspace) != {} and not (workspace / "blob").exists()


def test_a_conflict_is_told_in_json_too(session: Program, workspace: Path) -> None:
    (workspace / "README.md").write_text("mine\ntwo\nmine\n")
    before = stamps(workspace)
    done = session("apply", "--yes", "--json", code=1)
    data = json.loads(done.out)
    assert data["applied"] is False and [c["path"] for c in data["conflicts"]] == ["README.md"]
    assert done.error and stamps(workspace) == before
    assert os.listdir(session.session("calm-otter") / "journal") == []
