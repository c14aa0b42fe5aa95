"""One contract, every backend: what the program did is in the upperdir, in one format, whoever wrote it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from overlayws.layer.all_backends import BACKENDS
from overlayws.layer.mount import Layer, MountError
from overlayws.source.remove import remove_tree
from tests.layer.conftest import PYTHON, Case, backend_params, make_layer, run_in
from tests.layer.operations import LINK, LOWER, OPERATIONS
from tests.layer.uppers import Upper, attributes, plain_tree, shown_together, upper_tree
from tests.trees import Symlink, read_tree, stamps

SCRIPT = Path(__file__).with_name("operations.py")
READ = "import json; from pathlib import Path; sys.path.insert(0, sys.argv[1]); "


@dataclass(frozen=True)
class Done:
    """What all operations left behind."""

    name: str
    errors: dict[str, str | None]
    lower: Upper
    upper: Upper
    merged: Upper


@pytest.fixture(scope="module", params=backend_params())
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """Every operation, each in a directory of its own, in one entry."""
    top = tmp_path_factory.mktemp("operations")
    tree = {f"{name}/{path}": text for name in OPERATIONS for path, text in LOWER.items()}
    tree |= {f"{name}/{LINK[0]}": Symlink(LINK[1]) for name in OPERATIONS}
    layer = make_layer(top, tree)
    before = read_tree(layer.lowerdir), stamps(layer.lowerdir)
    case = Case(request.param, layer)
    with case.mounted() as mount:
        ran = subprocess.run([*mount.enter, *PYTHON, SCRIPT], cwd=mount.merged, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        # The mount goes with each process: what a second entry reads is what the next run will see.
        root = Path(__file__).resolve().parents[2]
        read = READ + "from tests.layer.uppers import plain_tree; sys.stdout.write(repr(plain_tree(Path('.'))))"
        merged = eval(run_in(mount, read.replace("-S", ""), root))
    assert (read_tree(layer.lowerdir), stamps(layer.lowerdir)) == before, "the lowerdir was changed"
    yield Done(
        request.param,
        json.loads(ran.stdout),
        plain_tree(layer.lowerdir),
        upper_tree(layer.upperdir, case.prefix),
        merged,
    )
    remove_tree(top)


def below(tree: Upper, top: str) -> Upper:
    return {path[len(top) + 1 :]: said for path, said in tree.items() if path.startswith(top + "/")}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_lowerdir_and_upperdir_together_are_what_the_program_saw(done: Done, operation: str) -> None:
    lower, upper, merged = (below(tree, operation) for tree in (done.lower, done.upper, done.merged))
    if done.name == "copy":  # a private copy has the devices themselves
        upper = {p: ("special", "c") if s == ("special", "char-device 0:0") else s for p, s in upper.items()}
        merged = {p: ("special", "c") if s == "whiteout" else s for p, s in merged.items()}
    assert shown_together(lower, upper) == merged
    expected = "copy" != done.name and operation == "rename_lower_directory"
    assert bool(done.errors[operation]) == expected, done.errors[operation]


NOTHING = ("nothing", "create_and_delete")
WHITEOUTS = {
    "unlink": {"f"},
    "rm_r": {"d"},
    "rename_file": {"f"},
    "move_directory": {"d"},
    "rename_over": {"f"},
}
OPAQUE = {"rm_r_and_mkdir": {"d"}, "file_to_directory": {"f"}}


@pytest.mark.parametrize("operation", NOTHING)
def test_what_changes_nothing_leaves_nothing(done: Done, operation: str) -> None:
    assert below(done.upper, operation) == {}


@pytest.mark.parametrize("operation", WHITEOUTS)
def test_deletions_are_whiteouts_at_the_top_of_what_is_gone(done: Done, operation: str) -> None:
    upper = below(done.upper, operation)
    assert {path for path, said in upper.items() if said == "whiteout"} == WHITEOUTS[operation]


@pytest.mark.parametrize("operation", OPAQUE)
def test_replaced_directories_are_opaque(done: Done, operation: str) -> None:
    upper = below(done.upper, operation)
    assert {path for path, said in upper.items() if said[0] == "dir" and said[3]} == OPAQUE[operation]


@pytest.mark.parametrize("operation", ["edit_with_size_and_mtime_set_back", "edit_by_mapping_with_mtime_set_back"])
def test_an_edit_with_size_and_mtime_set_back_is_captured(done: Done, operation: str) -> None:
    assert below(done.upper, operation)["f"][3] in (b"0ld\n", b"map\n")


def test_spoofed_marks_are_the_programs_attributes_and_hide_nothing(done: Done) -> None:
    upper = below(done.upper, "spoofed_marks")
    assert "whiteout" not in upper.values()
    assert not any(said[0] == "special" or (said[0] == "dir" and said[3]) for said in upper.values())
    assert upper["empty"] == below(done.merged, "spoofed_marks")["empty"]


def test_a_forged_whiteout_deletes_nothing(done: Done) -> None:
    upper = below(done.upper, "forged_whiteout")
    if done.name == "copy":
        assert upper["f"] == upper["d/x2"] == ("special", "char-device 0:0")
    else:
        assert upper == {}  # overlayfs refused the first


def test_a_second_entry_sees_what_the_first_wrote(case: Case) -> None:
    case.run("open('f', 'w').write('1'); os.unlink('d/x')")
    assert case.run("print(open('f').read(), os.listdir('d')); open('f', 'a').write('2')") == "1 ['y']"
    assert (case.layer.upperdir / "f").read_text() == "12"


def test_entering_and_leaving_changes_nothing(case: Case) -> None:
    with case.mounted():
        pass
    assert upper_tree(case.layer.upperdir, case.prefix) == {}


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o2775, 0o555])
def test_the_merged_root_has_the_mode_and_attributes_of_the_lower_root(case: Case, mode: int) -> None:
    os.setxattr(case.layer.lowerdir, "user.note", b"n")
    os.chmod(case.layer.lowerdir, mode)
    assert case.run("print(oct(os.stat('.').st_mode & 0o7777), os.getxattr('.', 'user.note'))") == f"{mode:#o} b'n'"
    assert os.stat(case.layer.upperdir).st_mode & 0o7777 == mode


def test_a_changed_root_stays_as_the_program_left_it(case: Case) -> None:
    case.run("os.chmod('.', 0o711)")
    assert case.run("print(oct(os.stat('.').st_mode & 0o7777))") == "0o711"
    assert os.stat(case.layer.upperdir).st_mode & 0o7777 == 0o711


def test_a_lower_directory_without_write_permission_can_be_opened_up_and_written(case: Case) -> None:
    os.chmod(case.layer.lowerdir / "d", 0o555)
    case.run("open('d/x', 'a').write('more'); os.chmod('d', 0o755); open('d/new', 'w').close()")
    os.chmod(case.layer.lowerdir / "d", 0o755)
    upper = upper_tree(case.layer.upperdir, case.prefix)
    assert upper["d/x"][3] == b"x\nmore"
    assert upper["d/new"][3] == b""


ODD = (
    "colon:comma,back\\slash",
    "trailing\\",
    "space and\nnewline",
    "\"quote'",
    "=#%",
    os.fsdecode(b"\xff\xfe not utf-8"),
    "n" * 255,
)


@pytest.mark.parametrize("name", ODD)
def test_a_layer_may_be_at_any_path(tmp_path: Path, name: str) -> None:
    for backend in BACKENDS:
        if BACKENDS[backend].unusable(tmp_path) is None:
            case = Case(backend, make_layer(tmp_path / backend / name))
            at = tmp_path / backend / "at" / name
            at.mkdir(parents=True)
            assert case.run("open('f', 'w').write('new'); print(os.listdir('d'))", at=at) == "['x', 'y']"
            assert (case.layer.upperdir / "f").read_text() == "new"
            remove_tree(tmp_path / backend)


def test_a_layer_may_be_at_a_path_of_3900_bytes(case: Case, tmp_path: Path) -> None:
    name = "a,:\\ é"
    top = tmp_path / "long"
    while len(os.fsencode(top)) < 3700:
        top = top / (name * 20)
    top = top / ("x" * (3890 - len(os.fsencode(top))))
    long = Case(case.name, make_layer(top))
    assert len(os.fsencode(long.layer.lowerdir)) > 3890
    assert long.run("open('f', 'w').write('new'); print(os.listdir('d'))") == "['x', 'y']"
    assert (long.layer.upperdir / "f").read_text() == "new"
    remove_tree(tmp_path / "long")


def test_a_layer_may_be_on_a_disk_or_in_memory(place: Path) -> None:
    for name in BACKENDS:
        if BACKENDS[name].unusable(place) is None:
            case = Case(name, make_layer(place / name))
            case.run("open('f', 'a').write('new'); os.unlink('d/x'); os.unlink('d/y'); os.rmdir('d'); os.mkdir('d')")
            upper = upper_tree(case.layer.upperdir, case.prefix)
            assert upper["f"][3] == b"old\nnew"
            assert upper["d"][3] is True


def test_a_tree_of_1200_levels_is_captured(case: Case) -> None:
    deep = """
for _ in range(1200):
    os.mkdir("n" * 50); os.chdir("n" * 50)
open("bottom", "w").write("here")
"""
    case.run(deep)
    depth, fd = 0, os.open(case.layer.upperdir, os.O_RDONLY)
    while (names := os.listdir(fd)) == ["n" * 50]:
        below = os.open(names[0], os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        depth, fd = depth + 1, below
    os.close(fd)
    assert (depth, names) == (1200, ["bottom"])
    deeper = case.run("while 'n' * 50 in os.listdir('.'): os.chdir('n' * 50)\nprint(open('bottom').read())")
    assert deeper == "here"


def test_a_layer_has_one_user_at_a_time(case: Case) -> None:
    with case.mounted(), pytest.raises(MountError, match="in use"), case.mounted():
        pass


@pytest.mark.parametrize("missing", ["lowerdir", "upperdir"])
def test_a_layer_that_cannot_be_mounted_is_one_clear_line(case: Case, missing: str) -> None:
    directory = getattr(case.layer, missing)
    remove_tree(directory)
    directory.write_text("no directory")
    with pytest.raises(MountError) as raised:
        case.run("")
    assert "\n" not in raised.value.message
    assert str(case.layer.merged.parent) in raised.value.message


def test_attributes_of_the_program_are_kept(case: Case) -> None:
    case.run("os.setxattr('f', 'user.note', b'n'); os.setxattr('d', 'user.overlay.opaque', b'y')")
    assert attributes(case.layer.upperdir / "f", case.prefix) == {"user.note": b"n"}
    assert attributes(case.layer.upperdir / "d", case.prefix) == {"user.overlay.opaque": b"y"}
    assert case.run("print(os.getxattr('d', 'user.overlay.opaque'), sorted(os.listdir('d')))") == "b'y' ['x', 'y']"


def test_a_missing_parent_directory_is_an_error_of_ours(tmp_path: Path) -> None:
    for backend in BACKENDS.values():
        layer = Layer(*(tmp_path / "none" / name for name in ("lower", "upper", "work", "merged")))
        with pytest.raises(MountError), backend.mounted(layer):
            pass
