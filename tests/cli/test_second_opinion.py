"""The user's own settings about secrets, and gitleaks beside our rules."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from overlayws.base.gitleaks import find_program
from overlayws.errors import UnableError
from tests.cli.conftest import Program
from tests.filter.planted import BASE62, Fakes
from tests.trees import make_tree

FAKES = Fakes(99)
TOKEN = "ghp_" + FAKES.draw(BASE62, 36)
ADOBE = "p8e-" + FAKES.draw(BASE62, 32)  # a form that our rules do not know
FAKE = r"""#!/bin/sh
echo "$0 $* cwd=$PWD env=$(env | cut -d= -f1 | tr '\n' ' ')" > LOG
[ -z "FAIL" ] || exit 1
printf '[{"File": "lower/odd.txt", "StartLine": 2, "RuleID": "adobe", "Match": "x"},
 {"File": "./lower/.git/config", "StartLine": 1, "RuleID": "x"},
 {"File": "manifest.db", "StartLine": 1, "RuleID": "x"}]'
"""


def settings(home: Path, text: str) -> None:
    make_tree(home / ".config/overlayws", {"config.toml": text})


def fake(tmp_path: Path, *, fail: str = "") -> dict[str, str]:
    """A gitleaks that finds one thing; the environment to find it in."""
    program = make_tree(
        tmp_path / "bin", {"gitleaks": FAKE.replace("LOG", str(tmp_path / "log")).replace("FAIL", fail)}
    )
    (program / "gitleaks").chmod(stat.S_IRWXU)
    return {"PATH": f"{program}:{os.environ['PATH']}"}


def test_an_action_of_the_users_holds(overlayws: Program, workspace: Path, private_home: Path) -> None:
    make_tree(workspace, {"a.py": f'X = "{TOKEN}"\n', ".env": "KEY=planted-value-7141\n# note\n"})
    show = ("--", "cat", "a.py", ".env")
    assert TOKEN not in overlayws("start", *show, code=None).out.decode()
    settings(private_home, "[secrets]\nenv = true\n[secrets.actions]\ngithub-token = 'warn'\n")
    out = overlayws("start", *show).out.decode()
    assert TOKEN in out and "KEY=overlayws-redacted-" in out and "planted-value" not in out
    live = overlayws("start", "--base", "live", "--scan", *show).out.decode()
    assert TOKEN in live and "KEY=overlayws-redacted-" in live and "planted-value" not in live
    assert "redacted" in overlayws("explain", ".env").out.decode()
    settings(private_home, "[secrets.actions]\ngithub-token = 'block'\n")
    assert "a.py" in overlayws("start", "--no-run", code=1).error
    assert "a.py" in overlayws("start", "--", "true", code=125).error
    settings(private_home, "[secrets.actions]\ngithub-token = 'nothing'\n")
    assert "config.toml" in overlayws("start", "--no-run", code=2).error
    settings(private_home, "[secrts]\nenv = true\n")
    refused = overlayws("start", "--", "true", code=2)
    assert refused.error.endswith("config.toml: unknown table [secrts]") and "did you mean secrets?" in refused.err


def test_the_workspace_has_no_say(overlayws: Program, workspace: Path) -> None:
    text = "[secrets]\nenv = true\n[secrets.actions]\ngithub-token = 'show'\n"
    make_tree(workspace, {"a.py": f'X = "{TOKEN}"\n', "config.toml": text, "overlayws.toml": text})
    assert TOKEN not in overlayws("start", "--", "cat", "a.py").out.decode()


def test_what_gitleaks_finds_is_told_without_values(
    overlayws: Program, workspace: Path, private_home: Path, tmp_path: Path
) -> None:
    make_tree(workspace, {"odd.txt": f"x\n{ADOBE}\n"})
    env = {**fake(tmp_path), "SECRET_VARIABLE": "x"}
    done = overlayws("start", "--name", "s", "--gitleaks", "--no-run", env=env)
    assert "gitleaks finds what is shown: 'odd.txt' line 2 (adobe)" in done.err and "line 1" not in done.err
    log = (tmp_path / "log").read_text()
    assert "--redact=100" in log and "--ignore-gitleaks-allow" in log and "SECRET_VARIABLE" not in log
    assert f"cwd={overlayws.home}/bases/" in log
    settings(private_home, "[secrets]\ngitleaks = 'block'\n")
    assert "gitleaks: adobe" in overlayws("start", "--no-run", env=env, code=1).error
    assert [s["name"] for s in json.loads(overlayws("list", "--json").out)["sessions"]] == ["s"]


def test_a_gitleaks_that_fails_or_is_missing_is_an_error(overlayws: Program, tmp_path: Path) -> None:
    assert "exit status 1" in overlayws("start", "--gitleaks", "--no-run", env=fake(tmp_path, fail="x"), code=3).error
    assert "--base copy" in overlayws("start", "--gitleaks", "--base", "live", "--no-run", code=2).error


def test_none_of_the_workspaces_is_executed(workspace: Path, tmp_path: Path) -> None:
    make_tree(workspace, {"bin/gitleaks": "#!/bin/sh\n"})
    (workspace / "bin/gitleaks").chmod(0o755)
    (tmp_path / "link").symlink_to(workspace / "bin")
    for path in (f"{workspace}/bin", f"{tmp_path}/link", "bin", "", "."):
        with pytest.raises(UnableError, match="not installed"):
            find_program(path, workspace)


def test_the_real_one_agrees_and_is_not_steered_by_the_workspace(overlayws: Program, workspace: Path) -> None:
    if shutil.which("gitleaks") is None:
        pytest.skip("gitleaks is not installed")
    known = "glpat-" + FAKES.draw(BASE62, 20)
    make_tree(
        workspace,
        {
            "odd.txt": f"x\nadobe_client = \"{ADOBE}\"  # gitleaks:allow\n", "known.py": f'T = "{known}"\n',
            ".gitleaks.toml": "[allowlist]\npaths = ['.*']\n",
            ".gitleaksignore": "odd.txt:adobe-client-secret:2\nlower/odd.txt:adobe-client-secret:2\n",
        },
    )  # fmt: skip
    done = overlayws("start", "--gitleaks", "--git", "fresh", "--no-run")
    assert "'odd.txt' line 2 (adobe-client-secret)" in done.err and ADOBE not in done.err
    told = next(line for line in done.err.splitlines() if "gitleaks finds" in line)
    assert "known.py" not in told, "what our rules replaced is not there to be found"
