"""Items 66 and 68 of the acceptance list: very many files, and none. The page, and what is left out of the patch."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.apply.test_attributes import acl
from tests.cli.conftest import BACKEND, PROGRAM, Program
from tests.trees import File, make_tree


def measured(program: Program, *arguments: str) -> tuple[bytes, int, float]:
    """(stdout, peak memory in KiB of the program and of each git it ran, seconds)."""
    start = time.monotonic()
    command = ["/usr/bin/env", "python3", "-c", _MEASURE, *PROGRAM, *arguments]
    done = subprocess.run(command, cwd=program.cwd, env=program.environment(), capture_output=True, check=True)
    out, _, memory = done.stdout.rpartition(b"\n")
    return out, int(memory), time.monotonic() - start


_MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
sys.stdout.flush()
print(f"\\n{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}", end="", flush=True)
"""


@pytest.mark.parametrize("backend", BACKEND)
def test_66_50_000_new_files_are_grouped_applied_and_undone_in_little_memory(overlayws: Program, backend: str) -> None:
    many = 50_000 if backend == "userns" else 5_000  # making them takes longer than all the rest
    script = (
        "import os\nfor n in range(MANY):\n  if n % 500 == 0: os.makedirs(f'node_modules/p{n // 500}')\n"
        "  open(f'node_modules/p{n // 500}/f{n}.js', 'w').write(f'module.exports = {n}\\n' * 10)\n"
        "open('README.md', 'a').write('one more\\n')"
    ).replace("MANY", str(many))
    _, memory, taken = measured(overlayws, "start", "--name", "s", "--backend", backend, "--", "python3", "-c", script)
    assert memory < 512 << 10 and taken < 120
    out, memory, taken = measured(overlayws, "diff", "s", "--stat")
    lines = out.decode().splitlines()
    assert memory < 512 << 10 and taken < 60
    assert (
        len(lines) == 3 and f"node_modules/ | {many} added: +{many}0 -0 lines" in lines[1] and "README.md" in lines[0]
    )
    if backend != "userns":  # from here on all is read from the frozen store, whoever wrote the upperdir
        return
    out, memory, taken = measured(overlayws, "diff", "s")
    assert memory < 512 << 10 and taken < 60 and out.count(b"\ndiff --git ") == 50_000
    before = sorted(os.listdir(overlayws.cwd))
    _, memory, _ = measured(overlayws, "apply", "s", "--yes")
    assert memory < 512 << 10 and (overlayws.cwd / "node_modules/p99/f49999.js").exists()
    _, memory, _ = measured(overlayws, "undo", "s", "--yes")
    assert memory < 512 << 10 and sorted(os.listdir(overlayws.cwd)) == before


@pytest.mark.parametrize("backend", BACKEND)
def test_68_no_changes_are_said(overlayws: Program, backend: str) -> None:
    overlayws("start", "--name", "s", "--backend", backend, "--", "true")
    done = overlayws("diff", "s")
    assert done.out == b"" and "nothing changed" in done.err
    overlayws("diff", "s", "--exit-code")


def test_exit_code_says_whether_there_are_changes(overlayws: Program) -> None:
    overlayws("start", "--name", "s", "--", "touch", "new")
    overlayws("diff", "s", "--exit-code", code=1)


def test_a_page_is_written_whole_and_only_there(overlayws: Program, workspace: Path, tmp_path: Path) -> None:
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo '<script>alert(1)</script>' > '<b>.html'")
    page = tmp_path / "page.html"
    os.symlink(tmp_path / "victim", page)
    done = overlayws("diff", "s", "--html", str(page))
    assert done.out == b"" and not page.is_symlink() and not (tmp_path / "victim").exists()
    text = page.read_text()
    assert "<script" not in text and "&lt;b&gt;.html" in text and text.endswith("</html>\n")
    assert "cannot write" in overlayws("diff", "s", "--html", str(tmp_path / "no/page"), code=3).error
    assert "does not go with" in overlayws("diff", "s", "--html", "x", "--stat", code=2).error


def test_what_is_too_large_for_a_patch_is_told_and_can_be_asked_for(overlayws: Program, workspace: Path) -> None:
    make_tree(workspace, {"small": "x\n"})
    overlayws("start", "--name", "s", "--", "sh", "-c", "head -c 70000000 /dev/zero > big; echo y > small")
    done = overlayws("diff", "s")
    assert b"+y" in done.out and b"big" not in done.out
    assert "not shown: big (added): nothing -> 70000000 bytes, sha256 " in done.err and "--all shows it" in done.err
    assert b"big" in overlayws("diff", "s", "--all").out


def test_words_are_for_reading_also_in_a_file(overlayws: Program, workspace: Path) -> None:
    make_tree(workspace, {"f": "one two\n"})
    overlayws("start", "--name", "s", "--", "sh", "-c", "printf 'one \\033[2J\\nGIT binary patch\\n' > f; echo x > g")
    lines = overlayws("diff", "s", "--word").out.decode().splitlines()
    assert "+one \\x1b[2J" in lines and "+GIT binary patch" in lines and lines[-1] == "+x"


def test_permissions_without_a_patch_form_are_said(overlayws: Program, workspace: Path) -> None:
    make_tree(workspace, {"f": File(b"one\n", 0o600), "g": File(b"one\n", 0o600)})
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo two > f; chmod 644 f g")
    assert "not in the patch: g (mode-changed, mode 0600 -> 0644)" in overlayws("diff", "s").err
    assert b"\n(mode 0600 -> 0644)\n" in overlayws("diff", "s", "--word").out


FLAGGED = "echo x > .envrc; echo y > plain; w=.github/workflows; mkdir -p $w; touch $w/1.yml $w/2.yml $w/3.yml"


def test_flags_are_told_wherever_a_person_looks(overlayws: Program) -> None:
    line = "auto-executed: .envrc, .github/workflows/1.yml, .github/workflows/2.yml and 1 more"
    started = overlayws("start", "--name", "s", "--", "sh", "-c", FLAGGED)
    assert f"  {line}\n" in started.err
    done = overlayws("diff", "s")
    assert f"{line}\n" in done.err and b"auto-executed" not in done.out
    stat = overlayws("diff", "s", "--stat").out.decode().splitlines()
    assert [row.split("|")[0].strip() for row in stat if row.endswith("  [auto-executed]")] == [
        ".envrc", ".github/workflows/1.yml", ".github/workflows/2.yml", ".github/workflows/3.yml",
    ]  # fmt: skip
    assert line in overlayws("status", "s").out.decode()
    assert line in overlayws("apply", "s", code=2).err
    assert "auto-executed" not in overlayws("diff", "s", "plain").err


def test_a_name_cannot_pass_for_several_or_hide_in_the_line_of_a_flag(overlayws: Program) -> None:
    names = "'a, b and 7 more.pth' 'q\".pth' \"$(printf 'z\\033[8m.pth')\""
    started = overlayws("start", "--name", "s", "--", "sh", "-c", f"touch {names}")
    assert '  auto-executed: "a, b and 7 more.pth", "q\\".pth", "z\\x1b[8m.pth"\n' in started.err


def test_hard_links_are_told_everywhere(overlayws: Program) -> None:
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo 1 > n; ln n 'a b'; ln n 'new\nline'")
    names = 'a b = n = "new\\nline"'
    assert f"linked     {names}\n" in overlayws("status", "s").out.decode()
    assert json.loads(overlayws("status", "s", "--json").out)["hard_links"] == 1
    for form in ((), ("--stat",), ("--name-status",)):
        assert f"hard links, of which apply makes a file each: {names}\n" in overlayws("diff", "s", *form).err
    told = json.loads(overlayws("diff", "s", "--json").out)["hard_links"]
    assert told == [[{"path": "a b"}, {"path": "n"}, {"path": "new\nline"}]]
    overlayws("diff", "s", "--html", "page.html")
    assert "a b = n = &quot;new" in (overlayws.cwd / "page.html").read_text()
    done = overlayws("apply", "s", "--yes", "--json")
    assert json.loads(done.out)["notes"] == [f"hard links become files of their own: {names}"]
    assert done.err.count("hard links become") == 1 and (overlayws.cwd / "n").stat().st_nlink == 1


def test_access_lists_are_told_everywhere(overlayws: Program) -> None:
    program = f"import os, struct\n{inspect.getsource(acl)}\nopen('n\\x1b', 'w').close()\n"
    program += "os.setxattr('n\\x1b', 'system.posix_acl_access', acl())"
    overlayws("start", "--name", "s", "--", "python3", "-c", program)
    name = '"n\\033"'
    assert f"lists      {name} (access lists, never applied)\n" in overlayws("status", "s").out.decode()
    assert json.loads(overlayws("status", "s", "--json").out)["access_lists"] == 1
    assert f"access lists, which are never applied: {name}\n" in overlayws("diff", "s", "--stat").err
    overlayws("diff", "s", "--html", "page.html")
    assert "access lists, which are never applied: &quot;n\\033&quot;" in (overlayws.cwd / "page.html").read_text()
