"""A full state directory: what was being done is not done, said so, and can be done once there is room."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
from pathlib import Path

import pytest

from overlayws import api
from overlayws.errors import UnableError
from overlayws.layer import plaincopy
from tests.cli.conftest import BACKEND, PROGRAM, Program, in_namespace
from tests.trees import make_tree, read_tree, stamps

EVERY_BACKEND = pytest.mark.parametrize("backend", BACKEND)


class Small:
    """A state directory on a file system of ``size``, and commands that use it one after the other."""

    def __init__(self, program: Program, scratch: Path, size: str) -> None:
        self._program = program
        self._size = size
        self._scratch = scratch

    def script(self, text: str) -> subprocess.CompletedProcess[bytes]:
        """Run a shell script with $OVERLAYWS_HOME on it; $O is overlayws. `fill` fills it up, `free` makes room."""
        home = self._program.home
        home.mkdir(parents=True)
        enter = in_namespace(f"mount -t tmpfs -o size={self._size} tmpfs {home}", self._scratch)
        prelude = """
            fill() { head -c 100m /dev/zero > "$OVERLAYWS_HOME/sessions/filler" 2>/dev/null || :; }
            free() { rm -f "$OVERLAYWS_HOME/sessions/filler"; }
            code() { want=$1; shift; set +e; "$@" > out 2> err; got=$?; set -e
                     test $got = $want || { echo "exit status $got, not $want: $*"; cat err; exit 99; }
                     ! grep -q Traceback err || { cat err; exit 98; }; }
            says() { tail -2 err | head -1 | grep -q "^error: .*$1" && tail -1 err | grep -q ^hint: \
                     || { echo "did not say $1:"; cat err; exit 97; }; }
        """
        lines = [f"cd {self._scratch}/work", f"O='{' '.join(PROGRAM)}'", prelude, text]
        environment = self._program.environment({"WS": str(self._program.cwd)})
        command = [*enter, "sh", "-euc", "\n".join(lines)]
        return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120)


@pytest.fixture
def small(overlayws: Program, tmp_path: Path) -> Small:
    (tmp_path / "work").mkdir()
    return Small(overlayws, tmp_path, "6m")


def test_no_room_for_the_copy(small: Small, workspace: Path) -> None:
    make_tree(workspace, {f"big{n}": os.urandom(1 << 20) for n in range(10)})
    done = small.script("""
        code 125 $O start "$WS" --name s -- true; says "No space left"
        code 3 $O start "$WS" --name s --no-run; says "No space left"
        test -z "$(ls -A $OVERLAYWS_HOME/sessions)"
        code 0 $O start "$WS" --name s --hide 'big*' -- true
    """)
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("base", ["copy", "live"])
def test_no_room_for_what_is_noted_of_many_files(
    overlayws: Program, tmp_path: Path, workspace: Path, base: str
) -> None:
    """Empty files take no block of a tmpfs, so that the manifest is the first that finds no room."""
    make_tree(workspace, {f"many/{'n' * 240}{n}": "" for n in range(3_000)})
    (tmp_path / "work").mkdir()
    done = Small(overlayws, tmp_path, "600k").script(f"""
        code 3 $O start "$WS" --name s --base {base} --git none --no-run; says "the manifest: .*full"
        test -z "$(ls -A $OVERLAYWS_HOME/sessions)"
        ! ls -A $OVERLAYWS_HOME/bases | grep -v '^[.]\\(lock\\|key\\)-'
        code 0 $O start "$WS" --name s --base {base} --git none --hide many --no-run
    """)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@EVERY_BACKEND
def test_no_room_at_a_later_step_changes_nothing_and_is_made_good(small: Small, workspace: Path, backend: str) -> None:
    before = read_tree(workspace)
    done = small.script(f"""
        code 0 $O start "$WS" --name s --backend {backend} --no-run
        fill; code 125 $O run s -- true; says "No space left"; free
        code 0 $O run s -- sh -c 'echo x > new; echo more >> README.md; seq 1000 > long; rm -r docs'
        $O status s --json > before
        fill
        code 3 $O apply s --yes; says "No space left"
        test {backend} = copy || {{ code 3 $O discard s README.md --yes; says "No space left"; }}
        test ! -e "$WS/new"
        free
        $O status s --json > after; cmp before after
        code 0 $O apply s --yes; test -e "$WS/new"
        fill; code 3 $O undo s --yes; says "No space left"; test -e "$WS/new"; free
        code 0 $O undo s --yes; test ! -e "$WS/new"
        fill; $O list; $O status s; $O diff s --stat > out 2> err || says "No space left"; free
        code 0 $O discard s --yes; code 0 $O gc --yes; test -z "$(ls -A $OVERLAYWS_HOME/sessions)"
    """)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert read_tree(workspace) == before


@EVERY_BACKEND
def test_a_command_that_fills_the_disk_meets_the_error_itself(small: Small, workspace: Path, backend: str) -> None:
    before = stamps(workspace)
    done = small.script(f"""
        set +e; $O start "$WS" --name s --backend {backend} -- sh -c 'head -c 50m /dev/zero > huge' > out 2> err; got=$?
        set -e; cat err; ! grep -q Traceback err
        test $got = 1 -o $got = 3
        rm -rf $OVERLAYWS_HOME/sessions/s/merged/huge
        $O list
    """)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert stamps(workspace) == before


def test_a_capture_that_found_no_room_is_done_by_the_next_command(small: Small, workspace: Path) -> None:
    """The copy backend writes the difference at the end: the command ran, so its status may not be 125."""
    done = small.script("""
        code 0 $O start "$WS" --name s --backend copy --no-run
        code 3 $O run s -- sh -c 'head -c 3500k /dev/urandom > big; echo x > new'; says "No space left"
        $O list | grep interrupted
        rm $OVERLAYWS_HOME/sessions/s/merged/big
        $O diff s --name-status > out 2> err
        grep -q new out; ! grep -q big out; $O list | grep interrupted
    """)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_a_limit_on_the_size_of_files_is_no_space_either(overlayws: Program, workspace: Path) -> None:
    """As any user, without a namespace: RLIMIT_FSIZE makes a write fail with EFBIG (and a signal, which is ignored)."""
    make_tree(workspace, {"big": b"x" * (1 << 20)})

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    assert "File too large" in overlayws("start", "--name", "s", "--", "true", code=125, preexec_fn=limited).error
    assert os.listdir(overlayws.home / "sessions") == []
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo x >> big")
    before = stamps(workspace)
    assert "File too large" in overlayws("apply", "--yes", code=3, preexec_fn=limited).error
    assert stamps(workspace) == before
    assert json.loads(overlayws("status", "--json").out)["state"] == "captured"
    overlayws("apply", "--yes")


def test_a_command_whose_capture_failed_did_run(
    overlayws: Program, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it changed waits in the private copy, and nobody may take the old upperdir for all of it."""
    session = api.start(workspace, name="s", backend="copy")

    def no_room(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(plaincopy, "difference", no_room)
        with pytest.raises(UnableError, match="No space left") as error:
            api.run(session, ["sh", "-c", "echo x > new"])
    assert error.value.exit_code == 3 and error.value.hint
    assert json.loads((overlayws.session("s") / "session.json").read_bytes())["state"] == "interrupted"
    assert overlayws("diff", "s", "--name-status").out == b"A\tnew\n"
