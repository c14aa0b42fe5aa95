"""Names that a file system folds into one."""

from __future__ import annotations

import ctypes
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from overlayws.apply.refuse import fold
from tests.apply.build import make_case, reasons
from tests.trees import make_tree


def test_twins_are_refused_where_names_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(tmp_path, {}, {"Makefile": "1", "makefile": "2", "caf\u00e9": "3", "cafe\u0301": "4", "x": "x"})
    assert not reasons(case.plan())
    monkeypatch.setattr("overlayws.apply.look.Look.folds", lambda self, path: True)
    assert reasons(case.plan()) == dict.fromkeys(["Makefile", "makefile", "caf\u00e9", "cafe\u0301"], "twins")


def test_a_name_that_is_found_but_not_listed_is_a_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(tmp_path, {}, {"Makefile": "1"})
    make_tree(case.workspace, {"Makefile": "1"})
    monkeypatch.setattr("overlayws.apply.look.Look.has_name", lambda self, path: False)
    assert reasons(case.plan(on_conflict="theirs")) == {"Makefile": "twins"}


def test_a_directory_that_is_found_but_not_listed_is_a_twin_for_what_is_added_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(tmp_path, {"Src/a": "1"}, {"Src/a": "1", "Src/deep/b": "2"})
    real = os.listdir
    monkeypatch.setattr("overlayws.apply.look.Look.folds", lambda self, path: True)
    assert not reasons(case.plan())
    monkeypatch.setattr(os, "listdir", lambda fd: [name.replace("Src", "src") for name in real(fd)])
    only = [c for c in case.changes if c.path == "Src/deep/b"]
    assert reasons(case.plan(only, on_conflict="theirs")) == {"Src/deep/b": "twins"}


def test_what_folds_to_the_same() -> None:
    assert fold("Stra\u00dfe") == fold("STRASSE")
    assert fold("caf\u00e9") == fold("CAFE\u0301")
    assert fold("a") != fold("b")


@pytest.mark.root
def test_twins_are_refused_on_a_folding_file_system(tmp_path: Path) -> None:
    """On a real tmpfs with casefold (Linux 6.13+), in a child with a mount namespace of its own."""
    if _in_namespace(tmp_path, lambda mount: None) != 0:
        pytest.skip("this kernel has no folding tmpfs")

    def work(mount: Path) -> None:
        case = make_case(mount, {}, {})
        outside = make_tree(tmp_path / "theirs", {"Makefile": "1", "makefile": "2", "sub/Readme": "3"})
        case = replace(case, theirs=outside)
        from tests.apply.build import differences

        changes = differences(case.base, outside)
        assert reasons(case.plan(changes)) == {"Makefile": "twins", "makefile": "twins"}
        (case.workspace / "MAKEFILE").write_text("mine")
        only = [c for c in changes if c.path == "Makefile"]
        assert reasons(case.plan(only)) == {"Makefile": "twins"}

    assert _in_namespace(tmp_path, work) == 0


def _in_namespace(tmp_path: Path, work) -> int:  # type: ignore[no-untyped-def]
    mount = tmp_path / "folding"
    mount.mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert ctypes.CDLL(None, use_errno=True).unshare(0x00020000) == 0  # CLONE_NEWNS
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", "casefold", "x", mount], capture_output=True)
            code = 77
            if done.returncode == 0 and subprocess.run(["chattr", "+F", mount], capture_output=True).returncode == 0:
                code = 1
                work(mount)
                code = 0
        finally:
            if code == 1:
                import traceback

                traceback.print_exc()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
