"""``--base live``: the workspace itself below a mask. What holds for a frozen base holds here, or it is said."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.cli.live import ANY, AUTO, LIVE
from tests.cli.test_promises import PLANTED, repository, times
from tests.trees import Special, Symlink, make_tree, stamps

pytestmark = pytest.mark.bwrap


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


@pytest.mark.root
@pytest.mark.gvisor
def test_root_cannot_show_it_to_a_container_and_hears_so_before_there_is_a_session(
    overlayws: Program, workspace: Path
) -> None:
    env = {"DOCKER_HOST": "unix:///nonexistent"}
    done = overlayws("start", *ANY, "--sandbox", "gvisor", "--no-run", code=3, env=env)
    assert "cannot be shown to a container" in done.error and overlayws("list").out == b""
    assert overlayws("start", *ANY, "--sandbox", "gvisor", "--", "true", code=125, env=env).error == done.error


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
