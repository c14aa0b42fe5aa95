"""An upperdir on a tape and back, and tapes that no writer of ours wrote."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayws.layer.pack import pack
from overlayws.layer.tape import BLOCK, OPAQUE, End, Forged, Member, Reader, Truncated, Writer
from overlayws.layer.unpack import Most, Unpacked, unpack
from overlayws.layer.whiteout import TRUSTED_PREFIX, Marks

MARKS = Marks(TRUSTED_PREFIX)
KEY = bytes(range(32))
MOST = Most(10_000, 1 << 30)
TOP = Member(b"", "directory", 0o755)
pytestmark = pytest.mark.root  # of whiteouts and trusted attributes


def taped(*members: Member | tuple[Member, bytes], key: bytes = KEY, end: str = "final") -> bytes:
    """What a writer that knows the key can write; a file with a content is a pair."""
    out = io.BytesIO()
    to = Writer(out.write, key)
    for one in members:
        member, content = one if isinstance(one, tuple) else (one, b"")
        to.member(member)
        to.raw(content)
        to.pad(len(content))
    to.end(end)
    return out.getvalue()


def reading(data: bytes) -> Callable[[int], bytes]:
    stream = io.BytesIO(data)

    def exactly(number: int) -> bytes:
        found = stream.read(number)
        if len(found) < number:
            raise Truncated("no more")
        return found

    return exactly


def unpacked(data: bytes, tmp_path: Path, most: Most = MOST, key: bytes = KEY) -> Unpacked:
    (tmp_path / "new").mkdir(mode=0o700)
    return unpack(Reader(reading(data), key), tmp_path / "new", MARKS, most)


def described(top: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        st = path.lstat()
        what: object = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else st.st_rdev
        xattrs = {name: os.getxattr(path, name, follow_symlinks=False)
                  for name in os.listxattr(path, follow_symlinks=False)}  # fmt: skip
        times = () if stat.S_ISCHR(st.st_mode) else (st.st_mtime_ns,) if not path.is_socket() else ()
        links = st.st_nlink if path.is_file() else 0
        found[os.fsdecode(path.relative_to(top))] = (st.st_mode, links, what, sorted(xattrs.items()), *times)
    return found


def test_every_kind_of_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "opaque/deep").mkdir(parents=True)
    os.setxattr(upper / "opaque", OPAQUE, b"y")
    os.mknod(upper / "gone", stat.S_IFCHR, os.makedev(0, 0))
    (upper / "file").write_bytes(b"content")
    os.setxattr(upper / "file", "user.a=b%", b"\0value\n")
    os.link(upper / "file", upper / "opaque/deep/link")
    os.symlink("../anywhere/at all", upper / "symlink")
    os.mkfifo(upper / "fifo", 0o640)
    (upper / "device").write_bytes(b"")
    os.setxattr(upper / "device", "trusted.overlay.special", b"char-device 1:3")
    os.utime(upper / "device", (7, 7))
    (upper / os.fsdecode(b"byte\xff\n")).write_bytes(b"")
    (upper / ("n" * 255)).write_bytes(bytes(600))
    with open(upper / "holes", "wb") as file:
        file.truncate(40 << 20)
        file.seek(20 << 20)
        file.write(b"in the middle")
    os.chmod(upper / "file", 0o6711)
    os.utime(upper / "symlink", ns=(5, -1_500_000_000), follow_symlinks=False)
    os.utime(upper / "opaque", ns=(5, 1_234_567_890_123_456_789))
    os.chmod(upper / "opaque", 0)
    os.chmod(upper, 0o751)
    out = io.BytesIO()
    to = Writer(out.write, KEY)
    pack(upper, MARKS, to)
    to.end("final", 77)
    assert len(out.getvalue()) < 3 << 20  # of the 40 MiB with a hole, the one MiB that holds something
    assert unpacked(out.getvalue(), tmp_path).end == End("final", 12, 77)
    before, after = described(upper), described(tmp_path / "new")
    assert after == before
    assert (tmp_path / "new/holes").lstat().st_blocks * 512 < 4 << 20


def test_gnu_tar_extracts_the_same(tmp_path: Path) -> None:
    sparse = Member(b"d/sparse", "file", 0o644, size=5000, segments=((0, 512), (4096, 2)))
    directory = Member(b"d", "directory", 0o700, xattrs=((OPAQUE, b"y"),))
    data = taped(TOP, directory, (Member(b"d/f", "file", 0o600, size=3), b"abc"), (sparse, b"a" * 512 + b"XY"),
                 Member(b"d/gone", "whiteout"), Member(b"l", "symlink", target=b"d/f"))  # fmt: skip
    words = ["tar", "--extract", "--xattrs", "--xattrs-include=*"]
    done = subprocess.run(
        words, input=data[: -4 * BLOCK] + bytes(2 * BLOCK), cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "d/f").read_bytes() == b"abc" and os.readlink(tmp_path / "l") == "d/f"
    assert (tmp_path / "d/sparse").read_bytes() == b"a" * 512 + bytes(3584) + b"XY" + bytes(902)
    st = (tmp_path / "d/gone").lstat()
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == 0
    assert os.getxattr(tmp_path / "d", OPAQUE) == b"y"


OUT = Member(b"d", "symlink", target=b"..")
DIRECTORY = Member(b"d", "directory", 0o755)
FILE = Member(b"f", "file", 0o644)


@pytest.mark.parametrize("members", [
    (Member(b"../x", "file"),), (Member(b"/x", "file"),), (Member(b"d/../x", "file"),), (Member(b"x\0", "file"),),
    (Member(b"./x", "file"),), (Member(b"x/", "directory"),), (Member(b"n" * 256, "file"),), (TOP,),
    (OUT, Member(b"d/x", "file")), (FILE, Member(b"f/x", "file")), (Member(b"d/x", "file"),),
    (DIRECTORY, FILE, Member(b"d/x", "file")),  # left before: its mode is set already
    (FILE, FILE), (FILE, Member(b"f", "directory")), (OUT, Member(b"d", "directory"), Member(b"d/x", "file")),
    (FILE, Member(b"f", "symlink", target=b"x")), (DIRECTORY, Member(b"d", "whiteout")),
    (Member(b"l", "link", target=b"../upper/f"),), (Member(b"l", "link", target=b"/etc/passwd"),),
    (OUT, Member(b"l", "link", target=b"d/outside")), (Member(b"l", "link", target=b"none"),),
    (OUT, Member(b"l", "link", target=b"d")), (DIRECTORY, Member(b"l", "link", target=b"d")),
    (Member(b"w", "whiteout"), Member(b"l", "link", target=b"w")),
    (Member(b"f", "file", xattrs=(("security.capability", b"x"),)),),
    (Member(b"d", "directory", xattrs=(("trusted.overlay.redirect", b"/etc"),)),),
    (Member(b"d", "directory", xattrs=((OPAQUE, b"x"),)),), (Member(b"f", "file", xattrs=((OPAQUE, b"y"),)),),
    (Member(b"f", "file", size=10, segments=((5, 4), (0, 2))),),
    (Member(b"f", "file", size=10, segments=((0, 4), (3, 2))),),
    (Member(b"f", "file", size=10, segments=((8, 4),)),), (Member(b"f", "file", size=10, segments=((0, 0),)),),
    (Member(b"f", "device", target=b"char-device 1:1\n"),), (Member(b"f", "device", target=b"/etc/passwd"),),
])  # fmt: skip
def test_a_member_that_reaches_for_something_else_ends_the_tape(members: tuple[Member, ...], tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret\n")
    # Also where the program knew the key: what it holds is as hostile as any file.
    pairs = [(member, bytes(member.stored)) for member in members]
    with pytest.raises(Forged):
        unpacked(taped(TOP, *pairs), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["new", "outside"]
    assert (tmp_path / "outside").read_text() == "secret\n" and (tmp_path / "outside").stat().st_nlink == 1


@pytest.mark.parametrize("kind, device", [
    (b"3", b"0000001\0" * 2), (b"4", b"0000010\0" * 2), (b"7", None), (b"L", None), (b"S", None), (b"3", None),
])  # fmt: skip
def test_no_device_is_made_but_a_whiteout(kind: bytes, device: bytes | None, tmp_path: Path) -> None:
    good = taped(TOP, Member(b"w", "whiteout"))
    at = good.index(b"entry\0", good.index(b"path=w\n")) // BLOCK * BLOCK
    block = bytearray(good[at : at + BLOCK])
    block[156:157] = kind
    block[329:345] = device or bytes(16)
    block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 256)
    with pytest.raises(Forged):
        unpacked(good[:at] + bytes(block) + good[at + BLOCK :], tmp_path)
    assert os.listdir(tmp_path / "new") == []


def test_more_than_was_allowed_is_refused_before_it_is_written(tmp_path: Path) -> None:
    huge = taped(TOP, Member(b"f", "file", size=1 << 50))
    with pytest.raises(Forged, match="bytes"):
        unpacked(huge, tmp_path, Most(10, 1 << 20))
    assert os.listdir(tmp_path / "new") == []
    many = taped(TOP, *(Member(b"%d" % number, "file") for number in range(50)))
    (tmp_path / "new").rmdir()
    with pytest.raises(Forged, match="more than 10 files"):
        unpacked(many, tmp_path, Most(10, 1 << 20))
    assert len(os.listdir(tmp_path / "new")) == 9


def test_an_end_that_is_missing_early_or_not_ours_is_none(tmp_path: Path) -> None:
    good = taped(TOP, (Member(b"f", "file", size=5), b"hello"), (Member(b"g", "file", size=5), b"world"))
    short = taped(TOP, (Member(b"f", "file", size=5), b"hello"))
    other = taped(TOP, (Member(b"f", "file", size=5), b"hello"), key=b"another")
    assert good[: len(short) - 4 * BLOCK] == short[: -4 * BLOCK]  # all but the end mark
    end = good[-4 * BLOCK :]
    early = short[: -4 * BLOCK] + end
    for number, data in enumerate((good[:-1], good[: -4 * BLOCK], good[: 5 * BLOCK], early, other, b"", end)):
        (tmp_path / str(number)).mkdir()
        with pytest.raises((Forged, Truncated)):
            unpacked(data, tmp_path / str(number))


def test_a_second_tape_that_repeats_the_first_is_not_ours(tmp_path: Path) -> None:
    """So what a checkpoint said cannot be said again later."""
    first = taped(TOP, FILE, end="checkpoint")
    reader = Reader(reading(first + first), KEY)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert unpack(reader, tmp_path / "one", MARKS, MOST).end == End("checkpoint", 2, 0)
    with pytest.raises(Forged):
        unpack(reader, tmp_path / "two", MARKS, MOST)


def test_a_byte_that_was_changed_anywhere_is_noticed(tmp_path: Path) -> None:
    sparse = Member(b"s", "file", 0o644, size=5000, segments=((0, 3), (4000, 2)))
    good = taped(TOP, (Member(b"f", "file", 0o644, 1, 5, xattrs=(("user.x", b"1"),)), b"hello"), (sparse, b"oneXY"))
    assert unpacked(good, tmp_path).end is not None
    for at in range(0, len(good), 13):
        place = tmp_path / str(at)
        place.mkdir()
        data = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises((Forged, Truncated)):
            unpacked(data, place)


def test_a_file_that_shrinks_and_a_directory_that_moves_while_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper/f").write_bytes(b"x" * 100)
    out = io.BytesIO()

    def write(data: bytes) -> None:
        out.write(data)
        os.truncate(tmp_path / "upper/f", 10)

    to = Writer(write, KEY)
    pack(tmp_path / "upper", MARKS, to, alive=True)
    to.end("checkpoint")
    assert unpacked(out.getvalue(), tmp_path).end is not None
    assert len((tmp_path / "new/f").read_bytes()) in (10, 100)


def test_more_names_than_a_file_can_have_here_are_told_and_the_rest_is_kept(tmp_path: Path) -> None:
    most = os.pathconf(tmp_path, "PC_LINK_MAX")
    if not 0 < most <= 65_000:
        pytest.skip(f"a file can have {most} names here")
    links = (Member(b"l%d" % n, "link", target=b"f") for n in range(most + 1))
    found = unpacked(taped(TOP, (Member(b"f", "file", 0o644, size=1), b"x"), *links), tmp_path, Most(1 << 20, 1 << 20))
    assert found.unsaved == [repr(f"l{n}") for n in (most - 1, most)]
    assert (tmp_path / "new/f").stat().st_nlink == most
