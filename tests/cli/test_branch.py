"""``apply --branch`` and ``apply --commit``: commits in the user's repository, and nothing run for the program."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.trees import Symlink, make_tree, read_tree, stamps

IDENTITY = {"GIT_AUTHOR_NAME": "U", "GIT_AUTHOR_EMAIL": "u@x", "GIT_COMMITTER_NAME": "U", "GIT_COMMITTER_EMAIL": "u@x"}


def git(where: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=where, env={**os.environ, **IDENTITY}, capture_output=True, check=True
    )
    return done.stdout.decode("utf-8", "surrogateescape")


@pytest.fixture
def repository(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace, with one commit of everything but the secret, and hooks that would leave a mark."""
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    make_tree(workspace, {".gitignore": ".env\n*.log\nbuild/\n", "link": Symlink("README.md")})
    git(workspace, "init", "-q", "-b", "main")
    git(workspace, "add", "-A")
    git(workspace, "commit", "-q", "-m", "one")
    for hook in (
        "pre-commit",
        "commit-msg",
        "post-commit",
        "reference-transaction",
        "post-index-change",
        "post-checkout",
    ):
        where = workspace / ".git/hooks" / hook
        where.write_text(f"#!/bin/sh\ntouch {workspace.parent}/hook-{hook}\n")
        where.chmod(0o755)
    return workspace


def changed(program: Program, script: str, name: str = "s") -> None:
    program("start", "--name", name, "--backend", "copy", "--sandbox", "none", "--", "sh", "-euc", script)


def hooked(workspace: Path) -> list[str]:
    return [path.name for path in workspace.parent.glob("hook-*")]


EDITS = """
sed -i s/two/TWO/ README.md; chmod +x src/app.py; rm -r src/deep; echo n > new; rm link; ln -s src link
echo noise > x.log; mkdir build; echo o > build/o
"""


def test_a_branch_gets_the_changes_and_nothing_else_is_touched(repository: Path, overlayws: Program) -> None:
    changed(overlayws, EDITS)
    make_tree(repository, {"docs/guide.txt": "my own edit\n", "untracked": "u\n"})
    git(repository, "add", "docs/guide.txt")
    for mark in hooked(repository):  # of our own git add
        (repository.parent / mark).unlink()
    before = stamps(repository)
    done = overlayws("apply", "s", "--branch", "agent/x", "-m", "A message", "--yes")
    after = stamps(repository)
    allowed = {f"{repository}/.git/{p}" for p in ("refs/heads", "objects", "logs/refs/heads")}
    touched = {p.removesuffix("/.") for p in before if before[p] != after.get(p)}
    assert not {p for p in touched - allowed if "/.git/objects/" not in p}
    assert "1 commit on branch agent/x" in done.err and "x.log: left out, git ignores it" in done.err
    told = git(repository, "diff", "--raw", "--abbrev=4", "main", "agent/x").splitlines()
    assert [line.split(" ", 4)[4].split("\t") for line in told] == [
        ["M", "README.md"], ["M", "link"], ["A", "new"], ["M", "src/app.py"], ["D", "src/deep/util.py"],
    ]  # fmt: skip
    assert git(repository, "log", "-1", "--format=%an %s", "agent/x") == "U A message\n"
    assert git(repository, "show", "agent/x:README.md") == "one\nTWO\nthree\n"
    assert git(repository, "ls-tree", "agent/x", "src/app.py").startswith("100755")
    assert hooked(repository) == []
    git(repository, "fsck", "--strict")
    assert "captured" in overlayws("status", "s").out.decode()


def test_a_commit_on_the_current_branch_is_applied_too(repository: Path, overlayws: Program) -> None:
    changed(overlayws, EDITS)
    make_tree(repository, {"docs/guide.txt": "my own edit\n", "README.md": "one\ntwo\nthree\nmine\n"})
    done = overlayws("apply", "s", "--commit", "-m", "B", "--yes")
    assert "1 commit on branch main" in done.err and "applied session s" in done.err
    assert hooked(repository) == []
    assert git(repository, "log", "--format=%s") == "B\none\n"
    assert (repository / "README.md").read_text() == "one\nTWO\nthree\nmine\n"
    assert git(repository, "show", "HEAD:README.md") == "one\nTWO\nthree\n"
    # What is left is the user's own, as it was.
    assert git(repository, "status", "--porcelain") == " M README.md\n M docs/guide.txt\n"
    again = overlayws("apply", "s", "--commit", "-m", "B", "--yes")
    assert "nothing to commit" in again.err
    overlayws("undo", "s", "--yes")
    assert (repository / "src/deep/util.py").exists()


def test_staged_changes_of_the_same_files_are_in_the_way(repository: Path, overlayws: Program) -> None:
    changed(overlayws, "echo four >> README.md")
    make_tree(repository, {"README.md": "zero\none\ntwo\nthree\n"})
    git(repository, "add", "README.md")
    before = stamps(repository)
    done = overlayws("apply", "s", "--commit", "-m", "B", "--yes", code=2)
    assert "'README.md' is staged" in done.error
    assert {p: s for p, s in stamps(repository).items() if "/.git/" not in p or "index" in p} == {
        p: s for p, s in before.items() if "/.git/" not in p or "index" in p
    }
    overlayws("apply", "s", "--branch", "b", "--yes")
    assert git(repository, "show", "b:README.md") == "one\ntwo\nthree\nfour\n"


def test_head_with_other_contents_is_a_conflict(repository: Path, overlayws: Program) -> None:
    make_tree(repository, {"README.md": "one\nWIP\nthree\n", "wip": "not committed\n"})
    changed(overlayws, "sed -i s/WIP/done/ README.md; echo more >> wip")
    done = overlayws("apply", "s", "--branch", "b", "--yes", code=1)
    assert "README.md: edited in HEAD too" in done.err and "wip: deleted in HEAD" in done.err
    assert "b" not in git(repository, "branch")
    done = overlayws("apply", "s", "--branch", "b", "--yes", "--on-conflict", "theirs")
    assert git(repository, "show", "b:README.md") == "one\ndone\nthree\n"


def test_the_changes_attributes_choose_no_filter(repository: Path, overlayws: Program) -> None:
    mark = repository.parent / "filtered"
    git(repository, "config", "filter.own.clean", f"sh -c 'touch {mark}; cat'")
    git(repository, "config", "filter.own.smudge", "cat")
    changed(overlayws, "echo '* filter=own' > .gitattributes; echo '* filter=own' > src/.gitattributes; echo n > src/n")
    overlayws("apply", "s", "--branch", "b", "--yes")
    assert not mark.exists()
    assert git(repository, "show", "b:.gitattributes") == "* filter=own\n"
    # What HEAD asks for is done: it is the user's.
    make_tree(repository, {".gitattributes": "*.txt filter=own\n"})
    git(repository, "add", ".gitattributes")
    git(repository, "commit", "-q", "--no-verify", "-m", "two")
    changed(overlayws, "echo n > n.txt", "t")
    mark.unlink(missing_ok=True)
    overlayws("apply", "t", "--branch", "c", "--yes")
    assert mark.exists()


@pytest.mark.parametrize(
    "content",
    ['[submodule "x"]\n path = x\n url = -upayload\n', '[submodule "../../x"]\n path = x\n url = https://x.example/\n'],
)
def test_what_fsck_refuses_does_not_come_in(repository: Path, overlayws: Program, content: str) -> None:
    (repository.parent / "given").write_text(content)
    changed(overlayws, f"cp {repository.parent}/given .gitmodules")
    objects = read_tree(repository / ".git/objects")
    done = overlayws("apply", "s", "--branch", "b", "--yes", code=1)
    assert "gitmodules" in done.error
    assert read_tree(repository / ".git/objects") == objects
    assert git(repository, "branch") == "* main\n"


def test_hostile_names_are_names(repository: Path, overlayws: Program) -> None:
    changed(overlayws, """
printf a > ':(glob)*'; printf a > ':!x'; printf a > -- ; printf a > --help; mkdir 'a
b'; printf a > 'a
b/c"'; printf a > "$(printf '\\377')"; printf a > '"q"'
""".replace("printf a > -- ;", "printf a > ./-- ;").replace("> --help", "> ./--help"))  # fmt: skip
    overlayws("apply", "s", "--branch", "b", "--yes")
    listed = git(repository, "diff", "--name-only", "-z", "main", "b").split("\0")[:-1]
    assert sorted(listed) == sorted([":(glob)*", ":!x", "--", "--help", 'a\nb/c"', "\udcff", '"q"'])


def test_git_names_and_escaping_links_are_refused_there_too(repository: Path, overlayws: Program) -> None:
    changed(overlayws, "mkdir -p q/.GIT; echo x > q/.GIT/config; ln -s /etc/passwd out; echo n > n")
    done = overlayws("apply", "s", "--branch", "b", "--yes", code=1)
    assert "[git]" in done.err and "[symlink-outside]" in done.err
    overlayws("apply", "s", "--branch", "b", "--yes", "--skip-refused")
    assert git(repository, "diff", "--name-only", "main", "b") == "n\n"


def test_a_secret_in_a_redacted_file_is_kept_and_a_hidden_file_never_committed(
    repository: Path, overlayws: Program
) -> None:
    token = "ghp_" + "".join("aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xYzA1b"[i % 36] for i in range(36))
    make_tree(repository, {"conf.py": f"A = 1\nTOKEN = '{token}'\nB = 2\n"})
    git(repository, "add", "conf.py")
    git(repository, "commit", "-q", "--no-verify", "-m", "two")
    changed(overlayws, f"! grep -q {token} conf.py; sed -i 's/B = 2/B = 3/' conf.py; echo mine > .env")
    overlayws("apply", "s", "conf.py", "--branch", "b", "--yes")
    assert git(repository, "show", "b:conf.py") == f"A = 1\nTOKEN = '{token}'\nB = 3\n"
    done = overlayws("apply", "s", "--branch", "c", "--yes", code=1)
    assert "[hidden-original]" in done.err


def test_a_workspace_below_the_top_and_a_caller_with_git_variables(repository: Path, overlayws: Program) -> None:
    below = repository / "src"
    program = Program(below, overlayws.home)
    changed(program, "echo 'y = 2' >> deep/util.py; echo n > n")
    elsewhere = make_tree(repository.parent / "elsewhere", {"f": "x"})
    git(elsewhere, "init", "-q")
    env: dict[str, str | None] = {"GIT_DIR": str(elsewhere / ".git"), "GIT_WORK_TREE": str(elsewhere)}
    program("apply", "s", "--branch", "b", "--yes", env=env)
    assert git(repository, "diff", "--name-only", "main", "b") == "src/deep/util.py\nsrc/n\n"
    assert git(elsewhere, "branch") == ""


@pytest.mark.parametrize("name", ["main", "-d", "a..b", "a b", "x.lock", "", "@{-1}", "HEAD"])
def test_a_name_that_is_no_new_branch_is_a_usage_error(repository: Path, overlayws: Program, name: str) -> None:
    changed(overlayws, "echo n > n")
    refs = git(repository, "for-each-ref")
    overlayws("apply", "s", f"--branch={name}", "--yes", code=2).error  # noqa: B018
    assert git(repository, "for-each-ref") == refs


def test_no_repository_no_message_no_branch_are_told(workspace: Path, overlayws: Program) -> None:
    changed(overlayws, "echo n > n")
    assert "in no git repository" in overlayws("apply", "s", "--branch", "b", "--yes", code=2).error
    assert "needs a message" in overlayws("apply", "s", "--commit", "--yes", code=2).error
    assert "nothing to commit" in overlayws("apply", "s", "-m", "x", "--yes", code=2).error
    git(workspace, "init", "-q", "-b", "main")
    overlayws("apply", "s", "new", "--branch", "b", "--yes", code=2)
    overlayws("apply", "s", "n", "--branch", "b", "--yes", env=IDENTITY)
    assert git(workspace, "log", "--stat", "--format=%s", "b").split() [:1] == ["Changes"]  # fmt: skip
    overlayws("apply", "s", "--branch", "main", "--commit", "-m", "x", "--yes", env=IDENTITY)


def test_who_commits_must_be_known_and_signatures_are_made(
    repository: Path, overlayws: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(overlayws, "echo n > n")
    nobody = dict.fromkeys(IDENTITY) | {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.useConfigOnly"}
    done = overlayws("apply", "s", "--branch", "b", "--yes", code=2, env={**nobody, "GIT_CONFIG_VALUE_0": "true"})
    assert "who commits" in done.error
    signer = repository.parent / "signer"
    signer.write_text(
        "#!/bin/sh\ncat > /dev/null\necho '[GNUPG:] SIG_CREATED ' >&2\n"
        "echo '-----BEGIN PGP SIGNATURE-----'\necho x\necho '-----END PGP SIGNATURE-----'\n"
    )
    signer.chmod(0o755)
    git(repository, "config", "gpg.program", str(signer))
    git(repository, "config", "commit.gpgsign", "true")
    overlayws("apply", "s", "--branch", "b", "--yes")
    assert "gpgsig" in git(repository, "cat-file", "commit", "b")
    signer.write_text("#!/bin/sh\nexit 1\n")
    overlayws("apply", "s", "--branch", "c", "--yes", code=1).error  # noqa: B018
    assert "c" not in git(repository, "branch").split()


@pytest.mark.root
def test_a_repository_of_another_owner_is_not_trusted(repository: Path, overlayws: Program) -> None:
    changed(overlayws, "echo n > n")
    for directory, names, files in os.walk(repository):
        for name in [*names, *files, "."]:
            os.chown(os.path.join(directory, name), 65534, 65534, follow_symlinks=False)
    done = overlayws("apply", "s", "--branch", "b", "--yes", code=3, env={"SUDO_UID": None})
    assert "does not trust" in done.error


def test_a_dry_run_and_an_old_digest_write_nothing(repository: Path, overlayws: Program) -> None:
    changed(overlayws, EDITS)
    before = stamps(repository)
    done = overlayws("apply", "s", "--branch", "b", "--dry-run")
    assert b"write README.md" in done.out
    overlayws("apply", "s", "--branch", "b", "--digest", "sha256:" + "0" * 64, "--yes", code=4)
    assert stamps(repository) == before


# The program's own commits.

COMMITS = r"""
export GIT_AUTHOR_NAME="Agent$(printf '\033')[2J" GIT_AUTHOR_EMAIL=agent@x
sed -i s/one/ONE/ README.md; GIT_AUTHOR_DATE="2020-01-02T03:04:05 +0200" git commit -qam "First
$(printf 'hidden \033[8mwords')"
rm -r src/deep; mkdir docs/guide; git mv docs/guide.txt docs/guide/in.txt; echo n > new
git add -A; git commit -qm Second
echo left > uncommitted
"""


def test_the_programs_commits_are_put_on_head_with_their_authors(repository: Path, overlayws: Program) -> None:
    changed(overlayws, COMMITS)
    make_tree(repository, {"README.md": "one\ntwo\nthree\nfour\n", "mine": "m\n"})
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "--no-verify", "-m", "two")
    for mark in hooked(repository):
        (repository.parent / mark).unlink()
    before = git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD")
    for mark in hooked(repository):
        (repository.parent / mark).unlink()
    done = overlayws("apply", "s", "--branch", "agent", "--yes")
    assert "2 commits on branch agent" in done.err and "1 changed path are not" in done.err
    assert hooked(repository) == []
    log = git(repository, "log", "--format=%an|%ae|%aI|%cn|%s", "main..agent").splitlines()
    assert [line.split("|")[3:] for line in log] == [["U", "Second"], ["U", "First hidden <U+001B>[8mwords"]]
    assert log[1].startswith("AgentU+001B[2J|agent@x|2020-01-02T03:04:05+02:00")
    assert git(repository, "show", "agent:README.md") == "ONE\ntwo\nthree\nfour\n"
    assert git(repository, "diff", "--name-status", "--no-renames", "main", "agent").split() == [
        "M", "README.md", "D", "docs/guide.txt", "A", "docs/guide/in.txt", "A", "new", "D", "src/deep/util.py",
    ]  # fmt: skip
    assert (git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD")) == before
    git(repository, "fsck", "--strict")
    # One commit of everything, where that is asked for.
    overlayws("apply", "s", "--branch", "one", "--commit", "--yes")
    assert git(repository, "rev-list", "--count", "main..one") == "1\n"
    assert git(repository, "show", "one:uncommitted") == "left\n"


def test_a_commit_of_the_programs_that_does_not_fit_leaves_no_branch(repository: Path, overlayws: Program) -> None:
    changed(overlayws, COMMITS)
    make_tree(repository, {"README.md": "other\n"})
    git(repository, "commit", "-q", "--no-verify", "-am", "two")
    objects = read_tree(repository / ".git/objects")
    done = overlayws("apply", "s", "--branch", "agent", "--yes", code=1)
    assert "README.md: edited in HEAD too" in done.err
    assert git(repository, "branch") == "* main\n" and read_tree(repository / ".git/objects") == objects


def test_what_is_refused_is_refused_in_every_commit(repository: Path, overlayws: Program) -> None:
    """Also where a later commit takes it back, so that the change set does not have it."""
    changed(
        overlayws,
        "git config user.name A; git config user.email a@x; ln -s /etc/passwd out; echo s > .env; git add -f out .env;"
        "git commit -qm one; git rm -q --cached .env; git rm -qf out; rm -f .env; echo n > n; git add n;"
        "git commit -qm two",
    )
    done = overlayws("apply", "s", "--branch", "agent", "--yes", code=1)
    assert "[symlink-outside]" in done.err and "[hidden-original]" in done.err
    overlayws("apply", "s", "--branch", "agent", "--yes", "--skip-refused")
    assert git(repository, "log", "--format=%s", "--name-only", "main..agent").split() == ["two", "n"]


def test_a_file_and_a_directory_that_change_places_in_a_commit(repository: Path, overlayws: Program) -> None:
    changed(
        overlayws,
        "git config user.name A; git config user.email a@x; rm docs/guide.txt; mkdir docs/guide.txt;"
        "echo i > docs/guide.txt/in; rm -r src; echo f > src; git add -A; git commit -qm one; rm src; mkdir src;"
        "echo g > src/g; git add -A; git commit -qm two",
    )
    overlayws("apply", "s", "--branch", "agent", "--yes")
    assert git(repository, "ls-tree", "-r", "--name-only", "agent").split() == [
        ".gitignore", "README.md", "docs/guide.txt/in", "link", "src/g",
    ]  # fmt: skip


def test_what_only_a_commit_in_the_middle_runs_is_told(repository: Path, overlayws: Program) -> None:
    """A hook that a later commit takes away is in no diff, and in the history for good."""
    changed(
        overlayws,
        "git config user.name A; git config user.email a@x; w=.github/workflows; mkdir -p $w .husky;"
        "echo evil > $w/ci.yml; echo evil > .husky/pre-commit; echo evil > \"$(printf 'x\\033[2J.pth')\";"
        "echo k > .envrc;"
        "git add -A; git commit -qm one; echo fine > $w/ci.yml; git rm -qr .husky; git rm -q x*; git commit -qam two;"
        "echo n > n; git add n; git commit -qm three",
    )
    done = overlayws("apply", "s", "--branch", "agent", "--yes")
    first = git(repository, "rev-parse", "agent~2").strip()[:12]
    said = [line for line in done.err.splitlines() if "tools run" in line]
    assert said == [
        f"warning: commit {first} has what tools run on their own, the last has it not: "
        '.github/workflows/ci.yml, .husky/pre-commit, "x\\033[2J.pth"'
    ]


def test_what_every_commit_still_has_is_not_told_again(repository: Path, overlayws: Program) -> None:
    changed(
        overlayws,
        "git config user.name A; git config user.email a@x; echo k > .envrc; git add -A; git commit -qm one;"
        "echo n > n; git add n; git commit -qm two",
    )
    assert "tools run" not in overlayws("apply", "s", "--branch", "agent", "--yes").err
