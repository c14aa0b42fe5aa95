"""An upperdir on a file system of its own: exactly as large as was said, and what is in it comes back whole, whatever
is killed at whatever step."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayws import beneath
from overlayws.errors import NotStartedError, UntrustedError
from overlayws.layer import bounded, image, kernel, loop
from overlayws.layer.mount import Layer, MountError
from overlayws.layer.replica import replicate
from overlayws.layer.room import IMAGE, Room
from overlayws.source.remove import remove_tree
from tests.layer.conftest import make_layer, run_in
from tests.layer.uppers import upper_tree

pytestmark = [pytest.mark.root, pytest.mark.kernel, pytest.mark.loop]
PREFIX = kernel.XATTR_PREFIX
ROOM = Room(4 << 20, 300)


@pytest.fixture
def layer(tmp_path: Path) -> Iterator[Layer]:
    yield make_layer(tmp_path / "layer")
    remove_tree(tmp_path / "layer")


def written(layer: Layer) -> dict[str, object]:
    return upper_tree(layer.upperdir, PREFIX)


def devices() -> list[str]:
    """The files in this machine's loop devices."""
    return [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]


PIPED = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}


def run_in_space(layer: Layer | None) -> None:
    assert layer
    (layer.upperdir / "new").write_text("n")


# -- the file system ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "files"), [
    (1 << 20, 16), (1 << 20, 200_000), ((1 << 20) + 1, 1024), (300_000_000, 500), (1 << 30, 262_144), (9 << 30, 1000),
])  # fmt: skip
def test_there_is_room_for_exactly_what_was_said(size: int, files: int, tmp_path: Path) -> None:
    made = tmp_path / "image"
    image.make(made, Room(size, files))
    with loop.mounted(made) as top:
        image.prepare(top)
        image.bound(top, Room(size, files))
        found = image.free(top)
        flags = os.statvfs(top).f_flag
    assert found.files == files and size - 2 * image.BLOCK < found.size <= size
    assert flags & os.ST_NOSUID and flags & os.ST_NODEV
    assert made.stat().st_blocks * 512 >= size, "its space outside is not its own"
    made.unlink()


@pytest.mark.parametrize("room", [Room(1 << 60, 16), Room(1 << 20, 1 << 50), Room(1 << 44, 1 << 20)])
def test_more_than_there_is_cannot_be_had(room: Room, tmp_path: Path) -> None:
    with pytest.raises(image.NoImage, match="less than that is free"):
        image.make(tmp_path / "image", room)
    assert not (tmp_path / "image").exists()


def test_nothing_of_a_mount_outlives_its_descriptor(tmp_path: Path) -> None:
    image.make(tmp_path / "image", ROOM)
    program = f"""
import os, sys
from pathlib import Path
from overlayws.layer import loop
with loop.mounted(Path({str(tmp_path / "image")!r})) as top:
    os.close(os.open("file", os.O_CREAT, dir_fd=top))
    print(flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline() == b"\n"
        assert any(str(tmp_path) in line for line in devices())
        assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
        child.kill()
        child.wait()
    with loop.mounted(tmp_path / "image", patience=10) as top:
        assert "file" in os.listdir(f"/proc/self/fd/{top}")
    assert not any(str(tmp_path) in line for line in devices())


def test_one_device_at_a_time_has_the_file(tmp_path: Path) -> None:
    """A second one would have a cache of its own, and a file system of which the first knows nothing."""
    image.make(tmp_path / "image", ROOM)
    with loop.mounted(tmp_path / "image") as one:
        os.close(os.open("unwritten", os.O_CREAT, dir_fd=one))
        with loop.mounted(tmp_path / "image") as other:
            assert os.stat(other).st_dev == os.stat(one).st_dev
            assert "unwritten" in os.listdir(f"/proc/self/fd/{other}")
            assert sum(str(tmp_path) in line for line in devices()) == 1


def test_who_has_the_file_and_is_no_device_is_told_of(tmp_path: Path) -> None:
    import fcntl

    image.make(tmp_path / "image", ROOM)
    with open(tmp_path / "image", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="still in use"), loop.mounted(tmp_path / "image", patience=0.1):
            pass


@pytest.fixture(params=["btrfs", "xfs"])
def other_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system that does not write in place, or need not."""
    (tmp_path / "mounted").mkdir()
    (tmp_path / "disk").touch()
    os.truncate(tmp_path / "disk", 320 << 20)
    subprocess.run([f"mkfs.{request.param}", "-q", tmp_path / "disk"], check=True)
    subprocess.run(["mount", "-o", "loop", tmp_path / "disk", tmp_path / "mounted"], check=True)
    yield tmp_path / "mounted"
    subprocess.run(["umount", "-l", tmp_path / "mounted"], check=True)


@pytest.mark.reflink
def test_what_is_written_has_its_place_whatever_is_full_outside(other_disk: Path) -> None:
    image.make(other_disk / "image", Room(20 << 20, 100))
    with loop.mounted(other_disk / "image") as top:
        fd = os.open("file", os.O_CREAT | os.O_RDWR, dir_fd=top)
        for n in range(100):
            subprocess.run(["fallocate", "-l", "8M", other_disk / f"filler{n}"], check=False, stderr=subprocess.DEVNULL)
        for n in range(4):
            os.pwrite(fd, bytes([n]) * (18 << 20), 0)
            os.fsync(fd)
        os.close(fd)
    with loop.mounted(other_disk / "image", 10) as top:
        fd = os.open("file", os.O_RDONLY, dir_fd=top)
        assert os.read(fd, 18 << 20) == b"\3" * (18 << 20)
        os.close(fd)


# -- the copy -----------------------------------------------------------------------------------------------------


def everything(top: Path) -> None:
    """One of all that an upperdir can hold."""
    top.mkdir()
    (top / "file").write_bytes(b"content")
    os.chmod(top / "file", 0o4751)
    os.setxattr(top / "file", "user.k", b"v" * 1000)
    os.setxattr(top / "file", "trusted.overlay.origin", bytes(range(29)))
    os.setxattr(top / "file", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.utime(top / "file", ns=(10**18 + 1, 10**18 + 123_456_789))
    (top / "closed").mkdir()
    os.setxattr(top / "closed", "trusted.overlay.opaque", b"y")
    os.setxattr(top / "closed", "system.posix_acl_default", bytes.fromhex(
        "0200000001000700ffffffff0200070001000000040005 00ffffffff10000700ffffffff20000500ffffffff".replace(" ", "")
    ))  # fmt: skip
    (top / "closed/plain").write_text("made in it")
    os.removexattr(top / "closed/plain", "system.posix_acl_access")
    os.chmod(top / "closed/plain", 0o640)
    os.chmod(top / "closed", 0)
    os.chown(top / "closed", 1234, 5678)
    os.symlink("../outside\n", top / "link")
    os.setxattr(top / "link", "trusted.overlay.origin", b"of a link", follow_symlinks=False)
    os.chown(top / "link", 12, 34, follow_symlinks=False)
    os.mknod(top / "gone", stat.S_IFCHR, os.makedev(0, 0))
    for n in range(5):
        os.link(top / "gone", top / f"gone too {n}")
    os.mknod(top / "device", stat.S_IFBLK | 0o640, os.makedev(259, 70000))
    os.mkfifo(top / "fifo", 0o624)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(top / "socket"))
    with open(top / "holes", "wb") as file:
        file.truncate(1 << 40)
        os.pwrite(file.fileno(), b"x" * 4096, 1 << 39)
    for name in (b"\xff\n\x1b[31m", b"-rf", b"n" * 255):
        (top / os.fsdecode(name)).mkdir()
        os.link(top / "file", top / os.fsdecode(name) / "again")
    os.utime(top, ns=(5, 7))


def described(top: Path) -> dict[str, object]:
    """Path -> everything that can be known of it, but numbers of inodes and times of looks."""
    found: dict[str, object] = {}
    first: dict[int, str] = {}
    for path in sorted([top, *top.rglob("*")]):
        st = path.lstat()
        name = str(path.relative_to(top))
        names = os.listxattr(path, follow_symlinks=False)
        xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
        what = path.read_bytes() if stat.S_ISREG(st.st_mode) and st.st_size < 1 << 20 else b""
        if stat.S_ISLNK(st.st_mode):
            what = os.fsencode(os.readlink(path))
        size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
        of = (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_rdev, size, st.st_nlink)
        found[name] = (*of, first.setdefault(st.st_ino, name), xattrs, what)
    return found


def test_a_copy_is_the_same_to_the_last_attribute(tmp_path: Path) -> None:
    everything(tmp_path / "one")
    before = described(tmp_path / "one")
    assert len(before) > 20
    (tmp_path / "two").mkdir(mode=0o700)
    replicate(tmp_path / "one", tmp_path / "two", tmp_path / "links")
    assert described(tmp_path / "two") == before
    assert (tmp_path / "two/holes").stat().st_blocks <= 16
    assert not (tmp_path / "links").exists()
    remove_tree(tmp_path / "one")
    remove_tree(tmp_path / "two")


def test_it_goes_in_and_comes_back_the_same(layer: Layer) -> None:
    everything(layer.upperdir)
    before = described(layer.upperdir)
    for _ in range(2):
        with bounded.bounded(layer, Room(4 << 20, 300)):
            pass
    assert described(layer.upperdir) == before


def test_levels_and_names_without_end_are_copied(tmp_path: Path) -> None:
    top = tmp_path / "one"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    (top / "file").write_text("x")
    for _ in range(1500):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    for n in range(200):
        os.link(top / "file", str(n), dst_dir_fd=fd)
    os.close(fd)
    (tmp_path / "two").mkdir()
    replicate(top, tmp_path / "two", tmp_path / "links")
    assert (tmp_path / "two/file").stat().st_nlink == 201
    remove_tree(top)
    remove_tree(tmp_path / "two")


def test_a_file_keeps_as_many_names_as_it_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that it is held by is one of them in the end. (ext4 has 65,000; here a file has eight.)"""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one/0").write_text("x")
    for n in range(1, 8):
        os.link(tmp_path / "one/0", tmp_path / "one" / str(n))
    link = os.link

    def of_eight(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int, follow_symlinks: bool) -> None:
        if os.stat(source, dir_fd=src_dir_fd).st_nlink == 8:
            raise OSError(31, "Too many links")
        link(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "link", of_eight)
    replicate(tmp_path / "one", tmp_path / "two", tmp_path / "links")
    assert len(list((tmp_path / "two").iterdir())) == 8 and (tmp_path / "two/7").stat().st_nlink == 8


# -- what is left, and when ---------------------------------------------------------------------------------------

PROGRAM = (
    "open('f', 'w').write('2'); os.path.exists('d/x') and os.unlink('d/x'); os.path.exists('n') or os.mkdir('n')\n"
    "os.path.exists('l') or os.link('f', 'l')"
)


def test_more_than_the_room_is_refused_before_anything_runs(layer: Layer) -> None:
    layer.upperdir.mkdir()
    (layer.upperdir / "big").write_bytes(bytes(5 << 20))
    with (
        pytest.raises(MountError, match="the disk limit of 4 MiB was reached before"),
        kernel.mounted(layer, None, ROOM),
    ):
        pass
    (layer.upperdir / "big").unlink()
    for n in range(400):
        (layer.upperdir / str(n)).touch()
    with pytest.raises(MountError, match="the disk limit of 300 files was reached"), kernel.mounted(layer, None, ROOM):
        pass
    assert not list(layer.upperdir.parent.glob("*.img*"))


def test_the_same_files_may_take_a_little_more_than_they_did(layer: Layer) -> None:
    """On another file system outside they lie otherwise, and come back so."""
    layer.upperdir.mkdir()
    (layer.upperdir / "big").write_bytes(bytes(ROOM.size + 20_000))
    with kernel.mounted(layer, None, ROOM) as mount:
        assert mount.space and os.statvfs(mount.space).f_bavail == 0
        run_in(mount, "try: open('n', 'w').write('x')\nexcept OSError as e: assert e.errno == 28\nos.unlink('big')")
    assert "big" not in written(layer)


@pytest.mark.parametrize(
    ("raised", "left"), [(NotStartedError, False), (UntrustedError, True), (KeyboardInterrupt, False)]
)
def test_how_it_ended_says_what_becomes_of_it(raised: type[BaseException], left: bool, layer: Layer) -> None:
    with pytest.raises(raised), kernel.mounted(layer, None, ROOM) as mount:
        assert mount.layer and mount.layer.upperdir.is_dir()
        (mount.layer.upperdir / "new").write_text("n")
        raise raised("how it ended")
    assert (layer.upperdir.with_name(IMAGE)).exists() is left
    assert (layer.upperdir / "new").exists() is (raised is KeyboardInterrupt)
    assert bounded.absorb(layer) is left
    assert (layer.upperdir / "new").exists() is (raised is not NotStartedError)


def test_a_mount_that_others_keep_does_not_keep_the_changes(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes a mount namespace while the layer of a container is mounted has a copy of it, for hours perhaps."""
    monkeypatch.setattr(bounded, "_PATIENCE", 0.1)
    with pytest.raises(UntrustedError), kernel.mounted(layer, None, ROOM) as mount:
        keeper = subprocess.Popen([*mount.enter, "sh", "-c", "echo x > n; echo; exec sleep 100"], cwd="/", **PIPED)
        assert keeper.stdout and keeper.stdout.readline() == b"\n"
        run_in_space(mount.layer)
        raise UntrustedError("lost")
    try:
        assert bounded.absorb(layer)
        assert (layer.upperdir / "new").read_text() == "n"
    finally:
        keeper.kill()
        keeper.communicate()


def test_a_journal_makes_it_whole_after_a_power_cut(layer: Layer, tmp_path: Path) -> None:
    with pytest.raises(UntrustedError), kernel.mounted(layer, None, ROOM) as mount:
        run_in_space(mount.layer)
        assert mount.space
        fd = os.open(mount.space, os.O_RDONLY | os.O_DIRECTORY)
        beneath.syncfs(fd)
        for n in range(50):
            (mount.layer.upperdir / str(n)).write_text("perhaps")  # type: ignore[union-attr]
        os.fsync(fd)
        os.close(fd)
        shutil.copy(layer.upperdir.with_name(IMAGE), tmp_path / "cut")
        raise UntrustedError("lost")
    said = subprocess.run(["/usr/sbin/dumpe2fs", "-h", tmp_path / "cut"], capture_output=True, text=True, check=True)
    assert "needs_recovery" in said.stdout
    os.replace(tmp_path / "cut", layer.upperdir.with_name(IMAGE))
    assert bounded.absorb(layer)
    assert (layer.upperdir / "new").read_text() == "n" and set(os.listdir(layer.upperdir)) >= {"0", "49"}
