"""A locale without UTF-8: rules and names of files mean the same as in any other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from overlayws.errors import UnableError
from overlayws.session import places
from overlayws.session.store import Store
from tests.cli.conftest import Program
from tests.trees import make_tree

# Python takes both of these for a wish to have UTF-8 unless it is told not to (PEP 538, PEP 540); ISO-8859-1, whose
# locale hardly any machine has any more, it takes at its word.
ASCII = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
TREE = {".overlaywsignore": "café/\n", "café/list": "planted value\n", "thé/a": "1\n", "thé/b": "2\n"}


@pytest.fixture
def tea(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tea", TREE)


@pytest.mark.bwrap
def test_what_a_rule_hides_by_a_name_beyond_ascii_is_not_shown(overlayws: Program, tea: Path) -> None:
    done = overlayws("start", "--name", "s", "--", "sh", "-c", "ls -R; cat */list; true", cwd=tea, env=ASCII)
    assert b"list" not in done.out and b"planted" not in done.out
    told = json.loads(overlayws("explain", "--json", "café", cwd=tea, env=ASCII).out)["paths"][0]
    assert (told["path"], told["verdict"]) == ("café", "hidden")


@pytest.mark.bwrap
def test_a_change_below_a_name_beyond_ascii_is_found_and_applied(overlayws: Program, tea: Path) -> None:
    overlayws("start", "--name", "s", "--", "rm", "thé/a", cwd=tea, env=ASCII)
    changes = json.loads(overlayws("diff", "s", "--json", cwd=tea, env=ASCII).out)["changes"]
    assert [(change["path"], change["status"]) for change in changes] == [("thé/a", "deleted")]
    overlayws("apply", "s", "--yes", cwd=tea, env=ASCII)
    assert os.listdir(tea / "thé") == ["b"]


def test_the_arguments_are_the_ones_that_were_given(overlayws: Program, tea: Path) -> None:
    name = b"caf\xe9 \xc3\xa9\n"
    told = json.loads(overlayws("explain", "--json", "--", name, cwd=tea, env=ASCII).out)["paths"][0]
    plain = json.loads(overlayws("explain", "--json", "--", name, cwd=tea).out)["paths"][0]
    assert told == plain and "path_b64" in told


def test_where_python_cannot_be_asked_for_utf_8_nothing_is_done(tea: Path, tmp_path: Path) -> None:
    program = "import sys; sys.orig_argv[1:1] = ['-X', 'utf8']; from overlayws.cli.main import main; main()"
    env = {**os.environ, **ASCII, "OVERLAYWS_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", program, "list"], cwd=tea, env=env, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 3
    said = done.stderr.decode().splitlines()
    assert said[0].startswith("error: names of files are taken for ascii") and said[1].startswith("hint: "), said
    assert not (tmp_path / "home").exists()


def test_a_library_without_utf_8_has_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places.sys, "getfilesystemencoding", lambda: "iso8859-1")  # type: ignore[attr-defined]
    with pytest.raises(UnableError, match="iso8859-1") as refusal:
        Store(tmp_path / "home")
    assert "PYTHONUTF8=1" in refusal.value.hint
