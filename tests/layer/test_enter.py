"""enter.py: what a process under ``Mount.enter`` is, sees and inherits, and that nothing of it outlives anything."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from overlayws.layer.mount import Mount, MountError, check_entered
from tests.layer.conftest import PYTHON, Case, run_in
from tests.layer.uppers import upper_tree
from tests.trees import make_tree

ROOT = Path(__file__).resolve().parents[2]


def mountinfo(case: Case, **keywords: object) -> list[list[str]]:
    """The overlay lines of the process's mountinfo (proc_pid_mountinfo(5)), split."""
    text = case.run("print(open('/proc/self/mountinfo').read())", **keywords)  # type: ignore[arg-type]
    return [line.split(" ") for line in text.splitlines() if str(case.layer.merged.parent) in line]


def processes_of(top: Path) -> list[int]:
    """Processes that see a mount of a layer below ``top``, or that are about to make it."""
    found = []
    for pid in (name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()):
        try:
            text = Path(f"/proc/{pid}/mountinfo").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(top / "merged") in text:
            found.append(int(pid))
    return found


def gone(top: Path) -> bool:
    deadline = time.monotonic() + 5
    while processes_of(top):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_the_mount_is_nosuid_nodev_and_says_nothing_but_the_plain_format(overlay: Case) -> None:
    (line,) = mountinfo(overlay)
    assert {"nosuid", "nodev"} <= set(line[5].split(","))
    assert "redirect_dir=nofollow" in line[-1]
    assert not {"metacopy=on", "index=on"} & set(line[-1].split(","))
    assert ("userxattr" in line[-1].split(",")) is (overlay.name == "userns")


def test_the_mount_at_the_workspace_is_nosuid_and_nodev_too(overlay: Case, tmp_path: Path) -> None:
    workspace = make_tree(tmp_path / "ws", {"real": ""})
    text = overlay.run("print(open('/proc/self/mountinfo').read())", at=workspace)
    (line,) = [line.split(" ") for line in text.splitlines() if f" {workspace} " in line]
    assert {"nosuid", "nodev"} <= set(line[5].split(","))


def test_no_mount_reaches_our_own_namespace(overlay: Case, tmp_path: Path) -> None:
    workspace = make_tree(tmp_path / "ws", {"real": ""})
    with overlay.mounted(workspace) as mount, subprocess.Popen([*mount.enter, "sleep", "10"]) as process:
        while str(overlay.layer.merged) not in Path(f"/proc/{process.pid}/mountinfo").read_text():
            time.sleep(0.01)
        time.sleep(0.05)
        assert os.listdir(workspace) == ["real"]
        assert os.listdir(overlay.layer.merged) == []
        process.kill()


@pytest.mark.root
def test_no_mount_reaches_our_own_namespace_where_mounts_are_shared(overlay: Case, tmp_path: Path) -> None:
    # As under systemd, which makes / shared (mount_namespaces(7)): in a namespace of our own, to be safe.
    script = f"""
import os, subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from overlayws.layer.all_backends import BACKENDS
from overlayws.layer.mount import Layer
name, *paths = sys.argv[1:]
with BACKENDS[name].mounted(Layer(*map(Path, paths[:4])), Path(paths[4])) as mount:
    inside = subprocess.run([*mount.enter, "cat", "/proc/self/mountinfo"], capture_output=True, text=True).stdout
    process = subprocess.Popen([*mount.enter, "sh", "-c", "echo; exec sleep 10"], stdout=subprocess.PIPE)
    process.stdout.read(1)
    outside = open("/proc/self/mountinfo").read()
    process.kill()
print(outside.count("shared:") > 0, paths[3] in inside, paths[3] in outside)  # others mount meanwhile, too
"""
    layer = overlay.layer
    paths = [layer.lowerdir, layer.upperdir, layer.workdir, layer.merged, make_tree(tmp_path / "ws", {"real": ""})]
    shared = ["unshare", "--mount", "sh", "-c", 'mount --make-rshared / && exec "$@"', "sh"]
    words = [*shared, PYTHON[0], "-c", script, overlay.name, *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True", "False"], done.stderr


def test_the_workspace_is_shadowed_for_a_process_whose_working_directory_it_is(overlay: Case, tmp_path: Path) -> None:
    workspace = make_tree(tmp_path / "ws", {"real": "", "d/x": "real\n", "hidden/x": ""})
    code = "print(sorted(os.listdir('.')), os.getcwd()); open('new', 'w').close()"
    assert overlay.run(code, at=workspace, cwd=workspace) == f"['d', 'f'] {workspace}"
    assert overlay.run("print(open('x').read())", at=workspace, cwd=workspace / "d") == "x"
    # A directory that merged does not have must not stay reachable as the working directory.
    assert overlay.run("print(os.getcwd())", at=workspace, cwd=workspace / "hidden") == str(workspace)
    assert sorted(os.listdir(workspace)) == ["d", "hidden", "real"]
    assert "new" in upper_tree(overlay.layer.upperdir, overlay.prefix)


def test_only_inheritable_descriptors_and_the_standard_streams_are_passed_on(overlay: Case, tmp_path: Path) -> None:
    passed = os.open(tmp_path, os.O_RDONLY)
    not_passed = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(passed, True)
    code = "import os\nfor n in os.listdir('/proc/self/fd'):\n  if os.path.exists(f'/proc/self/fd/{n}'): print(n)"
    with overlay.mounted() as mount:
        words = [*mount.enter, *PYTHON, "-c", code]
        done = subprocess.run(words, close_fds=False, stdin=subprocess.PIPE, capture_output=True, text=True)
    os.close(passed)
    os.close(not_passed)
    # Descriptors of the test runner itself may be inheritable; none may be that we did not have.
    assert {"0", "1", "2", str(passed)} <= set(done.stdout.split())
    assert str(not_passed) not in done.stdout.split()
    assert set(done.stdout.split()) <= {n for n in os.listdir("/proc/self/fd")} | {"0", "1", "2", str(passed)}


def test_no_descriptor_of_the_mount_is_left_open(overlay: Case) -> None:
    text = overlay.run(
        "print([os.readlink(f'/proc/self/fd/{n}') for n in ('0', '1', '2')], os.listdir('/proc/self/fd'))"
    )
    assert text.endswith("['0', '1', '2', '3']"), text  # 3 is the listing itself


def test_signals_and_the_environment_are_as_they_were(overlay: Case) -> None:
    code = "grep SigIgn /proc/self/status; env"
    with overlay.mounted() as mount:
        words = [*mount.enter, "/bin/sh", "-c", code]
        done = subprocess.run(words, env={"A": "b", "PATH": os.defpath}, capture_output=True, text=True)
        plain = subprocess.run(words[-3:], env={"A": "b", "PATH": os.defpath}, capture_output=True, text=True)
    assert sorted(done.stdout.splitlines()) == sorted(plain.stdout.splitlines())


def test_the_program_cannot_unmount_what_hides_the_lowerdir(overlay: Case) -> None:
    if overlay.name == "kernel":
        pytest.skip("root in its own namespace may unmount; bwrap's nested user namespace is what stops it there")
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print([libc.umount2(os.fsencode(sys.argv[1]), flags) and ctypes.get_errno() for flags in (0, 2)])
"""
    assert overlay.run(code, overlay.layer.merged, cwd=Path("/")) == "[1, 1]"  # EPERM


@pytest.mark.parametrize("who", ["parent", "child"])
def test_nothing_is_left_when_the_parent_or_the_child_is_killed_at_any_time(overlay: Case, who: str) -> None:
    parent = """
import subprocess, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from overlayws.layer.all_backends import BACKENDS
from overlayws.layer.mount import Layer
with BACKENDS[sys.argv[2]].mounted(Layer(*map(Path, sys.argv[3:7]))) as mount:
    process = subprocess.Popen([*mount.enter, "sleep", "1000"])
    print(process.pid, flush=True)
    process.wait()
"""
    layer = overlay.layer
    top = layer.merged.parent
    for delay in (0, 2, 5, 8, 11, 14, 17, 20, 25, 30, 60):
        words = [*PYTHON[:1], "-I", "-c", parent, ROOT, overlay.name]
        words += [layer.lowerdir, layer.upperdir, layer.workdir, layer.merged]
        with subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            child = int(process.stdout.readline())
            time.sleep(delay / 1000)
            os.kill(child if who == "child" else process.pid, signal.SIGKILL)
        assert gone(top), f"left behind after {delay} ms: {processes_of(top)}"
    assert overlay.run("print(open('f').read())") == "old"


def test_a_process_whose_parent_is_gone_already_does_not_start(overlay: Case) -> None:
    with overlay.mounted() as mount:
        enter = tuple("parent=1" if word.startswith("parent=") else word for word in mount.enter)
        done = subprocess.run([*enter, "echo", "started"], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (125, "")
        with pytest.raises(MountError, match="gone"):
            check_entered(mount)


def test_a_refused_mount_is_told_and_the_program_is_not_started(overlay: Case) -> None:
    with overlay.mounted() as mount:
        enter = tuple("work=/proc" if word.startswith("work=") else word for word in mount.enter)
        done = subprocess.run([*enter, "echo", "started"], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (125, "", "")
        with pytest.raises(MountError) as raised:
            check_entered(mount)
    assert "\n" not in raised.value.message
    assert raised.value.message.endswith("overlayfs refuses the layer: Invalid argument")
    assert raised.value.hint


@pytest.mark.parametrize(
    ("command", "status", "why"), [("/nowhere/x", 127, "No such file"), ("/etc/passwd", 126, "Permission denied")]
)
def test_a_program_that_cannot_be_executed_is_told(overlay: Case, command: str, status: int, why: str) -> None:
    with overlay.mounted() as mount:
        assert subprocess.run([*mount.enter, command]).returncode == status
        with pytest.raises(MountError, match=why):
            check_entered(mount)


def test_without_a_status_file_the_error_is_on_standard_error(overlay: Case) -> None:
    with overlay.mounted() as mount:
        enter = [word for word in mount.enter if not word.startswith("status=")]
        enter = ["work=/proc" if word.startswith("work=") else word for word in enter]
        done = subprocess.run([*enter, "echo", "started"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.splitlines()[0].startswith("enter: overlayfs refuses the layer")


def test_the_programs_own_exit_status_passes_through(overlay: Case) -> None:
    with overlay.mounted() as mount:
        for status in (0, 1, 125, 255):
            assert subprocess.run([*mount.enter, "sh", "-c", f"exit {status}"]).returncode == status
            check_entered(mount)


OLDER_KERNELS = {
    "mount(2) alone": "enter._SYS_FSOPEN = 9999",
    "no descriptors as options": "enter._SET_FD = 99",
}


@pytest.mark.parametrize("patch", OLDER_KERNELS.values(), ids=list(OLDER_KERNELS))
def test_older_kernels_ways_to_mount_give_the_same(overlay: Case, tmp_path: Path, patch: str) -> None:
    workspace = make_tree(tmp_path / "w,:\\ s", {"real": ""})
    loader = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("enter", {str(ROOT / "overlayws/layer/enter.py")!r})
enter = importlib.util.module_from_spec(spec)
spec.loader.exec_module(enter)
{patch}
sys.exit(enter.main(sys.argv[1:]))
"""
    with overlay.mounted(workspace) as mount:
        words = (*mount.enter[:3], "-c", loader, *mount.enter[4:])
        older = Mount(mount.merged, words, mount.status)
        code = "open('f', 'a').write('new'); os.unlink('d/x'); print(sorted(os.listdir(sys.argv[1])), os.getcwd())"
        assert run_in(older, code, workspace, cwd=workspace) == f"['d', 'f'] {workspace}"
        info = run_in(older, "print(open('/proc/self/mountinfo').read())")
    upper = upper_tree(overlay.layer.upperdir, overlay.prefix)
    assert (upper["f"][3], upper["d/x"]) == (b"old\nnew", "whiteout")  # type: ignore[index]
    (line,) = [line.split(" ") for line in info.splitlines() if f" {mount.merged} " in line]
    assert {"nosuid", "nodev"} <= set(line[5].split(","))
