from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from overlayws.base.build import build_base
from overlayws.base.contents import BlockedError, identity
from overlayws.base.explain import explain
from overlayws.base.judge import Judge
from overlayws.base.making import Base
from overlayws.base.manifest import Manifest
from overlayws.base.preview import Size, preview
from overlayws.base.shelf import Shelf
from overlayws.cli.preview import as_json, as_text
from overlayws.filter.content_rules import Action
from overlayws.filter.contents import ContentPolicy, Inspector
from overlayws.filter.sources import load_filter
from tests.base.test_shelf import settle
from tests.trees import Special, Symlink, make_tree, read_tree

TOKEN = "ghp_" + "x7Kq2mVb9LpR4tWz8NcY1sDf6HgJ3aEu5oQi"
NPMRC = f"registry=https://registry.npmjs.org/\n//registry.npmjs.org/:_authToken={TOKEN}\n"
KEY = b"k" * 32
RULE = "github-token"


def judge(ws: Path, action: str = "redact", **options: object) -> Judge:
    policy = ContentPolicy(actions=((RULE, Action(action)),), key=KEY)
    return Judge(load_filter(ws, **options), Inspector(policy))  # type: ignore[arg-type]


def build(tmp_path: Path, action: str = "redact", **options: object) -> Base:
    ws, directory = tmp_path / "ws", tmp_path / "base"
    directory.mkdir()
    given = judge(ws, action, **options)
    return build_base(ws, directory, given.rules, inspector=given.inspector)


def everything_below(top: Path) -> bytes:
    return b"".join(path.read_bytes() for path in top.rglob("*") if path.is_file() and not path.is_symlink())


def test_a_secret_is_replaced_in_the_copy_and_both_sizes_are_known(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {"app.py": f'print(1)\nkey = "{TOKEN}"\n', "plain.py": "print(2)\n"})
    base = build(tmp_path)
    copy = (base.lowerdir / "app.py").read_text()
    assert TOKEN not in copy and copy.startswith('print(1)\nkey = "') and (ws / "app.py").read_text().count(TOKEN) == 1
    with Manifest(base.manifest) as manifest:
        recorded, plain = manifest.get("app.py"), manifest.get("plain.py")
        assert recorded is not None and recorded.redacted and plain is not None and not plain.redacted
        assert recorded.entry.size == len(copy) and recorded.stamp.size == (ws / "app.py").stat().st_size
        assert manifest.rows(["app.py"])["app.py"][3] == len(copy)
        assert [(f.path, f.line, f.rule, f.action) for f in manifest.findings()] == [("app.py", 2, RULE, "redact")]
    assert any("'app.py' line 2" in warning for warning in base.warnings)
    assert TOKEN.encode() not in everything_below(base.lowerdir.parent) and TOKEN not in "".join(base.warnings)


def test_the_digest_of_what_is_shown_is_recorded_for_text_alone(tmp_path: Path) -> None:
    make_tree(tmp_path / "ws", {"a.py": f'key = "{TOKEN}"\n', "b.py": "print(2)\n", "c.bin": b"\0\1", "d": ""})
    base = build(tmp_path)
    with Manifest(base.manifest) as manifest:
        digests = {path: row[6] for path, row in manifest.rows(["a.py", "b.py", "c.bin", "d"]).items()}
    shown = {path: sha256((base.lowerdir / path).read_bytes()).hexdigest() for path in ("a.py", "b.py", "d")}
    assert digests == {**shown, "c.bin": None}


def test_a_redacted_file_is_never_a_reflink_of_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone would put back what was replaced, on a file system that has clones."""
    make_tree(tmp_path / "ws", {"app.py": f'key = "{TOKEN}"\n', "other.py": "o" * 50})
    cloned = []
    monkeypatch.setattr("overlayws.base.files.may_reflink", lambda one, other: True)
    monkeypatch.setattr("overlayws.base.files.copy_file", lambda source, *_: cloned.append(os.fstat(source).st_size))
    base = build(tmp_path)
    assert cloned == [50] and TOKEN not in (base.lowerdir / "app.py").read_text()


def test_a_file_that_names_alone_would_hide_is_shown_redacted(tmp_path: Path) -> None:
    make_tree(tmp_path / "ws", {".npmrc": NPMRC, "again": Symlink(".npmrc")})
    base = build(tmp_path)
    copy = (base.lowerdir / ".npmrc").read_text()
    assert TOKEN not in copy and copy.splitlines()[0] == "registry=https://registry.npmjs.org/"
    assert read_tree(base.lowerdir)["again"] == Symlink(".npmrc")


def test_a_rule_of_the_users_hides_what_would_be_redacted(tmp_path: Path) -> None:
    make_tree(tmp_path / "ws", {".npmrc": NPMRC, "f": "x"})
    assert set(read_tree(build(tmp_path, hide=[".npmrc"]).lowerdir)) == {"f"}


def test_a_file_hidden_by_its_content_takes_its_links_and_other_names_with_it(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {"d/app.py": f'key = "{TOKEN}"\n', "link": Symlink("d/app.py"), "f": "x"})
    os.link(ws / "d/app.py", ws / "notes.bin")
    base = build(tmp_path, "hide")
    assert set(read_tree(base.lowerdir)) == {"d", "f"}
    with Manifest(base.manifest) as manifest:
        rules = {h.path: h.rule for h in manifest.hidden_below("")}
        assert rules["d/app.py"] == f"content: {RULE}" and set(rules) == {"d/app.py", "link", "notes.bin"}
        assert {r.path for r in manifest.below("")} == {"d", "f"}


def test_what_is_redacted_under_one_name_is_redacted_under_every_name(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {".npmrc": "//r/:_authToken=plainpassword1\n"})
    os.link(ws / ".npmrc", ws / "notes.txt")
    base = build(tmp_path)
    for name in (".npmrc", "notes.txt"):
        assert "plainpassword1" not in (base.lowerdir / name).read_text()


def test_a_blocked_content_refuses_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {"a.py": "x\n", "b.py": f'\n\nkey = "{TOKEN}"\n'})
    shelf = Shelf(tmp_path / "bases")
    with shelf.locked(ws), pytest.raises(BlockedError) as error:
        shelf.obtain(ws, judge(ws, "block"))
    assert "'b.py' line 3: github-token" in error.value.message and TOKEN not in error.value.message
    assert error.value.exit_code == 1 and "--show" in error.value.hint
    assert [name for name in os.listdir(shelf.directory) if not name.startswith(".lock")] == []


@pytest.mark.parametrize("action", ["redact", "hide", "block"])
def test_a_file_that_show_names_is_shown_as_it_is_and_reported(tmp_path: Path, action: str) -> None:
    make_tree(tmp_path / "ws", {"a/b.py": f'key = "{TOKEN}"\n'})
    base = build(tmp_path, action, show=["a/b.py"])
    assert TOKEN in (base.lowerdir / "a/b.py").read_text()
    with Manifest(base.manifest) as manifest:
        assert [f.action for f in manifest.findings()] == ["warn"]


def test_findings_and_placeholders_stay_the_same_from_base_to_base(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {"app.py": f'key = "{TOKEN}"\n', "x": "1"})
    shelf = Shelf(tmp_path / "bases")
    bases = []
    for text in ("2", "3"):
        (ws / "x").write_text(text)
        (ws / f"more{text}.py").write_text(f'key = "{TOKEN}"\n')
        settle()
        with shelf.locked(ws):
            bases.append(shelf.obtain(ws, judge(ws)).base)
    assert len({(bases[1].lowerdir / n).read_text() for n in ("app.py", "more2.py", "more3.py")}) == 1
    with Manifest(bases[1].manifest) as manifest:
        assert [f.path for f in manifest.findings()] == ["app.py", "more2.py", "more3.py"]
        assert manifest.get("app.py").redacted  # type: ignore[union-attr]
    settle()
    with shelf.locked(ws):
        again = shelf.obtain(ws, judge(ws))
    assert again.reused and again.base.warnings == bases[1].warnings


def test_another_policy_or_key_is_another_base(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {"app.py": f'key = "{TOKEN}"\n'})
    shelf = Shelf(tmp_path / "bases")
    seen = []
    for given in (judge(ws), judge(ws, "show"), Judge(load_filter(ws)), Judge(load_filter(ws), Inspector())):
        settle()
        with shelf.locked(ws):
            made = shelf.obtain(ws, given)
        assert not made.reused and os.stat(made.base.lowerdir / "app.py").st_nlink == 1
        seen.append((made.base.lowerdir / "app.py").read_text())
    assert TOKEN in seen[1] and TOKEN in seen[2] and TOKEN not in seen[0] + seen[3] and seen[0] != seen[3]
    assert identity(Inspector(ContentPolicy(key=KEY))) == identity(Inspector(ContentPolicy(key=KEY)))


def test_what_is_written_again_and_again_while_it_is_copied_is_shown_as_it_was_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where bytes are shared between files, a clone may hold others than those that were looked at."""
    from overlayws.base import contents

    clean = 'password = "changeme"\n' * 5  # the screen does not pass it, but nothing is found
    make_tree(tmp_path / "ws", {"app.py": clean})
    judged = contents.Scan.judge

    def judge_and_write(self: contents.Scan, path: str, data: bytes | None) -> contents.Said:
        said = judged(self, path, data)
        if data is not None and TOKEN.encode() not in data:
            (tmp_path / "ws/app.py").write_text(f'key = "{TOKEN}"\n')
        else:
            (tmp_path / "ws/app.py").write_text(clean)
        return said

    monkeypatch.setattr("overlayws.base.contents.Scan.judge", judge_and_write)
    monkeypatch.setattr("overlayws.base.files.may_reflink", lambda one, other: True)
    base = build(tmp_path)
    assert any("being written" in warning for warning in base.warnings)
    assert TOKEN not in (base.lowerdir / "app.py").read_text()


def test_what_is_written_between_a_look_at_many_files_and_their_clones_is_judged_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overlayws.base import contents

    make_tree(tmp_path / "ws", {"a.py": "a = 1\n", "b.py": "value = 1\n" * 20})
    looked = contents.Scan.clean

    def look_and_write(self: contents.Scan, prefix: str, files: list[tuple[str, bytes]]) -> list[bool]:
        said = looked(self, prefix, files)
        (tmp_path / "ws/b.py").write_text(f'key = "{TOKEN}"\n')
        return said

    monkeypatch.setattr("overlayws.base.contents.Scan.clean", look_and_write)
    monkeypatch.setattr("overlayws.base.files.may_reflink", lambda one, other: True)
    base = build(tmp_path)
    assert TOKEN not in (base.lowerdir / "b.py").read_text() and "key" in (base.lowerdir / "b.py").read_text()


def test_preview_tells_what_a_base_would_be_without_making_one(tmp_path: Path) -> None:
    ws = make_tree(
        tmp_path / "ws",
        {"a/app.py": f'key = "{TOKEN}"\n', "a/x": "12345", ".env": "K=1", "big/one": "1", "big/two": "22",
         "fifo": Special("fifo"), "out": Symlink("/etc/x"), "n\udcff": "", ".git/HEAD": "ref"},
    )  # fmt: skip
    found = preview(ws, judge(ws, hide=["big"]))
    assert [h.path for h, _ in found.hidden] == [".env", "big"]
    assert found.by_rule()["`--hide big`"] == (1, Size(2, 3))
    assert found.redacted == ("a/app.py",) and found.leaving == ("out",) and not found.blocked
    base = build(tmp_path, hide=["big"])
    copied = [path for path in base.lowerdir.rglob("*") if path.is_symlink() or not path.is_dir()]
    assert found.visible.files == len(copied) and set(base.warnings) == set(found.warnings)
    for text in (as_text(found), as_json(found)):
        assert TOKEN not in text and "app.py" in text and "big" in text and text.isprintable() is False
    assert json.loads(as_json(found))["rules"][0]["paths"] == 1
    assert preview(ws, judge(ws, "block")).blocked


def test_preview_counts_what_is_hidden_by_content_as_hidden(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {"app.py": f'key = "{TOKEN}"\n', "link": Symlink("app.py"), "x": "1"})
    found = preview(ws, judge(ws, "hide"))
    assert found.visible == Size(1, 1) and {h.path for h, _ in found.hidden} == {"app.py", "link"}


def test_explain_says_redacted_and_why(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {"app.py": f'\nkey = "{TOKEN}"\n', "x": "1", ".env": "K=1", "gone.py": ""})
    paths = ["app.py", "x", ".env", "not-there.pem"]
    assert explain(ws, judge(ws), paths)[0] == ("app.py", "redacted", f"content: {RULE} in line 2")
    assert [verdict for _, verdict, _ in explain(ws, judge(ws), paths)] == ["redacted", "visible", "hidden", "hidden"]
    assert explain(ws, judge(ws, "block"), ["app.py"])[0][1] == "blocked"
