"""--disk as root: the upperdir is on a file system of exactly that size, the program is told ENOSPC, and the rest of
overlayws sees nothing of it. (Where that cannot be, it is watched: test_disk.)"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayws.layer.image import make as make_image
from overlayws.layer.room import Room
from tests.cli.conftest import Done, Program, in_namespace
from tests.cli.containers import CONTAINED, environment, sandbox
from tests.cli.test_kill import kill, nothing_runs, state, wait_until
from tests.cli.test_no_space import Small
from tests.trees import read_tree, stamps

pytestmark = [pytest.mark.root, pytest.mark.kernel, pytest.mark.loop]
ONE_OF_A_KIND = [
    pytest.param("bwrap", marks=pytest.mark.bwrap),
    CONTAINED[0],
    CONTAINED[2],
]  # the rest is mounted as one of them
EVERY = [pytest.param("none"), pytest.param("bwrap", marks=pytest.mark.bwrap), *CONTAINED]
LIMIT = 24 << 20
FULL = "warning: the disk limit of 24 MiB was reached: there was no space left for the command"


@pytest.fixture(autouse=True)
def no_device_is_left(overlayws: Program) -> Iterator[None]:
    yield
    wait_until(lambda: devices(overlayws.home.parent) == [], f"the end of {devices(overlayws.home.parent)}")


def devices(below: Path) -> list[str]:
    """The loop devices with a file below a directory."""
    backing = (path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file"))
    return [path for path in backing if path.startswith(f"{below}/")]


def run(overlayws: Program, kind: str, disk: str, program: str, *more: str, name: str = "s", code: int = 0) -> Done:
    words = [*sandbox(kind), "--disk", disk, "--timeout", "60", *more, "--", "python3", "-c", program]
    return overlayws("start", "--name", name, *words, env=environment(kind), code=code)


def told(overlayws: Program, name: str = "s") -> list[tuple[str, list[str]]]:
    runs = json.loads(overlayws("status", name, "--json").out)["runs"]
    return [(run["disk"], run["notes"]) for run in runs]


def files(overlayws: Program, name: str = "s") -> list[str]:
    return sorted(n for n in os.listdir(overlayws.session(name)) if n not in ("lock", "session.json", "captures"))


WRITES = """
import errno, os
def full(do):
    try: do()
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        return True
def write(name, most=1 << 40):
    written = 0
    def go():
        nonlocal written
        fd = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        try:
            while written < most: written += os.write(fd, bytes(4096))
        finally: os.close(fd)
    return (full(go), written)
"""
FILLS = f"""{WRITES}
os.truncate(os.open("sparse", os.O_CREAT | os.O_WRONLY, 0o644), 1 << 35)
fd = os.open("sparse", os.O_WRONLY)
assert full(lambda: os.posix_fallocate(fd, 0, 1 << 30)), "more was allocated than there is"
os.truncate("sparse", 0); os.truncate("sparse", 1 << 35)
ended, first = write("first", 1 << 20)
ended, rest = write("rest")
at = 0
def into():  # what was a hole
    global at
    while True: at += os.pwrite(fd, bytes(4096), at)
assert full(into)
os.close(fd)
print(first + rest + at)
copied_up = full(lambda: open("src/app.py", "ab", 0).write(bytes(5000)))
assert copied_up
full(lambda: os.rename("rest", "renamed"))
full(lambda: os.chmod("README.md", 0o600))
full(lambda: os.unlink("docs/guide.txt"))
os.unlink("first")
open("after", "wb").write(bytes(900_000))
assert write("last")[0]
"""


@pytest.mark.parametrize("kind", EVERY)
def test_a_program_that_fills_it_is_told_and_goes_on(kind: str, overlayws: Program, workspace: Path) -> None:
    before, tree = stamps(workspace), read_tree(workspace)
    done = run(overlayws, kind, f"{LIMIT}", FILLS)
    assert 0.95 * LIMIT <= int(done.out) <= LIMIT
    assert FULL in done.err and "watched" not in done.err
    assert told(overlayws) == [("enforced", [FULL.removeprefix("warning: ")])]
    assert files(overlayws) == ["journal", "merged", "upper", "work"]
    names = overlayws("diff", "s", "--name-status").out.decode()
    assert "A\tafter\n" in names and "A\tsparse\n" in names and "first" not in names
    assert (overlayws.session("s") / "upper/after").read_bytes() == bytes(900_000)
    assert (overlayws.session("s") / "upper/sparse").stat().st_blocks < 16
    assert stamps(workspace) == before
    overlayws("discard", "s", "sparse", "--yes")
    overlayws("apply", "s", "--yes")
    assert (workspace / "after").read_bytes() == bytes(900_000)
    overlayws("undo", "s", "--yes")
    assert read_tree(workspace) == tree


INODES = f"""{WRITES}
made = 0
def make():
    global made
    while True: os.close(os.open(f"f{{made}}", os.O_CREAT, 0o644)); made += 1
os.makedirs("/".join(["d"] * 50))
assert full(make)
for n in range(1000): os.link("f0", f"name{{n}}")  # no more than a name
for n in range(0, 200, 2): os.unlink(f"f{{n}}")
os.symlink("x", "link")
print(made + 50)
made = 1 << 20
full(make)
"""


@pytest.mark.parametrize("kind", ONE_OF_A_KIND)
def test_a_program_that_makes_files_without_end_is_told(kind: str, overlayws: Program) -> None:
    done = run(overlayws, kind, f"{LIMIT},600", INODES)
    assert 596 <= int(done.out) <= 600
    assert "warning: the disk limit of 600 files was reached: there was no space left for the command" in done.err
    entries = [entry.lstat() for entry in (overlayws.session("s") / "upper").rglob("*")]
    assert 590 <= len({st.st_ino for st in entries}) <= 600 < len(entries)


def test_attributes_and_the_smallest_limit_count_too(overlayws: Program) -> None:
    program = f"""{WRITES}
made = 0
def attributes():
    global made
    while True:
        os.close(os.open(f"f{{made}}", os.O_CREAT, 0o644))
        os.setxattr(f"f{{made}}", "user.k", os.urandom(3000))
        made += 1
assert full(attributes)
print(made)
"""
    done = run(overlayws, "bwrap", "1m,5000", program)
    assert 200 < int(done.out) <= 256  # each has a block of its own
    assert told(overlayws)[0][0] == "enforced"
    values = [
        os.getxattr(path, "user.k")
        for path in (overlayws.session("s") / "upper").iterdir()
        if path.name != f"f{int(done.out)}"
    ]
    assert len(set(values)) == len(values) == int(done.out) and {len(value) for value in values} == {3000}


def test_a_command_that_is_killed_while_there_is_no_space_leaves_its_changes(overlayws: Program) -> None:
    program = f"{WRITES}\nwrite('big')\nprint(flush=True)\nos.kill(os.getpid(), 9)"
    done = run(overlayws, "bwrap", f"{LIMIT}", program, code=137)
    assert FULL in done.err and "ended" not in done.err
    assert overlayws("diff", "s", "--name-status").out == b"A\tbig\n"
    overlayws("run", "s", "--timeout", "0.5", "--", "sh", "-c", "echo x > new; sleep 9", code=124)  # no block is left
    overlayws("run", "s", "--", "sh", "-c", "rm big; echo x > new; rm -r docs")
    assert overlayws("diff", "s", "--name-status").out == b"D\tdocs/guide.txt\nA\tnew\n"
    assert [how for how, _ in told(overlayws)] == ["enforced"] * 3


def test_the_limit_is_of_the_session_and_what_is_dropped_makes_room(overlayws: Program) -> None:
    run(overlayws, "bwrap", f"{LIMIT}", f"{WRITES}\nprint(write('one', 20 << 20)); os.link('one', 'two')")
    more = f"{WRITES}\nfound, size = write('more'); os.unlink('more'); print(found, round(size / (1 << 20)))"
    assert overlayws("run", "s", "--", "python3", "-c", more).out == b"True 4\n"
    overlayws("discard", "s", "one", "two", "--yes")
    assert overlayws("run", "s", "--", "python3", "-c", more).out == b"True 24\n"


def test_two_sessions_fill_theirs_at_a_time(overlayws: Program) -> None:
    program = f"{WRITES}\nprint(write('big')[1], flush=True)\nimport time; time.sleep(0.5)"
    words = ["--sandbox", "bwrap", "--disk"]
    both = [
        overlayws.started("start", "--name", name, *words, f"{size}m", "--", "python3", "-c", program)
        for name, size in (("one", 8), ("two", 20))
    ]
    said = [int(child.communicate(timeout=60)[0]) for child in both]
    for written, size in zip(said, (8 << 20, 20 << 20), strict=True):
        assert 0.95 * size <= written <= size
    for name, written in zip(("one", "two"), said, strict=True):
        assert (overlayws.session(name) / "upper/big").stat().st_size == written


SCENARIO = """
echo more >> README.md; rm -r docs; mkdir docs; echo new > docs/new; mv src/deep moved; rm src/app.py
echo a > a; ln a b; ln -s ../x link; chmod 4751 a; truncate -s 3M holes; echo end >> holes
mkdir -m 700 closed; echo x > closed/x; chmod 0 closed; touch -d 2001-02-03 a
for n in $(seq 300); do echo $n > moved/$n; done
"""
# Under gVisor these stay inside: see docs/sandboxes.md.
SPECIAL = """
python3 -c 'import os, socket
os.setxattr("a", "user.k", b"v"); os.setxattr(".", "user.top", b"t")
socket.socket(socket.AF_UNIX).bind("sock"); os.mkfifo("fifo")'
"""


@pytest.mark.parametrize("kind", ONE_OF_A_KIND)
def test_the_same_change_set_with_and_without(kind: str, overlayws: Program) -> None:
    digests = set()
    for name, words in (("with", ["--disk", "24m"]), ("without", [])):
        options = [
            *sandbox(kind),
            *words,
            "--git",
            "none",
            "--",
            "sh",
            "-euc",
            SCENARIO + (SPECIAL if not kind.startswith("gvisor") else ""),
        ]
        overlayws("start", "--name", name, *options, env=environment(kind))
        overlayws("run", name, "--", "sh", "-c", "echo y >> a; wc -c < b", env=environment(kind))
        digests.add(json.loads(overlayws("diff", name, "--json").out)["digest"])
    assert len(digests) == 1


BUSY = f"{WRITES}\nos.unlink('docs/guide.txt')\nwrite('big')\nprint('ready', flush=True)\nimport time\ntime.sleep(60)"


@pytest.mark.parametrize("kind", ONE_OF_A_KIND)
def test_after_kill_9_everything_is_there(kind: str, overlayws: Program, workspace: Path) -> None:
    before = stamps(workspace)
    words = ("start", "--name", "s", *sandbox(kind), "--disk", f"{LIMIT}", "--", "python3", "-c", BUSY)
    child = overlayws.started(*words, env=environment(kind))
    assert child.stdout and child.stdout.readline() == b"ready\n"
    assert "upper.img" in files(overlayws) and len(devices(overlayws.home)) == 1
    kill(child)
    if kind in ("docker", "gvisor"):  # whose container the engine ends
        overlayws("list", env=environment(kind))
    nothing_runs(overlayws)
    done = overlayws("diff", "s", "--name-status", env=environment(kind))
    assert done.out == b"A\tbig\nD\tdocs/guide.txt\n"
    assert state(overlayws) == "interrupted" and files(overlayws) == ["journal", "merged", "upper", "work"]
    assert 0.95 * LIMIT <= (overlayws.session("s") / "upper/big").stat().st_size <= LIMIT
    assert stamps(workspace) == before


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_kill_9_while_it_is_made_or_brought_back(delay: float, overlayws: Program) -> None:
    """At every single step: tests/layer/test_bounded."""
    run(overlayws, "bwrap", f"{LIMIT}", "for n in range(200): open(str(n), 'w').write('x')")
    child = overlayws.started("run", "s", "--", "sh", "-c", "echo ready; rm 0")
    wait_until(lambda: any("upper.img" in name for name in files(overlayws)), "the image")
    time.sleep(delay)
    kill(child)
    nothing_runs(overlayws)
    out = overlayws("diff", "s", "--name-status").out.splitlines()
    assert len(out) in (199, 200)
    assert files(overlayws) == ["journal", "merged", "upper", "work"]
    child = overlayws.started("run", "s", "--", "sh", "-c", "rm 1; exec >&-; sleep 0.05")
    assert child.stdout and child.stdout.read() == b""
    time.sleep(delay)
    kill(child)
    nothing_runs(overlayws)
    assert len(overlayws("diff", "s", "--name-status").out.splitlines()) == len(out) - 1
    assert files(overlayws) == ["journal", "merged", "upper", "work"]


def test_no_room_outside_for_what_comes_back_loses_nothing(overlayws: Program, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    small = Small(overlayws, tmp_path, "80m")
    done = small.script("""
        code 0 $O start "$WS" --name s --sandbox none --disk 14m --no-run
        fills='head -c 13m /dev/urandom > big; rm docs/guide.txt; sync big; sha256sum big > '$PWD'/sum
               head -c 100m /dev/zero > '$OVERLAYWS_HOME'/sessions/filler 2> /dev/null; exit 7'
        code 3 $O run s -- sh -c "$fills"; says "cannot bring back .*No space left.*upper.img"
        $O list | grep interrupted; test -e $OVERLAYWS_HOME/sessions/s/upper.img
        code 3 $O diff s --stat; says "No space left"
        free
        code 0 $O diff s --name-status; grep -q big out; grep -q "D.docs/guide.txt" out
        cd $OVERLAYWS_HOME/sessions/s/upper; sha256sum -c $OLDPWD/sum
        test ! -e ../upper.img; test ! -e ../absorbing
    """)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_no_room_outside_can_be_made_by_giving_it_up(overlayws: Program, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    done = Small(overlayws, tmp_path, "80m").script("""
        code 0 $O start "$WS" --name s --sandbox none --disk 14m --no-run
        code 3 $O run s -- sh -c 'head -c 13m /dev/urandom > big; sync big
                                  head -c 100m /dev/zero > '$OVERLAYWS_HOME'/sessions/filler 2> /dev/null'
        truncate -s -100k $OVERLAYWS_HOME/sessions/filler
        code 0 $O discard s --yes; test ! -e $OVERLAYWS_HOME/sessions/s/upper.img
    """)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@pytest.mark.parametrize("what", ["link", "garbage", "directory", "empty", "fifo"])
def test_what_is_no_image_of_ours_is_refused_and_given_up(what: str, overlayws: Program, workspace: Path) -> None:
    run(overlayws, "bwrap", f"{LIMIT}", "open('new', 'w').write('n')")
    image, other = overlayws.session("s") / "upper.img", workspace.parent / "other"
    make_image(other, Room(1 << 20, 100))  # which would do, were it followed
    before = other.read_bytes()
    {
        "link": lambda: image.symlink_to(other),
        "garbage": lambda: image.write_bytes(os.urandom(1 << 20)),
        "directory": image.mkdir,
        "empty": image.touch,
        "fifo": lambda: os.mkfifo(image),
    }[what]()
    for words in (["diff", "s"], ["run", "s", "--", "true"], ["apply", "s", "--yes"]):
        assert (
            "upper.img holds what the last command changed, and cannot be mounted" in overlayws(*words, code=None).error
        )
    overlayws("discard", "s", "--yes")
    assert other.read_bytes() == before and not os.path.lexists(image)


@pytest.mark.parametrize(("covered", "why"), [
    ("/dev/loop-control", "it cannot be mounted: "),
    ("/usr/sbin/mkfs.ext4", "mkfs.ext4 is not installed (apt-get install e2fsprogs)"),
])  # fmt: skip
def test_where_there_can_be_no_such_file_system_it_is_watched_and_said(
    covered: str, why: str, overlayws: Program, tmp_path: Path
) -> None:
    enter = in_namespace(f"mount --bind /dev/null {covered}", tmp_path)
    program = "import time\nd = bytes(1 << 20)\nfor n in range(1 << 20): open(f'big{n}', 'wb').write(d)"
    words = ["--sandbox", "bwrap", "--disk", f"{LIMIT}", "--", "python3", "-c", program]
    done = overlayws("start", "--name", "s", *words, enter=enter, code=137)
    assert f"warning: --disk is watched, not enforced: {why}" in done.err
    assert told(overlayws) == [("watched", ["the disk limit of 24 MiB was reached: the command was ended"])]
    assert "upper.img-making" not in files(overlayws)


def test_what_is_not_mounted_needs_no_more_than_before(overlayws: Program) -> None:
    """Without --disk nothing of this is there."""
    overlayws("start", "--name", "s", "--sandbox", "bwrap", "--", "sh", "-c", "echo x > new")
    assert told(overlayws) == [("", [])] and files(overlayws) == ["journal", "merged", "upper", "work"]


def test_a_command_that_did_not_start_leaves_no_image(overlayws: Program) -> None:
    run(overlayws, "bwrap", f"{LIMIT}", "open('new', 'w').write('n')")
    done = overlayws("run", "s", "--", "/nonexistent", code=127)
    assert told(overlayws)[1][0] == "enforced" and done
    start = ("start", "--name", "t", "--sandbox", "gvisor", "--image", "/nonexistent", "--disk", "24m", "--", "true")
    assert overlayws(*start, env=environment("gvisor-alone"), code=125).error
    assert files(overlayws) == ["journal", "merged", "upper", "work"]
    assert not overlayws.session("t").exists()
