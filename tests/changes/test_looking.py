"""A diff that cannot lie: noise is folded with both counts, nothing passes for binary, what is not shown is told."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from overlayws.changes.html import page
from overlayws.changes.listing import rows
from overlayws.changes.looking import looking
from overlayws.changes.render import patch, stat
from overlayws.changes.terminal import of_sections
from tests.changes.layers import Case, Upper, Whiteout, make_case
from tests.trees import File, Node, Symlink, make_tree, read_tree

LINES = "".join(f"line {n}\n" for n in range(60))


def look(case: Case, *, everything: bool = False) -> tuple[str, list[str]]:
    with case.base() as base, case.theirs() as theirs:
        with looking(case.scan(), base, theirs, everything=everything) as looked:
            shown = of_sections(looked.sections(), False, cut=not everything)
            return shown, looked.left_out()


def seen(tmp_path: Path, before: Node, after: Node, *, name: str = "f.txt", everything: bool = False) -> list[str]:
    text, left_out = look(make_case(tmp_path, {name: before}, {name: after}), everything=everything)
    assert left_out == []
    return text.splitlines()


def exact(case: Case) -> bytes:
    with case.base() as base, case.theirs() as theirs:
        return patch(case.scan(), base, theirs)[0]


def applies(case: Case, tmp_path: Path, base: Mapping[str, Node]) -> None:
    """``git apply`` and ``patch -p1`` of the exported patch give what the program made."""
    for number, command in enumerate((["git", "apply", "-"], ["patch", "-p1", "-s"])):
        clean = make_tree(tmp_path / f"clean{number}", base)
        done = subprocess.run(command, cwd=clean, input=exact(case), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert read_tree(clean) == read_tree(case.layer.upperdir)


def test_a_flip_of_line_ends_does_not_hide_the_one_edit(tmp_path: Path) -> None:
    after = LINES.replace("line 30", "evil()").replace("\n", "\r\n")
    lines = seen(tmp_path, LINES, after)
    assert [line for line in lines if line[:1] in "+-" and line[:3] not in ("---", "+++")] == [
        "-line 30", "+evil()\\x0d",
    ]  # fmt: skip
    (note,) = [line for line in lines if line.startswith("(")]
    assert "-59 +59 lines differ only in white space at their end" in note and "-1 +1 others" in note


def test_an_option_shows_all_of_it(tmp_path: Path) -> None:
    lines = seen(tmp_path, LINES, LINES.replace("\n", "\r\n"), everything=True)
    assert sum(line.startswith("+line") for line in lines) == 60


def test_white_space_only_is_told_with_its_count(tmp_path: Path) -> None:
    lines = seen(tmp_path, LINES, LINES.replace("\n", "  \n"))
    assert (
        lines[-1].startswith("(-60 +60 lines differ only in white space at their end") and "-0 +0 others" in lines[-1]
    )


def test_the_exported_patch_always_has_it(tmp_path: Path) -> None:
    base = {"f.c": "int a;\nint b;\n"}
    case = make_case(tmp_path, base, {"f.c": "  int a;\r\n\tint b; \n"})
    applies(case, tmp_path, base)


@pytest.mark.parametrize(("name", "folded"), [("f.js", True), ("f.py", False), ("f.yaml", False), ("Makefile", False)])
def test_indentation_is_folded_only_where_it_means_nothing(name: str, folded: bool, tmp_path: Path) -> None:
    before = "if (x)\n  y()\n" + LINES + "a\n"
    lines = seen(tmp_path, before, before.replace("  y()", "y()").replace("a\n", "b\n"), name=name)
    assert ("+y()" not in lines) is folded
    assert "+b" in lines
    assert (
        any("1 hunk that only indents is" in line or "1 hunk that only indent is" in line for line in lines) is folded
    )


def test_white_space_inside_of_a_line_is_never_folded(tmp_path: Path) -> None:
    assert "+rm -rf / tmp/x" in seen(tmp_path, "rm -rf /tmp/x\n", "rm -rf / tmp/x\n", name="f.js")


def test_a_line_that_moved_is_no_indentation(tmp_path: Path) -> None:
    before = "function login(user) {\n  verify(user);\n  log(user);\n  grant(user);\n}\n"
    after = "function login(user) {\n  log(user);\n  grant(user);\n  verify(user);\n}\n"
    lines = seen(tmp_path, before, after, name="a.js")
    assert "-  verify(user);" in lines and "+  verify(user);" in lines
    assert not any("folded" in line for line in lines)


@pytest.mark.parametrize("name", ["run.sh", "a.c"])
@pytest.mark.parametrize("join", ["\\", "`", "^"])
@pytest.mark.parametrize("back", [False, True])
def test_a_space_after_what_joins_lines_is_shown(name: str, join: str, back: bool, tmp_path: Path) -> None:
    sides = f"run {join}\n  --safe\n{LINES}", f"run {join} \n  --safe\n{LINES}".replace("line 9\n", "line 9 \n")
    before, after = reversed(sides) if back else sides
    lines = seen(tmp_path, before, after, name=name)
    assert {f"-run {join}", f"+run {join} "} <= set(lines) or {f"-run {join} ", f"+run {join}"} <= set(lines)


def test_a_space_after_what_joins_lines_is_no_indentation(tmp_path: Path) -> None:
    lines = seen(tmp_path, "#define A \\\n  1\n", "  #define A \\ \n  1\n", name="a.c")
    assert "+  #define A \\ " in lines


@pytest.mark.parametrize("name", ["go", "js", "a.js/run", "a.vue", "a.svelte", "x.py", ".c"])
def test_a_name_is_no_suffix(name: str, tmp_path: Path) -> None:
    lines = seen(tmp_path, "if x:\n  y()\n  z()\n", "if x:\n  y()\nz()\n", name=name)
    assert "+z()" in lines


@pytest.mark.parametrize("name", ["evil.py", "Makefile", ".envrc", "no-suffix"])
def test_a_nul_does_not_make_a_text_binary(name: str, tmp_path: Path) -> None:
    base = {name: LINES}
    case = make_case(tmp_path, base, {name: LINES.replace("line 3\n", "evil() \0\n")})
    text, _ = look(case)
    assert "+evil() \\x00" in text and "binary content" not in text
    assert "(flags: binary, invisible-text" in text
    assert b"+evil() \0\n" in exact(case)
    applies(case, tmp_path, base)
    (change,) = case.scan().changes
    assert {"binary", "invisible-text"} <= set(change.flags)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_decoded_for_eyes_and_exact_in_the_patch(encoding: str, tmp_path: Path) -> None:
    def data(text: str) -> bytes:
        return text.replace("\n", "\r\n").encode(encoding)

    base = {"run.ps1": data(LINES)}
    case = make_case(tmp_path, base, {"run.ps1": data(LINES.replace("line 3\n", "Invoke-Evil \u202e😀\n"))})
    text, _ = look(case)
    assert "+Invoke-Evil <U+202E>😀\\x0d" in text.splitlines()
    assert any(line.startswith("(a text in UTF-16") for line in text.splitlines())
    applies(case, tmp_path, base)
    (change,) = case.scan().changes
    assert {"binary", "invisible-text"} <= set(change.flags)


def test_another_encoding_of_the_same_text_is_no_empty_diff(tmp_path: Path) -> None:
    text, _ = look(make_case(tmp_path, {"f.txt": LINES}, {"f.txt": LINES.encode("utf-16-le")}))
    assert "+l\\x00i\\x00n\\x00e" in text


def test_what_is_binary_stays_so(tmp_path: Path) -> None:
    picture = b"\x89PNG\r\n\x1a\n" + os.urandom(3000) + b"\0"
    case = make_case(tmp_path, {}, {"a.png": picture, "tool": b"\x7fELF" + bytes(range(256)) * 20})
    text, _ = look(case)
    assert text.count("(binary content, not shown)") == 2
    assert all("invisible-text" not in change.flags for change in case.scan().changes)


@pytest.mark.parametrize(
    "attributes",
    [
        "*.py -diff\n",
        "*.py binary\n",
        "*.py diff=evil\n",
        "* -text -diff linguist-generated\n",
        "[attr]x -diff\n*.py x\n",
    ],
)
@pytest.mark.parametrize("place", [".gitattributes", "src/.gitattributes", ".git/info/attributes"])
def test_attributes_of_the_change_set_have_no_effect(attributes: str, place: str, tmp_path: Path) -> None:
    upper: Upper = {"src/f.py": "evil()\n", place: attributes, ".gitignore": "*\n", "src/.gitignore": "f.py\n"}
    case = make_case(tmp_path, {"src/f.py": "ok()\n", "src/.gitattributes": ""}, upper)
    text, _ = look(case)
    assert "+evil()" in text.splitlines()
    assert b"\n+evil()\n" in exact(case)


def test_a_large_file_is_not_shown_and_told_with_its_digest(tmp_path: Path) -> None:
    case = make_case(tmp_path, {}, {"big.txt": "x" * 79 + "\n", "small": "seen\n"})
    with open(case.layer.upperdir / "big.txt", "ab") as f:
        f.write(b"y\n" * (1 << 20))
    text, left_out = look(case)
    assert "+seen" in text and "big.txt" not in text
    digest = {c.path: c.after.digest for c in case.scan().changes if c.after}["big.txt"]
    assert left_out == [f"not shown: big.txt (added): nothing -> {80 + (2 << 20)} bytes, sha256 {digest}"]
    text, left_out = look(case, everything=True)
    assert "big.txt" in text and left_out == []


def test_many_large_files_do_not_keep_a_small_edit_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from overlayws.changes import looking as module
    from overlayws.changes.git import Limits

    monkeypatch.setattr(module, "SHOWN", Limits(1 << 20, 100_000))
    upper = {f"a{n}": "junk\n" * 3000 for n in range(20)}
    text, left_out = look(make_case(tmp_path, {}, {**upper, "z.py": "evil()\n"}))
    assert "+evil()" in text and len(left_out) == 14


def test_long_lines_are_cut_for_eyes_only(tmp_path: Path) -> None:
    case = make_case(tmp_path, {}, {"f": "y" * 900_000 + "\n"})
    assert "[and 898001 more characters]" in look(case)[0]
    assert "more characters" not in look(case, everything=True)[0]
    assert b"y" * 900_000 in exact(case)


def test_60_000_lines_every_third_changed_take_seconds(tmp_path: Path) -> None:
    before = [f"line {n}\n" for n in range(60_000)]
    after = [line if n % 3 else f"changed {n}\n" for n, line in enumerate(before)]
    case = make_case(tmp_path, {"f.txt": "".join(before)}, {"f.txt": "".join(after)})
    start = time.monotonic()
    text, left_out = look(case, everything=True)
    assert text.count("\n+changed") == 20_000 and left_out == []
    exact(case)
    assert time.monotonic() - start < 5


def test_many_new_files_are_grouped_and_an_edit_stands_alone(tmp_path: Path) -> None:
    upper: dict[str, Node] = {f"node_modules/p{n}/index.js": "x\n" for n in range(1200)}
    upper |= {"node_modules/evil/run": File(b"#!/bin/sh\n", 0o755), "src/app.py": "evil()\n"}
    case = make_case(tmp_path, {"src/app.py": "ok()\n"}, upper)
    with case.base() as base, case.theirs() as theirs, looking(case.scan(), base, theirs) as looked:
        listed = rows(case.scan(), looked.repository)
    text = stat(listed)
    assert len(text.splitlines()) == 3
    assert "node_modules/ | 1201 added: +1201 -0 lines, auto-executed 1201, executable 1" in text
    assert "src/app.py" in text and text.endswith(" 1202 files changed, 1202 insertions(+), 1 deletion(-)\n")
    assert len(stat(listed, everything=True).splitlines()) == 1203


NASTY = "<script>alert(1)</script>&\"'\x1b[2J\u202e\udcff"


def test_the_page_escapes_everything_and_runs_nothing(tmp_path: Path) -> None:
    upper: Upper = {f"a{NASTY.replace('/', '')}\n": f"{NASTY}\n", "l": Symlink(f"/{NASTY}"), "f.txt": "</pre></html>\n"}
    case = make_case(tmp_path, {}, upper)
    with case.base() as base, case.theirs() as theirs, looking(case.scan(), base, theirs) as looked:
        text = page(
            case.scan(), rows(case.scan(), looked.repository), looked.sections(), session="s</title>", digest="sha256:0"
        )
    assert text.isascii() and "\x1b" not in text
    assert "<script" not in text and text.count("</pre>") == 3 and text.count("</html>") == 1
    assert "&lt;script&gt;" in text and "&lt;U+202E&gt;" in text and "\\x1b" in text
    assert "default-src 'none'" in text and " src=" not in text and "href" not in text and "url(" not in text


@pytest.mark.parametrize(
    ("modes", "told"),
    [((0o600, 0o644), True), ((0o600, 0o755), True), ((0o755, 0o4755), True), ((0o644, 0o755), False),
     ((0o755, 0o644), False), ((0o600, 0o600), False)],
)  # fmt: skip
@pytest.mark.parametrize("data", [b"new\n", b"\0" * 5000])
def test_permissions_that_a_patch_does_not_have_are_said(
    modes: tuple[int, int], told: bool, data: bytes, tmp_path: Path
) -> None:
    case = make_case(tmp_path, {"key": File(b"old\n", modes[0])}, {"key": File(data, modes[1])})
    said = f"mode {modes[0]:04o} -> {modes[1]:04o}"
    with case.base() as base, case.theirs() as theirs, looking(case.scan(), base, theirs) as looked:
        listed = rows(case.scan(), looked.repository)
        text = page(case.scan(), listed, looked.sections(), session="s", digest="sha256:0")
    assert (f"({said})" in look(case)[0].splitlines()) is told
    assert (f", {said}" in stat(listed)) is told
    assert (f"modified, {said.replace('>', '&gt;')}" in text) is (f"({said.replace('>', '&gt;')})" in text) is told
    assert said.encode() not in exact(case)


def test_permissions_of_a_renamed_and_of_a_large_file_are_said(tmp_path: Path) -> None:
    base = {"old": File(LINES.encode(), 0o600), "big": File(b"x\n" * (1 << 20), 0o600)}
    upper: Upper = {"new": File(f"{LINES}evil()\n".encode(), 0o644), "big": File(b"y\n" * (1 << 20), 0o644)}
    case = make_case(tmp_path, base, {**upper, "old": Whiteout()})
    text, left_out = look(case)
    assert "rename from old" in text and "(mode 0600 -> 0644)" in text.splitlines()
    assert left_out[0].startswith("not shown: big (modified, mode 0600 -> 0644): ")
