"""What cannot be done is said in one line with a hint, with the contract's exit code, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PROGRAM, Program, in_namespace, only_root
from tests.trees import make_tree, stamps


def sessions(program: Program) -> list[str]:
    try:
        return sorted(os.listdir(program.home / "sessions"))
    except FileNotFoundError:
        return []


@pytest.mark.parametrize(
    "what", ["missing", "a file", "a loop", "empty", "root", "home", "holds the state", "is the state"]
)
def test_what_is_no_workspace_is_refused(overlayws: Program, tmp_path: Path, private_home: Path, what: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    place, env = {
        "missing": (tmp_path / "missing", {}),
        "a file": (tmp_path / "file", {}),
        "a loop": (tmp_path / "loop", {}),
        "empty": ("", {}),
        "root": ("/", {}),
        "home": (private_home, {}),
        "holds the state": (tmp_path, {"OVERLAYWS_HOME": str(tmp_path / "state")}),
        "is the state": (tmp_path, {"OVERLAYWS_HOME": str(tmp_path)}),
    }[what]
    assert overlayws("start", place, "--", "true", code=2, env=env).error
    assert sessions(overlayws) == [] and not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "no command 'frobnicate'"),
        (["start", "--frobnicate"], "No such option"),
        (["--frobnicate"], "No such option"),
        (["start", "--backend", "zfs", "--", "true"], "'zfs' is not one of"),
        (["start", "--sandbox", "zfs", "--", "true"], "'zfs' is not one of"),
        (["start", "--network", "some", "--", "true"], "'some' is not one of"),
        (["start", "--timeout", "0", "--", "true"], "--timeout"),
        (["start", "--timeout", "nan", "--", "true"], "--timeout"),
        (["start", "--timeout", "inf", "--", "true"], "--timeout"),
        (["start", "--timeout", "soon", "--", "true"], "--timeout"),
        (["start", "--name", "../x", "--", "true"], "'../x' cannot be a session name"),
        (["start", "--name", "A B", "--", "true"], "'A B' cannot be a session name"),
        (["start", "--name", "x" * 65, "--", "true"], "cannot be a session name"),
        (["start", "--env", "=x", "--", "true"], "--env '=x'"),
        (["start", "--env", "NOT_SET_ANYWHERE", "--", "true"], "NOT_SET_ANYWHERE"),
        (["start", "--tools", "", "--", "true"], "--tools ''"),
        (["start", "--tools", "/nonexistent", "--", "true"], "'/nonexistent' is no directory"),
        (["start", "--tools", "/proc", "--", "true"], "/proc"),
        (["start", "--ignore-file", "/nonexistent", "--", "true"], "/nonexistent"),
        (["start", "--hide", "[", "--", "true"], "--hide: syntax error"),
        (["start", "--no-run", "--", "true"], "--no-run"),
        (["start", ".", "pytest", "-x"], "No such option"),
        (["start", ".", "pytest"], "unexpected extra argument"),
        (["start", ".", "--", "-x"], "not a command"),
        (["start", ".", "--", ""], "not a command"),
        (["run", "--", "true"], "no session of a workspace"),
        (["run", "nosuch", "--", "true"], "no session named nosuch"),
        (["run", "nosuch"], "no command"),
        (["status", "nosuch"], "no session named nosuch"),
        (["diff", "nosuch"], "no session named nosuch"),
        (["diff", "-U", "x"], "'-U'"),
        (["apply", "nosuch", "--yes"], "no session named nosuch"),
        (["apply", "--on-conflict", "guess"], "'guess' is not one of"),
        (["discard", "nosuch", "--yes"], "no session named nosuch"),
        (["undo", "nosuch", "--yes"], "no session named nosuch"),
        (["status", "../../etc"], "cannot be a session name"),
        (["explain"], "Missing argument"),
        (["explain", "/etc/passwd", "--workspace", "."], "outside the workspace"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_usage_is_2_and_leaves_nothing(overlayws: Program, arguments: list[str], says: str) -> None:
    assert says in overlayws(*arguments, code=2).error
    assert sessions(overlayws) == []


def test_the_dashes_that_were_forgotten_are_what_the_hint_is_about(overlayws: Program) -> None:
    for words in (["start", ".", "pytest", "-x"], ["start", ".", "pytest"], ["run", "x", "pytest", "--co"]):
        assert "-- COMMAND" in overlayws(*words, code=2).err


def test_a_near_miss_of_a_command_is_guessed(overlayws: Program) -> None:
    assert overlayws("aply", code=2).err.endswith("hint: overlayws apply\n")


def test_a_path_outside_or_without_changes_is_said(overlayws: Program, workspace: Path) -> None:
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo x >> README.md")
    before = stamps(workspace)
    for verb in (["diff"], ["apply", "--yes"], ["discard", "--yes"]):
        assert "outside the workspace" in overlayws(*verb, "s", "../other", code=2).error
        assert "outside the workspace" in overlayws(*verb, "s", "/etc/passwd", code=2).error
        assert "nothing changed at 'src'" in overlayws(*verb, "s", "src", code=2).error
        done = overlayws(*verb, "calm-oter", code=2)  # a session's name, mistyped
        assert "nothing changed at 'calm-oter'" in done.error and "no session has that name" in done.err
        assert "an empty path" in overlayws(*verb, "s", "", code=2).error
    assert stamps(workspace) == before


def test_a_name_is_taken_once(overlayws: Program) -> None:
    overlayws("start", "--name", "s", "--no-run")
    assert "a session named s exists" in overlayws("start", "--name", "s", "--", "true", code=2).error
    assert sessions(overlayws) == ["s"]


@pytest.mark.parametrize("line", ["a[", "!", "src/[z-a]"])
def test_an_ignore_file_that_is_wrong_names_file_and_line(overlayws: Program, workspace: Path, line: str) -> None:
    (workspace / ".overlaywsignore").write_text(f"# fine\n*.log\n{line}\n")
    assert ".overlaywsignore:3" in overlayws("start", "--", "true", code=2).error
    assert ".overlaywsignore:3" in overlayws("explain", "README.md", code=2).error
    assert sessions(overlayws) == []


def test_a_state_directory_that_cannot_be_written_is_said(overlayws: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = {"OVERLAYWS_HOME": str(tmp_path / "file/state")}
    assert "cannot use the state directory" in overlayws("start", "--", "true", code=125, env=env).error
    assert "cannot use the state directory" in overlayws("start", "--no-run", code=3, env=env).error
    assert "state" in overlayws("list", code=3, env=env).error
    assert "state" in overlayws("run", "x", "--", "true", code=125, env=env).error
    told = overlayws("doctor", code=3, env=env)
    assert b"cannot use the state directory" in told.out


@pytest.mark.skipif(only_root(), reason="root writes anywhere")
def test_a_state_directory_of_somebody_else_is_said(overlayws: Program, tmp_path: Path) -> None:
    make_tree(tmp_path / "ro", {"state": "", "x": ""})
    (tmp_path / "ro").chmod(0o500)
    env = {"OVERLAYWS_HOME": str(tmp_path / "ro/home")}
    assert "Permission denied" in overlayws("start", "--", "true", code=125, env=env).error


def test_a_state_directory_with_other_things_in_it_is_not_taken_over(overlayws: Program, tmp_path: Path) -> None:
    place = make_tree(tmp_path / "shared", {"of-somebody": "x"})
    place.chmod(0o777)
    env = {"OVERLAYWS_HOME": str(place)}
    assert "holds other files" in overlayws("start", "--", "true", code=125, env=env).error
    assert place.stat().st_mode & 0o777 == 0o777 and os.listdir(place) == ["of-somebody"]


@pytest.mark.skipif(only_root(), reason="root reads everything")
def test_unreadable_files_are_all_named(overlayws: Program, workspace: Path) -> None:
    make_tree(workspace, {"a/secretive": "x", "b/closed/c": "y"})
    (workspace / "a/secretive").chmod(0)
    (workspace / "b/closed").chmod(0)
    try:
        done = overlayws("start", "--", "true", code=125)
        assert "b/closed" in done.error and "--hide" in done.err
        (workspace / "b/closed").chmod(0o755)
        assert "'a/secretive'" in overlayws("start", "--", "true", code=125).error
        assert sessions(overlayws) == []
        overlayws("start", "--hide", "a/secretive", "--", "true")
    finally:
        (workspace / "b/closed").chmod(0o755)


def test_without_git_it_says_so(overlayws: Program, workspace: Path, tmp_path: Path) -> None:
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo x >> README.md")
    (workspace / ".git").mkdir()
    no_git = in_namespace(
        """cd "$TMP" && mkdir -p orig bin && mount --bind /usr/bin orig
        ln -sf "$TMP"/orig/* bin; rm bin/git && mount --bind bin /usr/bin""",
        tmp_path,
    )
    assert "git is not installed" in overlayws("diff", code=3, enter=no_git).error
    start = ["start", "--sandbox", "none", "--name", "t"]  # bwrap would not see what the links in bin point to
    assert "git is not installed" in overlayws(*start, "--", "true", code=125, enter=no_git).error
    assert sessions(overlayws) == ["s"]
    assert b"not installed" in overlayws("doctor", code=None, enter=no_git).out
    overlayws(*start, "--git", "none", "--", "true", enter=no_git)
    overlayws("apply", "s", "--yes", enter=no_git)  # needs none


def test_without_a_usable_bubblewrap_nothing_is_run(overlayws: Program, workspace: Path, tmp_path: Path) -> None:
    """With no user namespaces left, no bwrap works: `auto` must stop, not do without."""
    overlayws("start", "--name", "s", "--no-run")
    none = in_namespace("echo 0 > /proc/sys/user/max_user_namespaces", tmp_path, own_users=True)
    proof = tmp_path / "ran"
    for words in (["start", "--name", "t"], ["run", "s"]):
        assert overlayws(*words, "--", "touch", proof, code=125, enter=none).error
    assert not proof.exists() and sessions(overlayws) == ["s"]
    assert json.loads(overlayws("status", "s", "--json").out)["state"] == "new"


@pytest.mark.parametrize(
    "name", ["a b", "new\nline", "col:on", "com,ma", "back\\slash", 'qu"ote', "n\udcff\udcfe", "-dash", "é"]
)
def test_a_workspace_of_any_name_works(overlayws: Program, tmp_path: Path, name: str) -> None:
    place = make_tree(tmp_path / name, {"f": "1\n", ".env": "hidden"})
    done = overlayws("start", "--name", "s", "--", "sh", "-c", "echo 2 >> f; pwd; test ! -e .env", cwd=place)
    assert done.out == os.fsencode(place) + b"\n"
    assert b"+2" in overlayws("diff", cwd=place).out
    for command in ("list", "status"):
        told = overlayws(command, cwd=place).out
        assert b"\xff" not in told and len(told.splitlines()) == len(told.split(b"\n")) - 1
        json.loads(overlayws(command, "--json", cwd=place).out.decode("utf-8"))
    overlayws("apply", "--yes", cwd=place)
    assert (place / "f").read_text() == "1\n2\n"
    overlayws("undo", "--yes", cwd=place)
    assert (place / "f").read_text() == "1\n"


def test_a_symlink_to_the_workspace_is_the_workspace(overlayws: Program, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("ws")
    overlayws("start", tmp_path / "link", "--name", "s", "--", "sh", "-c", "echo x >> README.md; echo y > src/new")
    assert overlayws("diff", "--name-status", tmp_path / "link/src").out == b"A\tsrc/new\n"
    assert json.loads(overlayws("status", "--json", cwd=tmp_path / "link/src").out)["workspace"] == str(workspace)


def test_a_current_directory_that_is_gone_is_said(overlayws: Program, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    words = ["sh", "-c", 'rmdir ../gone; exec "$@"', "sh"]
    for command in (["status"], ["diff"], ["start", "--", "true"], ["explain", "x"]):
        (tmp_path / "gone").mkdir(exist_ok=True)
        done = subprocess.run([*words, *PROGRAM, *command], cwd=tmp_path / "gone", capture_output=True, check=False)
        assert done.returncode == 2 and b"error: " in done.stderr and b"hint: " in done.stderr, done.stderr
        assert b"Traceback" not in done.stderr
