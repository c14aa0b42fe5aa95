"""What a program can do in each sandbox, asked by a program inside, and that each brings the same changes back."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from overlayws.source.remove import remove_tree
from tests.cli.conftest import Program
from tests.cli.containers import EVERY, ISOLATED, environment, sandbox
from tests.trees import make_tree

PROBE = Path(__file__).with_name("probe.py").read_text()
SECRET = "planted-value-7141-of-the-caller"
# The host's kernel keeps these from the program; gVisor's own kernel stands between, and may carry them out itself.
REFUSED_BY_THE_SENTRY = {
    "bpf", "keyctl", "add_key", "userfaultfd", "perf_event_open", "open_tree", "fsopen",
    "init_module", "open_by_handle_at", "swapon", "vsock", "device", "chown", "setuid", "core_pattern", "sysrq",
    "network", "mount", "noexec",
}  # fmt: skip


def probed(overlayws: Program, workspace: Path, kind: str, more: Mapping[str, str] | None = None) -> dict[str, Any]:
    paths = [os.fspath(p) for p in (overlayws.home, Path(os.environ["HOME"]), Path("/root/.ssh"), workspace / ".env")]
    if kind != "bwrap":  # which shows it at its own path
        paths.append(os.fspath(workspace))
    env = {**environment(kind), "AWS_SECRET_ACCESS_KEY": SECRET, **(more or {})}
    command = ["python3", "-I", "-S", "-c", PROBE, SECRET[::-1], *paths]
    done = overlayws(
        "start", "--name", "s", *sandbox(kind), "--", *command, env=env, code=None
    )  # fmt: skip
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


@pytest.mark.parametrize("kind", ISOLATED)
def test_a_program_can_do_nothing_beyond_its_container(kind: str, overlayws: Program, workspace: Path) -> None:
    with subprocess.Popen(["sleep", "300"], env={"X": SECRET}) as stranger:
        try:
            found = probed(overlayws, workspace, kind)
        finally:
            stranger.kill()
            stranger.wait()
    rootless = kind == "gvisor-alone" and os.geteuid() != 0  # only one id is mapped there
    assert found["uid"] == (0 if rootless else 1000 if os.geteuid() == 0 else os.geteuid())
    assert rootless or 0 not in found["groups"]
    assert found["capabilities"] == ["0000000000000000"]
    assert found["hostname"] == "overlayws"
    assert found["descriptors"] == [0, 1, 2]
    assert found["processes"] <= 4
    assert found["interfaces"] in ([], ["lo"])
    assert "AWS_SECRET_ACCESS_KEY" not in found["environment"] and not found["told"]
    assert found["seen"] == []
    writable = {path for path, how in found["written"].items() if how == "ok"}
    assert writable == {"/tmp/new", "/home/agent/new", "new"}
    calls = found["calls"]
    if kind == "docker":
        assert found["no_new_privs"] == "1" and found["seccomp"] == "2" and found["nosuid"]
        assert {name for name, how in calls.items() if how == "ok"} == set(), calls
        assert calls["tiocsti"] == calls["unshare_user"] == calls["keyctl"] == calls["vsock"] == "EPERM"
    else:
        # A device of gVisor's own kernel, which is all that its overlay can make; and to 0, which the program is.
        contained = {"device"} if kind == "gvisor-memory" else {"chown", "setuid"} if rootless else set()
        assert {name for name in REFUSED_BY_THE_SENTRY if calls[name] == "ok"} <= contained, calls
        assert calls["tiocsti"] != "ok"
    made = b"" if calls["device"] != "ok" else b"A\tdevice\n"
    assert overlayws("diff", "--name-status").out == made


WITHOUT = """
import overlayws.run.docker as docker
real = docker.body
def body(*arguments):
    request = real(*arguments)
    request["User"] = "0:0"
    request["HostConfig"] |= {
        "CapDrop": [], "CapAdd": ["SYS_ADMIN", "SYS_PTRACE"], "SecurityOpt": ["seccomp=unconfined"], "Tmpfs": {},
        "ReadonlyRootfs": False, "PidMode": "host", "Mounts": request["HostConfig"]["Mounts"] + [
            {"Type": "bind", "Source": STATE, "Target": STATE}],
    }
    return request
docker.body = body
"""


@pytest.mark.docker
@pytest.mark.root
def test_the_same_program_sees_when_the_defences_are_off(overlayws: Program, workspace: Path, tmp_path: Path) -> None:
    """So the test before would fail without them."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT.replace("STATE", repr(str(overlayws.home))))
    with subprocess.Popen(["sleep", "300"], env={"X": SECRET}) as stranger:
        try:
            found = probed(overlayws, workspace, "docker", {"PYTHONPATH": str(tmp_path)})
        finally:
            stranger.kill()
            stranger.wait()
    assert found["uid"] == 0 and found["capabilities"] != ["0000000000000000"]
    assert found["no_new_privs"] == "0" and found["seccomp"] == "0"
    assert found["processes"] > 4 and found["told"]
    assert str(overlayws.home) in found["seen"]
    assert {found["written"][path] for path in ("/new", "/etc/new", "/var/new")} == {"ok"}
    expected = {
        "unshare_user", "unshare_mount", "mount", "keyctl", "add_key", "fsopen", "open_tree", "chroot", "setuid",
        "device", "chown", "noexec",
    }  # fmt: skip
    assert {name for name in expected if found["calls"][name] != "ok"} == set(), found["calls"]


SCENARIO = """
printf 'more\\n' >> README.md
rm docs/guide.txt
mv src/deep src/moved
chmod +x src/app.py
ln -s app.py src/link
mkdir -p a/b; printf x > a/b/c
rm -rf docs; mkdir docs; printf new > docs/new
python3 -c 'import pathlib; pathlib.Path("byte\\udcff.bin").write_bytes(bytes(range(256)) * 300)'
git rm -q --cached README.md && git -c gc.auto=0 commit -qm 'in the sandbox'
"""


@pytest.mark.docker
@pytest.mark.gvisor
@pytest.mark.bwrap
def test_every_sandbox_brings_the_same_changes_back(overlayws: Program, workspace: Path) -> None:
    for words in (
        ["init", "-q"],
        ["add", "README.md"],
        ["-c", "user.name=u", "-c", "user.email=u@e", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *words], cwd=workspace, check=True)
    digests = {}
    for param in EVERY:
        kind = str(param.values[0])
        script = ["sh", "-euc", SCENARIO]
        overlayws("start", "--name", kind, *sandbox(kind), "--", *script, env=environment(kind))
        digests[kind] = json.loads(overlayws("diff", kind, "--json").out)["digest"]
    assert len(set(digests.values())) == 1, digests
    overlayws("apply", kind, "--yes")
    assert (workspace / "README.md").read_text().endswith("more\n") and (workspace / "docs/new").read_text() == "new"
    assert all(path.lstat().st_uid == os.geteuid() for path in workspace.rglob("*"))


@pytest.mark.parametrize("kind", ISOLATED)
def test_streams_statuses_and_several_commands_in_one_session(kind: str, overlayws: Program) -> None:
    env = environment(kind)
    copy = "import sys; sys.stdout.write(sys.stdin.read()); sys.stderr.write(chr(101) * 70000); sys.exit(7)"
    sent = os.urandom(50_000).hex().encode()
    script = f"echo 1 > a; python3 -c '{copy}'"
    start = ["start", "--name", "s", *sandbox(kind), "--", "sh", "-c", script]
    done = overlayws(*start, env=env, input=sent, stdin=None, code=7)
    assert done.out == sent and "e" * 70000 in done.err
    done = overlayws("run", "s", "--", "sh", "-c", "cat a; echo 2 > b; kill -9 $$", env=env, code=137)
    assert done.out == b"1\n"
    assert "nosuch" in overlayws("run", "s", "--", "nosuch", env=env, code=127).err
    assert overlayws("run", "s", "--", "./a", env=env, code=126).out == b""
    assert overlayws("diff", "s", "--name-status").out == b"A\ta\nA\tb\n"


@pytest.mark.parametrize("kind", ISOLATED)
def test_a_read_only_workspace_elsewhere(kind: str, overlayws: Program) -> None:
    words = ["--read-only", "--workdir-at", "/srv/project", "--env", "COLOUR=blue"]
    script = "pwd; echo $COLOUR; cat src/app.py; echo x > src/app.py"
    done = overlayws("start", *sandbox(kind), *words, "--", "sh", "-c", script,
                     env=environment(kind), code=None)  # fmt: skip
    assert done.code in (1, 2) and done.out == b"/srv/project\nblue\nprint('hello')\n"
    assert overlayws("diff").out == b""


@pytest.mark.parametrize("kind", EVERY)
def test_tools_show_neither_the_original_workspace_nor_the_state(
    kind: str, overlayws: Program, workspace: Path
) -> None:
    """Both are below what --tools names; a tool below the workspace is shown all the same."""
    make_tree(workspace, {"venv/bin/tool": "the tool\n"})
    top = workspace.parent
    env = {**environment(kind), "OVERLAYWS_HOME": str(top / "state"), "HOME": str(top / "home")}
    for directory in (top, top / "home"):
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
    (top / "home/key").write_text("planted-value-7141\n")
    words = ["--tools", top, "--tools", workspace / "venv", "--workdir-at", "/srv/project"]
    script = f"cat {workspace}/venv/bin/tool; grep -rs planted.value {top}; echo {top}/state/* {top}/home/*"
    done = overlayws("start", *sandbox(kind), *words, "--", "sh", "-c", script, env=env, code=None)
    try:
        assert done.out.decode() == f"the tool\n{top}/state/* {top}/home/*\n", done
    finally:
        remove_tree(top / "state")


COUNT = """
import os, sys, time
made = 0
try:
    while made < 400:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
except OSError:
    pass
print(made)
"""
EAT = """
import sys
try:
    x = bytearray()
    for _ in range(600):
        x.extend(bytes(1 << 20))
except MemoryError:
    sys.exit(1)
print(len(x))
"""
BURN = """
import os, threading, time
if os.fork() == 0:
    end = time.monotonic() + 3
    while time.monotonic() < end: pass
    os._exit(0)
end = time.monotonic() + 3
while time.monotonic() < end: pass
os.wait()
t = os.times()
print(t.user + t.system + t.children_user + t.children_system)
"""


@pytest.mark.parametrize("kind", EVERY)
def test_limits_hold(kind: str, overlayws: Program) -> None:
    limits = ["--memory", "256m", "--pids", "40", "--cpus", "0.5"]
    start = ["start", "--name", "s", *sandbox(kind), *limits, "--", "python3", "-I", "-S", "-c"]
    env = environment(kind)
    done = overlayws(*start, COUNT, env=env, code=None)
    unlimited = "--pids is not enforced" in done.err or "all processes of yours" in done.err
    assert done.code == 0 and (int(done.out) <= 40 or unlimited), done
    done = overlayws("run", "s", "--", "python3", "-I", "-S", "-c", EAT, env=env, code=None)
    if "for each process" in done.err:  # an rlimit: the program sees its allocation fail
        assert done.code == 1
    elif "--memory is not enforced" in done.err:
        assert (kind, done.code, os.geteuid() == 0) == ("gvisor-alone", 0, False)
    else:
        # What it changed until then was in the same memory, and is lost.
        assert done.code == (4 if kind == "gvisor-memory" else 137) and "out of memory" in done.err, done
    if kind.startswith("gvisor"):
        return  # whose clocks count the time that a process wants, not the one that it gets
    done = overlayws("run", "s", "--", "python3", "-I", "-S", "-c", BURN, env=env)
    # Two processes that want three seconds each, of half a processor (of one, where only whole ones can be given).
    assert float(done.out) < (3.9 if "whole number" in done.err else 2.4), done


@pytest.mark.parametrize("words, complaint", [
    (["--memory", "1k"], "--memory 1024 is out of range"),
    (["--memory", "many"], "'many' is no size"),
    (["--cpus", "1000"], "--cpus 1000 is out of range"),
    (["--cpus", "-1"], "--cpus -1 is out of range"),
    (["--cpus", "nan"], "--cpus nan is out of range"),
    (["--pids", "1"], "--pids 1 is out of range"),
    (["--workdir-at", "relative"], "not a place for a workspace"),
    (["--workdir-at", "/proc/x"], "not a place for a workspace"),
    (["--sandbox", "none", "--image", "x"], "nothing without a sandbox"),
    (["--sandbox", "none", "--read-only"], "--read-only is nothing without a sandbox"),
    (["--disk", "1g,0"], "--disk with 0 files is out of range"),
    (["--sandbox", "bwrap", "--image", "x"], "for a container"),
])  # fmt: skip
def test_options_that_make_no_sense_are_wrong_usage(words: list[str], complaint: str, overlayws: Program) -> None:
    sandbox = (
        [] if "--sandbox" in words else ["--sandbox", "none"] if "--work" not in words[0] else ["--sandbox", "bwrap"]
    )
    done = overlayws("start", *sandbox, *words, "--", "touch", "ran", code=2)
    assert complaint in done.error
    assert overlayws("list").out == b""


def test_an_engine_that_is_not_there_is_one_line(overlayws: Program) -> None:
    done = overlayws("start", "--sandbox", "docker", "--", "true", code=125)
    assert "no container engine" in done.error
