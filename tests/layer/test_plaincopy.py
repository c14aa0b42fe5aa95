"""The copy backend: a private copy, compared without trusting what the program can set, captured all or nothing."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from overlayws.layer import difference, plaincopy, stamps
from overlayws.layer.mount import MountError
from overlayws.source.remove import remove_tree
from tests.layer.conftest import Case, make_layer
from tests.layer.uppers import plain_tree, shown_together, upper_tree
from tests.trees import Dir, File, Symlink, make_tree, read_tree


def captured(case: Case) -> dict[str, object]:
    return upper_tree(case.layer.upperdir, case.prefix)


def test_the_copy_is_private_and_alike(copied: Case) -> None:
    tree = {
        "x": File(b"#!", 0o755),
        "ro": Dir(0o555),
        "l": Symlink("nowhere"),
        "a": File(b"", 0o600, (("user.n", b"v"),)),
    }
    make_tree(copied.layer.lowerdir, tree)
    os.utime(copied.layer.lowerdir / "x", ns=(5, 123456789))
    with copied.mounted() as mount:
        assert mount.enter == ()
        assert read_tree(mount.merged) == read_tree(copied.layer.lowerdir)
        assert (mount.merged / "x").stat().st_mtime_ns == 123456789
        assert (mount.merged / "x").stat().st_ino != (copied.layer.lowerdir / "x").stat().st_ino


def test_holes_stay_holes_on_the_way_in_and_out(copied: Case) -> None:
    with open(copied.layer.lowerdir / "sparse", "wb") as f:
        f.truncate(1 << 30)
    code = "print(os.stat('sparse').st_blocks); os.truncate('f', 1 << 40)"
    assert int(copied.run(code)) < 1000
    assert (copied.layer.upperdir / "f").stat().st_size == 1 << 40
    assert (copied.layer.upperdir / "f").stat().st_blocks < 1000


def test_untouched_files_are_not_read_again(copied: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    same = difference._Comparison._same

    def counting(self: object, name: str, *rest: object) -> bool:
        compared.append(name)
        return same(self, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(difference._Comparison, "_same", counting)
    copied.run("os.utime('f')")
    assert compared == ["f"] or not stamps.trustworthy(copied.layer.workdir, 0)
    assert captured(copied) == {}


def test_where_ctime_tells_nothing_contents_are_compared(monkeypatch: pytest.MonkeyPatch, copied: Case) -> None:
    monkeypatch.setattr(plaincopy, "trustworthy", lambda directory, newest: False)
    copied.run("open('f', 'w').write('new\\n')")
    assert captured(copied)["f"][3] == b"new\n"  # type: ignore[index]


MAPPED = """
import mmap
st = os.stat('f')
with open('f', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
    m[0]  # read first
    m[0:3] = b'map'
"""


def test_a_write_through_a_mapping_that_sets_no_time_is_captured(place: Path) -> None:
    case = Case("copy", make_layer(place / "layer"))
    case.run(MAPPED + "os.utime('f', ns=(st.st_atime_ns, st.st_mtime_ns))")
    assert captured(case)["f"][3] == b"map\n"  # type: ignore[index]
    # Without the last line of the program, nothing about the file says that it changed on a tmpfs.
    other = Case("copy", make_layer(place / "other"))
    other.run(MAPPED)
    assert captured(other)["f"][3] == b"map\n"  # type: ignore[index]


def test_an_edit_right_after_the_copy_has_another_ctime(copied: Case) -> None:
    with copied.mounted() as mount:
        path = mount.merged / "f"
        before = path.stat()
        path.write_text("0ld\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert captured(copied)["f"][3] == b"0ld\n"  # type: ignore[index]


def test_two_files_of_equal_size_and_time_swapped_are_captured(copied: Case) -> None:
    make_tree(copied.layer.lowerdir, {"a": "aaaa", "b": "bbbb"})
    for name in "ab":
        os.utime(copied.layer.lowerdir / name, ns=(1, 1))
    copied.run("os.rename('a', 't'); os.rename('b', 'a'); os.rename('t', 'b')")
    upper = captured(copied)
    assert (upper["a"][3], upper["b"][3]) == (b"bbbb", b"aaaa")  # type: ignore[index]


def test_the_programs_devices_are_special_files_not_deletions(copied: Case) -> None:
    copied.run("os.unlink('f'); os.mknod('f', 0o020644, 0); os.mkfifo('d/p')")
    upper = captured(copied)
    assert upper["f"] == ("special", "char-device 0:0")
    assert upper["d/p"] == ("special", "p")
    assert stat.S_ISREG((copied.layer.upperdir / "f").stat().st_mode)


def test_where_devices_are_refused_whiteouts_are_attributes(copied: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **keywords: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(difference.os, "mknod", refused)
    copied.run("os.unlink('f'); os.unlink('d/x')")
    monkeypatch.undo()
    upper = captured(copied)
    assert (upper["f"], upper["d/x"]) == ("whiteout", "whiteout")
    assert os.getxattr(copied.layer.upperdir / "d", "user.overlay.opaque") == b"x"
    remove_tree(copied.layer.merged)  # made anew from lowerdir and upperdir
    assert copied.run("print(os.listdir('.'), os.listdir('d'))") == "['d'] ['y']"


def test_modes_that_the_program_took_away_are_captured_and_stay(copied: Case) -> None:
    code = """
os.makedirs('closed/below'); open('closed/below/file', 'w').write('c')
os.chmod('closed/below/file', 0); os.chmod('closed/below', 0o300); os.chmod('closed', 0); os.chmod('f', 0)
"""
    copied.run(code)
    upper = captured(copied)
    assert upper["closed"][1] == 0  # type: ignore[index]
    assert upper["closed/below"][1] == 0o300  # type: ignore[index]
    assert upper["closed/below/file"][1:] == (0, {}, b"c")  # type: ignore[index]
    assert upper["f"][1:] == (0, {}, b"old\n")  # type: ignore[index]
    assert stat.S_IMODE((copied.layer.merged / "closed").stat().st_mode) == 0
    assert copied.run("print(oct(os.stat('closed').st_mode & 0o777), oct(os.stat('f').st_mode & 0o777))") == "0o0 0o0"


def test_discarded_changes_do_not_come_back(copied: Case) -> None:
    copied.run("open('new', 'w').write('n'); os.unlink('f'); open('d/x', 'w').write('edited')")
    (copied.layer.upperdir / "new").unlink()
    (copied.layer.upperdir / "f").unlink()
    assert copied.run("print(sorted(os.listdir('.')), open('d/x').read())") == "['d', 'f'] edited"
    assert set(captured(copied)) == {"d", "d/x"}


def test_the_copy_made_anew_is_what_it_was(copied: Case) -> None:
    code = """
import shutil
shutil.rmtree('d'); os.mkdir('d'); open('d/z', 'w').write('z'); os.setxattr('d', 'user.overlay.opaque', b'mine')
os.unlink('f'); os.mkdir('f'); os.symlink('x', 'l'); os.mkfifo('p'); os.chmod('d', 0o711); os.chmod('.', 0o750)
"""
    copied.run(code)
    before = read_tree(copied.layer.merged), captured(copied)
    remove_tree(copied.layer.merged)
    with copied.mounted() as mount:
        assert read_tree(mount.merged) == before[0]
        assert stat.S_IMODE(mount.merged.stat().st_mode) == 0o750
    assert captured(copied) == before[1]


@pytest.mark.userns
def test_an_upperdir_that_a_mount_wrote_can_go_on_as_a_copy(copied: Case) -> None:
    mounted = Case("userns", copied.layer)
    mounted.run("os.unlink('d/x'); os.unlink('d/y'); os.rmdir('d'); os.mkdir('d'); open('f', 'w').write('1')")
    assert copied.run("print(os.listdir('d'), open('f').read()); open('g', 'w').write('2')") == "[] 1"
    assert mounted.run("print(sorted(os.listdir('.')), os.listdir('d'))") == "['d', 'f', 'g'] []"


def test_a_copy_that_could_not_be_made_is_not_taken_for_one(copied: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    copied.run("open('f', 'w').write('1')")
    remove_tree(copied.layer.merged)

    def no_space(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(plaincopy, "fill", no_space)
    with pytest.raises(MountError, match="cannot make a private copy at .*: No space left on device"):
        copied.run("")
    # Whether the new directory has the inode of the old one is chance, so the record itself must be gone.
    assert not (copied.layer.workdir / "stamps").exists()
    monkeypatch.undo()
    assert copied.run("print(open('f').read())") == "1"


def test_without_exchange_the_upperdir_is_replaced_all_the_same(copied: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoExchange:
        syncfs = plaincopy._libc.syncfs

        @staticmethod
        def renameat2(*arguments: object) -> int:
            return int(plaincopy.ctypes.set_errno(errno.EINVAL) or 1)

    monkeypatch.setattr(plaincopy, "_libc", NoExchange)
    copied.run("open('f', 'w').write('1')")
    copied.run("open('f', 'w').write('2')")
    assert captured(copied)["f"][3] == b"2"  # type: ignore[index]
    os.rename(
        copied.layer.upperdir, copied.layer.upperdir.with_name(".upper-replaced")
    )  # as a crash between two renames leaves it
    assert copied.run("print(open('f').read())") == "2"
    assert captured(copied)["f"][3] == b"2"  # type: ignore[index]


def test_a_capture_without_space_keeps_the_old_upperdir_and_names_the_path(
    copied: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied.run("open('f', 'w').write('1')")
    full = difference.put_file

    def no_space(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(difference, "put_file", no_space)
    with pytest.raises(MountError, match="cannot capture .*merged/d/x: No space left on device"):
        copied.run("open('d/x', 'w').write('2')")
    assert set(captured(copied)) == {"f"}
    monkeypatch.setattr(difference, "put_file", full)
    with copied.mounted():
        pass
    assert set(captured(copied)) == {"f", "d", "d/x"}


def test_an_attribute_that_does_not_fit_escaped_is_named_not_lost(copied: Case) -> None:
    long = "user.overlay." + "n" * 242
    with pytest.raises(MountError, match="cannot capture .*merged/d/x: "):
        copied.run(f"os.setxattr('d/x', '{long}', b'v')")
    copied.layer.merged.joinpath("d/x").unlink()
    with copied.mounted():
        pass
    assert captured(copied)["d/x"] == "whiteout"


def test_a_directory_moved_away_while_it_is_read_cannot_lead_out(copied: Case, tmp_path: Path) -> None:
    from overlayws.layer.cursor import Cursor

    make_tree(tmp_path / "top", {"a/b/x": "x"})
    make_tree(tmp_path / "out", {"secret": "s"})
    with Cursor(tmp_path / "top") as cursor:
        cursor.down("a")
        cursor.down("b")
        os.rename(tmp_path / "top/a/b", tmp_path / "out/b")
        with pytest.raises(OSError, match="moved"):
            cursor.up()


def test_no_descriptor_is_left_open(copied: Case) -> None:
    before = os.listdir("/proc/self/fd")
    copied.run("os.makedirs('a/b/c'); os.unlink('f')")
    assert os.listdir("/proc/self/fd") == before


def test_upper_and_lower_together_are_merged_after_random_operations(tmp_path: Path) -> None:
    import random

    for seed in range(20):
        rng = random.Random(seed)
        tree = {f"{a}/{b}/{c}": f"{a}{b}{c}" for a in "pqr" for b in "st" for c in "uvw"}
        case = Case("copy", make_layer(tmp_path / str(seed), tree))  # type: ignore[arg-type]
        for _ in range(3):
            with case.mounted() as mount:
                for _ in range(25):
                    _anything(rng, mount.merged)
                merged = plain_tree(mount.merged)
            assert shown_together(plain_tree(case.layer.lowerdir), captured(case)) == merged, f"seed {seed}"
        remove_tree(tmp_path / str(seed))


def _anything(rng: object, root: Path) -> None:
    import random

    assert isinstance(rng, random.Random)
    path = root.joinpath(*(rng.choice(names) for names in ("pqr", "st", "uvw")[: rng.randint(1, 3)]))
    try:
        match rng.randrange(6):
            case 0:
                path.write_text(rng.choice(["one", "two", "pst"]))
            case 1:
                path.unlink()
            case 2:
                shutil.rmtree(path)
            case 3:
                path.mkdir()
            case 4:
                path.symlink_to("x")
            case 5:
                path.rename(root.joinpath(*(rng.choice(names) for names in ("pqr", "st", "uvw")[: rng.randint(1, 3)])))
    except OSError:
        pass
