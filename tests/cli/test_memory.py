"""gVisor that keeps changes in its own memory: that they come back whole or it is said, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.cli.containers import environment
from tests.cli.test_kill import kill, nothing_runs, state, wait_until
from tests.trees import stamps

pytestmark = [pytest.mark.root, pytest.mark.gvisor]
ENV = environment("gvisor-memory")
START = ("start", "--name", "s", "--sandbox", "gvisor", "--capture", "memory")
WAIT = "echo ready; while :; do sleep 0.05; done"


def sentry(program: Program) -> int:
    """The process that is gVisor's kernel."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"boot" in words and any(os.fsencode(program.home) in word for word in words):
            return int(entry)
    raise AssertionError("no gVisor runs")


def changed(program: Program, *words: str) -> str:
    return program("diff", "s", "--name-status", *words, env=ENV).out.decode()


@pytest.mark.parametrize("words, complaint", [
    (["--sandbox", "bwrap", "--capture", "memory"], "--capture memory is gVisor's"),
    (["--sandbox", "gvisor", "--checkpoint-every", "5"], "--checkpoint-every is for --capture memory"),
    (["--sandbox", "gvisor", "--base", "live", "--capture", "memory"], "a base that stays as it is"),
    (["--sandbox", "gvisor", "--capture", "tape"], "'tape' is not one of 'disk', 'memory'"),
    (["--sandbox", "gvisor", "--capture", "memory", "--checkpoint-every", "0"], "0"),
])  # fmt: skip
def test_what_has_no_such_capture_is_wrong_usage(words: list[str], complaint: str, overlayws: Program) -> None:
    assert complaint in overlayws("start", *words, "--", "true", env=ENV, code=2).error
    assert overlayws("list").out == b""


def test_the_next_command_goes_on_with_either_capture(overlayws: Program, workspace: Path) -> None:
    before = stamps(workspace)
    make = """
rm -r docs; mkdir docs; echo new > docs/new; rm src/app.py; mv src/deep moved; echo a > a; ln a b; mkfifo fifo
chmod 4751 a; truncate -s 3M holes; echo end >> holes; mkdir closed; echo x > closed/x; chmod 0 closed
python3 -c 'import os, socket
os.setxattr("a", "user.k", b"v")
os.mknod("device", 0o20600, os.makedev(1, 3))
socket.socket(socket.AF_UNIX).bind("sock")'
"""
    look = """
python3 -c '
import os
print(sorted(os.listdir()), os.listdir("docs"), os.listdir("src"))
st = os.stat("a")
print(st.st_nlink, oct(st.st_mode), st.st_uid, os.stat("holes").st_size, oct(os.stat("closed").st_mode))'
"""
    done = overlayws(*START, "--", "sh", "-euc", make, env=ENV)
    assert "a crash loses what was not saved" in done.err
    expected = changed(overlayws)
    assert "A\tdevice\nD\tdocs/guide.txt\nA\tdocs/new\n" in expected and "A\tclosed" in expected
    said = [overlayws("run", "s", *words, "--", "sh", "-c", look, env=ENV).out
            for words in ([], ["--capture", "disk"], ["--capture", "memory"])]  # fmt: skip
    assert said[0] == said[1] == said[2] and b"2 0o104751 1000 3145732 0o40000" in said[0]
    assert changed(overlayws) == expected
    overlayws("run", "s", "--", "sh", "-c", "chmod 700 closed; rm -r *", env=ENV)
    assert set(changed(overlayws).split()[::2]) == {"D"}
    runs = json.loads(overlayws.session("s").joinpath("session.json").read_bytes())["runs"]
    assert [run["kept_in"] for run in runs] == ["memory", "memory", "disk", "memory", "memory"]
    assert stamps(workspace) == before


def test_an_image_needs_nothing_but_a_shell(overlayws: Program, root_file_system: Path) -> None:
    script = "cat /etc/motd; ls /usr /run 2>&1; echo $PWD; id -u; echo new > new"
    words = ["--image", str(root_file_system), "--", "sh", "-c", script]
    done = overlayws(*START, *words, env=ENV)
    assert done.out == b"an image of ours\nls: /usr: No such file or directory\n/run:\noverlayws\n/workspace\n1000\n"
    assert changed(overlayws) == "A\tnew\n"
    (root_file_system / "bin/sh").unlink()
    done = overlayws(*START[:2], "t", *START[3:], *words, env=ENV, code=125)
    assert "/bin/sh" in done.error and "no such file" in done.error


ATTACK = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
found = []

def attempt(what, do):
    try:
        do()
        found.append(what)
    except OSError:
        pass

def attack(how):
    attempt(how + " kill", lambda: os.kill(1, signal.SIGKILL))
    attempt(how + " stop", lambda: os.kill(1, signal.SIGSTOP))
    for name in ("fd", "root/", "cwd", "environ", "mem"):
        attempt(how + " /proc/1/" + name, lambda: os.close(os.open("/proc/1/" + name, os.O_RDONLY)))
    attempt(how + " forge", lambda: os.write(os.open("/proc/1/fd/1", os.O_WRONLY | os.O_NONBLOCK), bytes(1024)))
    for name in ("", "/base", "/memory", "/memory/upper", "/code", "/host/usr"):
        attempt(how + " /run/overlayws" + name, lambda: os.listdir("/run/overlayws" + name))
    for place in (b"/workspace", b"/proc/1", b"/run/overlayws"):
        if libc.umount2(place, 2) == 0:
            found.append(how + " umount " + place.decode())
    if libc.mount(b"none", b"/workspace", b"tmpfs", 0, b"") == 0 and os.listdir("/workspace") == []:
        found.append(how + " mount")

attack("plain")
if os.fork() == 0:
    libc.unshare(0x10000000)
    for name, text in (("setgroups", "deny"), ("uid_map", "0 1000 1"), ("gid_map", "0 1000 1")):
        try:
            with open("/proc/self/" + name, "w") as file:
                file.write(text)
        except OSError:
            pass
    attack("as root of its own users")
    print(found)
    sys.stdout.flush()
    os._exit(0)
os.wait()
print(found)
"""


def test_the_program_does_not_reach_what_saves_its_changes(overlayws: Program) -> None:
    done = overlayws(*START, "--", "sh", "-c", 'echo x > new; python3 -I -S -c "$0"', ATTACK, env=ENV)
    assert done.out == b"[]\n[]\n"
    assert changed(overlayws) == "A\tnew\n"


def test_what_kills_all_that_it_can_and_leaves_others_behind_loses_nothing(overlayws: Program) -> None:
    script = "(trap '' TERM; setsid sleep 100 & while :; do echo x >> busy; done) & sleep 0.5; echo x > new; exit 3"
    overlayws(*START, "--", "sh", "-c", script, env=ENV, code=3)
    assert changed(overlayws) == "A\tbusy\nA\tnew\n"


def test_full_memory_is_no_space_inside_and_said(overlayws: Program) -> None:
    script = "dd if=/dev/zero of=big bs=1M count=200 2>&1 | grep -o 'No space.*'; ls"
    done = overlayws(*START, "--memory", "128m", "--", "sh", "-c", script, env=ENV)
    assert done.out == b"No space left on device\nREADME.md\nbig\ndocs\nsrc\n"
    assert "the memory for changes was full: 64 MiB" in done.err
    assert 32 << 20 < overlayws.session("s").joinpath("upper/big").stat().st_size <= 64 << 20
    done = overlayws("run", "s", "--", "rm", "big", env=ENV)
    assert changed(overlayws) == "" and "was full" not in done.err


def test_what_is_too_large_to_be_read_out_is_said(overlayws: Program) -> None:
    done = overlayws(*START, "--", "sh", "-c", "truncate -s 1T huge; echo x > new", env=ENV, code=4)
    assert "not saved: 'huge'" in done.error
    done = overlayws("list", env=ENV)
    assert "at its last checkpoint" in done.err and "all that it had changed" not in done.err
    assert "A\tnew" in changed(overlayws)


def test_an_interrupt_before_the_command_began_has_lost_nothing(overlayws: Program) -> None:
    overlayws(*START, "--", "sh", "-c", "echo 1 > one", env=ENV)
    child = overlayws.started("run", "s", "--", "touch", "two", env=ENV)
    wait_until((overlayws.session("s") / "sandbox/state").exists, "the beginning of a sandbox")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130 and b"did not come back" not in err, err
    assert changed(overlayws) == "A\tone\n" and state(overlayws) == "captured"


def test_the_size_is_enforced_and_the_number_of_files_is_not_which_is_said(overlayws: Program, tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 1500 ]; do : > f$i; i=$((i+1)); done; dd if=/dev/zero of=big bs=1M count=99; echo $?"
    command = [*START, "--disk", "8m,1024", "--", "sh", "-c", script]
    child = overlayws.started(*command, env=ENV)
    # Somebody else takes as much of the disk meanwhile, and that is not the program's fault.
    with open(tmp_path / "of-others", "wb") as file:
        while child.poll() is None:
            file.write(os.urandom(1 << 20) if file.tell() < 100 << 20 else b"")
            file.flush()
            time.sleep(0.02)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0 and out in (b"1\n", b"153\n"), err  # ENOSPC; or SIGXFSZ, of a single file
    assert b"enforced for the size, not for the number of files" in err and b"limit of 1,024 files was reached" in err
    (run,) = json.loads(overlayws("status", "s", "--json").out)["runs"]
    assert run["disk"] == "watched" and run["exit_code"] == 0
    assert changed(overlayws).count("A\tf") == 1500
    assert "1,024 files" in overlayws("run", "s", "--", "true", env=ENV, code=125).error
    overlayws("start", "--name", "t", *START[3:], "--disk", "8m", "--", "true", env=ENV)
    assert json.loads(overlayws("status", "t", "--json").out)["runs"][0]["disk"] == "enforced"


def test_a_crash_of_the_sandbox_keeps_what_was_before(overlayws: Program) -> None:
    overlayws(*START, "--", "sh", "-c", "echo 1 > one", env=ENV)
    child = overlayws.ready("run", "s", "--", "sh", "-c", "echo 2 > two; rm one; " + WAIT, env=ENV)
    os.kill(sentry(overlayws), signal.SIGKILL)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 4 and b"did not come back whole" in err and b"Traceback" not in err, err
    assert state(overlayws) == "interrupted"
    assert changed(overlayws) == "A\tone\n"


@pytest.mark.parametrize("every", [None, "0.3"])
def test_kill_9_leaves_the_last_checkpoint_and_nothing_else(every: str | None, overlayws: Program) -> None:
    overlayws(*START, "--", "sh", "-c", "echo 1 > one", env=ENV)
    words = ["--checkpoint-every", every] if every else []
    script = "echo 2 > two; mkdir d; echo 3 > d/three; rm one src/app.py; " + WAIT
    child = overlayws.ready("run", "s", *words, "--", "sh", "-c", script, env=ENV)
    session = overlayws.session("s")
    if every:
        wait_until(lambda: (session / "upper/two").exists() and (session / "checkpoint").exists(), "a checkpoint")
    kill(child)
    nothing_runs(overlayws)
    done = overlayws("list", env=ENV)
    assert "session s was interrupted" in done.err and state(overlayws) == "interrupted"
    if every:
        assert "at its last checkpoint" in done.err
        assert changed(overlayws) == "A\td/three\nD\tsrc/app.py\nA\ttwo\n"
    else:
        assert "what it changed is lost" in done.err
        assert changed(overlayws) == "A\tone\n"
    assert not (session / "sandbox").exists() and not (session / "unpacking").exists()
    assert overlayws("run", "s", "--", "ls", env=ENV).out.count(b"one" if not every else b"two") == 1
    assert not (session / "checkpoint").exists()


@pytest.mark.parametrize("who", ["overlayws", "sentry"])
def test_a_stream_that_breaks_off_is_no_change_set(who: str, overlayws: Program) -> None:
    overlayws(*START, "--", "sh", "-c", "echo 1 > one", env=ENV)
    script = """
import os
os.unlink("one")
os.mkdir("many")
for n in range(4000):
    with open(f"many/{n}", "wb") as file:
        file.write(os.urandom(8000))
"""
    child = overlayws.started("run", "s", "--", "python3", "-I", "-S", "-c", script, env=ENV)
    session = overlayws.session("s")
    wait_until(lambda: (session / "unpacking/many").is_dir(), "the end of the command")
    os.kill(child.pid if who == "overlayws" else sentry(overlayws), signal.SIGKILL)
    _, err = child.communicate(timeout=60)
    nothing_runs(overlayws)
    if who == "sentry":
        assert child.returncode == 4 and b"before all of it was saved" in err, err
    done = overlayws("list", env=ENV)
    assert state(overlayws) == "interrupted" and (who == "sentry" or str(session / "incomplete") in done.err)
    assert (session / "incomplete/many").is_dir()
    assert changed(overlayws) == "A\tone\n"
    overlayws("run", "s", "--", "rm", "one", env=ENV)
    assert changed(overlayws) == "" and not (session / "incomplete").exists()
