from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from overlayws.base.build import UnreadableError, build_base
from overlayws.base.making import Base
from overlayws.base.manifest import REPOSITORY, Manifest
from overlayws.base.repository import make_repository
from overlayws.errors import UnableError
from overlayws.filter.sources import load_filter
from overlayws.source.entry import Kind
from tests.trees import Dir, File, Special, Symlink, make_tree, read_tree, stamps


def build(tmp_path: Path, **options: object) -> Base:
    (tmp_path / "base").mkdir()
    rules = load_filter(tmp_path / "ws", **options)  # type: ignore[arg-type]
    return build_base(tmp_path / "ws", tmp_path / "base", rules)


def test_what_is_visible_is_copied_exactly(tmp_path: Path) -> None:
    tree = {
        "a/b c": File(b"x\0y", 0o640),
        "run.sh": File(b"#!/bin/sh\n", 0o755),
        "n\udcff\n": "odd name",
        "empty": Dir(0o750),
        "tagged": File(b"t", 0o644, (("user.note", b"\0v"),)),
        "taggeddir": Dir(0o755, (("user.d", b"w"),)),
        "link": Symlink("a/b c"),
        "loop": Symlink("loop"),
        "closed": Dir(0o500),
    }
    make_tree(tmp_path / "ws", tree)
    base = build(tmp_path)
    assert read_tree(base.lowerdir) == read_tree(tmp_path / "ws")
    for path in ("a/b c", "empty", "link", "a"):
        assert os.lstat(base.lowerdir / path).st_mtime_ns == os.lstat(tmp_path / "ws" / path).st_mtime_ns


def test_the_workspace_is_only_read_not_even_its_access_times_change(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {"a/f": "x", ".git/config": "c", "link": Symlink("a")})
    for path in ("a/f", "a", ".", ".git/config"):
        os.utime(ws / path, (1, 2))  # an atime older than the mtime: relatime would update it
    before, atime = stamps(ws), os.stat(ws / "a/f").st_atime_ns
    make_repository(build(tmp_path).lowerdir)
    assert stamps(ws) == before and os.stat(ws / "a/f").st_atime_ns == atime


def test_secrets_and_what_the_ignore_file_names_are_hidden_and_known(tmp_path: Path) -> None:
    make_tree(
        tmp_path / "ws",
        {".env": "K=1", "conf/.env.local": "K=2", ".env.example": "K=", "keys/id_rsa": "k", "big/data.bin": "b",
         "src/app.py": "x", ".overlaywsignore": "big\n!.env\n", ".git/HEAD": "r", "sub/.git": "gitdir: x"},
    )  # fmt: skip
    base = build(tmp_path)
    seen = set(read_tree(base.lowerdir))
    assert seen == {"conf", ".env.example", "keys", "src", "src/app.py", ".overlaywsignore", "sub"}
    with Manifest(base.manifest) as manifest:
        assert {h.path for h in manifest.hidden_below("")} == {
            ".env", "conf/.env.local", "keys/id_rsa", "big", ".git", "sub/.git",
        }  # fmt: skip
        assert manifest.counts() == {"files": 3, "hidden": 4, "skipped": 0}
        assert manifest.hidden("big/data.bin") is not None and manifest.hidden("src/app.py") is None
        assert manifest.hidden(".git/config").rule == REPOSITORY  # type: ignore[union-attr]
        assert manifest.get(".env") is None
    assert any(".env" in warning for warning in base.warnings)


def test_a_certificate_is_visible_and_a_private_key_of_the_same_kind_of_name_is_not(tmp_path: Path) -> None:
    certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    key = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"
    make_tree(tmp_path / "ws", {"ca.pem": certificate, "key.pem": key, "both.pem": certificate + key})
    assert set(read_tree(build(tmp_path).lowerdir)) == {"ca.pem"}


def test_another_name_of_a_hidden_file_is_hidden_too(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {".env": "K=1", ".ssh/id_rsa": "k", "plain": "x"})
    os.link(ws / ".env", ws / "notes.txt")
    os.link(ws / ".ssh/id_rsa", ws / "innocent")
    os.link(ws / "plain", ws / "plain2")
    (ws / "alias").symlink_to(".env")
    (ws / "deep").mkdir()
    (ws / "deep/up").symlink_to("../.ssh/id_rsa")
    (ws / "ssh").symlink_to(ws / ".ssh")
    base = build(tmp_path)
    assert set(read_tree(base.lowerdir)) == {"plain", "plain2", "deep"}
    for path in ("plain", "plain2"):  # never a hard link to the user's file, or within the base
        assert os.stat(base.lowerdir / path).st_nlink == 1


def test_a_link_that_leads_to_a_hidden_file_by_way_of_others_is_hidden_too(tmp_path: Path) -> None:
    ws = make_tree(
        tmp_path / "ws",
        {".env": "K=1", "one": Symlink(".env"), "two": Symlink("by/../one"), "d": Symlink("keys/deep"),
         "keys/id_rsa": "k", "keys/deep/f": "", "by/directory": Symlink("../d/../id_rsa"), "by/f": "",
         "d2": Symlink("/etc"), "far": Symlink("d2/hostname"), "circle": Symlink("circle2"),
         "circle2": Symlink("circle"), "plain": Symlink("d/f"), "up": Symlink("d/../.env")},
    )  # fmt: skip
    (ws / "absolute").symlink_to(ws / "two")
    (ws / "top").symlink_to(ws)
    base = build(tmp_path)
    links = {path for path, what in read_tree(base.lowerdir).items() if isinstance(what, Symlink)}
    # "up" is keys/.env, which is not there: the kernel takes .. from where d leads.
    assert links == {"d", "d2", "far", "circle", "circle2", "plain", "up", "top"}
    (warning,) = [w for w in base.warnings if "outside" in w]
    assert "'d2'" in warning and "'far'" in warning and "'up'" not in warning and "'top'" not in warning


def test_a_hidden_file_whose_name_is_no_utf8_has_links_as_others_have(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {"n\udcff\n\x1b/.env": "K=1", "link": Symlink("n\udcff\n\x1b/.env")})
    os.link(ws / "n\udcff\n\x1b/.env", ws / "hard")
    with Manifest(build(tmp_path).manifest) as manifest:
        rules = {h.path: h.rule for h in manifest.hidden_below("")}
    name = "n\\udcff\\n\\x1b/.env"
    assert rules["hard"] == f"hard link of the hidden {name}"
    assert rules["link"] == f"symbolic link to the hidden {name}"


def test_links_that_leave_the_workspace_are_kept_as_links_and_told(tmp_path: Path) -> None:
    make_tree(tmp_path / "ws", {"out": Symlink("/etc/hostname"), "up": Symlink("../../x"), "in": Symlink("f"), "f": ""})
    base = build(tmp_path)
    assert read_tree(base.lowerdir)["out"] == Symlink("/etc/hostname")
    assert any("'out'" in w and "'up'" in w and "'in'" not in w for w in base.warnings)


def test_special_files_are_skipped_with_a_report_and_nothing_hangs(tmp_path: Path) -> None:
    make_tree(tmp_path / "ws", {"fifo": Special("fifo"), "sock": Special("socket"), "f": "x"})
    base = build(tmp_path)
    assert set(read_tree(base.lowerdir)) == {"f"}
    with Manifest(base.manifest) as manifest:
        assert manifest.skipped() == [("fifo", Kind.FIFO), ("sock", Kind.SOCKET)]
    assert any("'fifo' (fifo)" in w for w in base.warnings)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_paths_are_an_error_that_names_them_all(tmp_path: Path) -> None:
    make_tree(
        tmp_path / "ws", {"a": File(b"x", 0o000), "b/c": File(b"x", 0o200), "d": Dir(0o755), ".env": File(b"", 0)}
    )
    with pytest.raises(UnreadableError) as error:
        build(tmp_path)
    assert "'a'" in error.value.message and "'b/c'" in error.value.message and ".env" not in error.value.message
    (tmp_path / "ws/d").chmod(0)
    with pytest.raises(UnreadableError, match="'d'"):
        (tmp_path / "base").rmdir() if (tmp_path / "base").exists() and not os.listdir(tmp_path / "base") else None
        (tmp_path / "two").mkdir()
        build_base(tmp_path / "ws", tmp_path / "two", load_filter(tmp_path / "ws"))
    (tmp_path / "ws/d").chmod(0o755)


def test_holes_stay_holes(tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    with open(tmp_path / "ws/sparse", "wb") as f:
        f.truncate(1 << 40)
        f.seek(1 << 30)
        f.write(b"data")
    base = build(tmp_path)
    st = os.stat(base.lowerdir / "sparse")
    assert st.st_size == 1 << 40 and st.st_blocks * 512 < 1 << 20
    with open(base.lowerdir / "sparse", "rb") as f:
        f.seek(1 << 30)
        assert f.read(4) == b"data"


def test_a_tree_deeper_than_a_path_can_be_long_is_copied(tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    fd = os.open(tmp_path / "ws", os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("dddd", dir_fd=fd)
        below = os.open("dddd", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("leaf", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    base = build(tmp_path)
    with Manifest(base.manifest) as manifest:
        assert manifest.get("dddd/" * 1100 + "leaf") is not None


def test_set_id_bits_and_overlay_marks_do_not_get_into_the_base(tmp_path: Path) -> None:
    make_tree(tmp_path / "ws", {"su": File(b"x", 0o4755), "d/f": "x"})
    os.setxattr(tmp_path / "ws/d", "user.overlay.opaque", b"y")
    base = build(tmp_path)
    assert os.stat(base.lowerdir / "su").st_mode & 0o7777 == 0o755
    assert os.listxattr(base.lowerdir / "d") == []


def test_a_base_on_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "ws", {"f": "x"})

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("overlayws.base.files.copy_file", full)
    monkeypatch.setattr("os.write", full)
    with pytest.raises(UnableError, match="No space left") as error:
        build(tmp_path)
    assert error.value.hint


def test_the_programs_repository_is_one_commit_without_anything_of_the_users(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {"f": "x", ".env": "SECRET-BYTES", ".gitignore": "*.o\n", "x.o": "o"})
    git = ["git", "-C", str(ws), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "remote", "add", "origin", "https://user:TOKEN-BYTES@example.org/r"], check=True)
    subprocess.run([*git, "add", "-Af"], check=True)
    subprocess.run([*git, "commit", "-qm", "history with SECRET-BYTES"], check=True)
    (ws / ".git/hooks/post-checkout").write_text("#!/bin/sh\n")
    lower = build(tmp_path).lowerdir
    make_repository(lower)
    inside = ["git", "-C", str(lower), "-c", f"safe.directory={lower}"]
    said = {
        what: subprocess.run([*inside, *what.split()], check=True, capture_output=True, text=True).stdout
        for what in (
            "log --oneline --all",
            "remote",
            "status --porcelain",
            "ls-files",
            "stash list",
            "config -l --local",
        )
    }
    assert said["log --oneline --all"].count("\n") == 1 and said["remote"] == said["stash list"] == ""
    assert said["status --porcelain"] == "" and said["ls-files"].split() == [".gitignore", "f"]
    assert "remote" not in said["config -l --local"] and "user" not in said["config -l --local"]
    assert not (lower / ".git/hooks").exists()
    found = subprocess.run(["grep", "-rlaE", "SECRET-BYTES|TOKEN-BYTES", str(lower)], capture_output=True, text=True)
    assert found.stdout == ""


def test_the_workspaces_attributes_and_filters_run_nothing(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {"f": "x", ".gitattributes": "* filter=evil diff=evil\n"})
    (ws / ".gitconfig").write_text('[filter "evil"]\n\tclean = touch /tmp/evil\n')
    lower = build(tmp_path).lowerdir
    make_repository(lower)
    assert (lower / ".git").is_dir()


def test_no_access_time_of_a_directory_or_a_file_changes(tmp_path: Path) -> None:
    ws = make_tree(
        tmp_path / "ws", {"a/b/f": "x", "ca.pem": "-----BEGIN CERTIFICATE-----\n", ".overlaywsignore": "x\n"}
    )
    paths = ["a", "a/b", "a/b/f", "ca.pem", ".overlaywsignore", "."]
    for path in paths:
        os.utime(ws / path, (1, 2))
    build(tmp_path)
    fd = os.open(ws, os.O_RDONLY | os.O_NOATIME)
    assert {path: os.stat(path, dir_fd=fd).st_atime_ns for path in paths} == dict.fromkeys(paths, 10**9)
    os.close(fd)


@pytest.mark.parametrize("by", ["nothing", "a file", "a link"])
def test_a_directory_that_goes_while_the_workspace_is_read_is_not_there(tmp_path: Path, by: str) -> None:
    """And nor is what was in it; what stands in its place is seen by the next start."""
    ws = make_tree(tmp_path / "ws", {"a/x": "x\n", "b/deep/x": "x\n", "b/link": Symlink("deep"), "outside": "x\n"})
    (tmp_path / "base").mkdir()

    def progress(what: str, done: int, total: int) -> None:
        if done == 3:  # the names at the top are known
            shutil.rmtree(ws / "b")
            if by == "a file":
                (ws / "b").write_text("x")
            elif by == "a link":
                (ws / "b").symlink_to("/etc")

    base = build_base(ws, tmp_path / "base", load_filter(ws), progress)
    assert set(read_tree(base.lowerdir)) == {"a", "a/x", "outside"}
    with Manifest(base.manifest) as manifest:
        assert {row[0] for row in manifest.stored()} == {b"a", b"a/x", b"outside"}
