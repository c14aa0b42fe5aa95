"""Attacks from inside bwrap, each with a proof that the test would notice if its defence were missing."""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.run.confined import Place

pytestmark = pytest.mark.bwrap

SECRET = "hush-" + uuid.uuid4().hex

STATUS = "import re; s = open('/proc/self/status').read(); print(re.findall(r'(?m)^{}:\\s*(\\S+)', s))"

# Everything of every process that is visible, which is where an environment or a command line would show.
PROCESSES = """
import glob
for path in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline') + glob.glob('/proc/[0-9]*/comm'):
    try: print(path, open(path, 'rb').read())
    except OSError: pass
"""

LIBC = "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True)\n"
ERRNO = "print(os.strerror(ctypes.get_errno()) if result < 0 else 'allowed')"
UNSHARE = LIBC + "result = libc.unshare({}); " + ERRNO
ADD_KEY = LIBC + "result = libc.syscall(248, b'user', b'overlayws', b'x', 1, -2); " + ERRNO
VSOCK = """
import socket
try: socket.socket(40, socket.SOCK_STREAM); print('allowed')
except OSError as error: print(error.strerror)
"""
IO_URING = LIBC + "result = libc.syscall(425, 1, ctypes.create_string_buffer(120)); " + ERRNO
WRITE = """
import sys
try: open(sys.argv[1], 'r+b').close(); print('allowed')
except OSError as error: print(error.strerror)
"""
READ = """
import sys
try: print(open(sys.argv[1], 'rb').read(200))
except OSError as error: print(error.strerror)
"""

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000


def test_the_callers_environment_is_nowhere_in_proc(anyone: Place) -> None:
    caller = {"AWS_SECRET_ACCESS_KEY": SECRET}
    assert SECRET not in anyone.probe(PROCESSES, caller_env=caller).out
    assert SECRET in anyone.probe(PROCESSES, caller_env=caller, without={"empty_environment": True}).out


def test_the_arguments_of_bwrap_are_nowhere_in_proc(anyone: Place) -> None:
    assert str(anyone.merged) not in anyone.probe(PROCESSES).out
    assert str(anyone.merged) in anyone.probe(PROCESSES, without={"arguments_in_a_descriptor": True}).out


def test_there_is_no_capability(anyone: Place) -> None:
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert anyone.probe(STATUS.format(name)).out == f"['{'0' * 16}']\n", name


def test_root_would_have_capabilities_without_cap_drop(here: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("bwrap leaves an ordinary user none anyway")
    probe = here.probe(STATUS.format("CapBnd"), without={"options": [["--cap-drop", "ALL"]]})
    assert probe.out != f"['{'0' * 16}']\n"


def test_no_new_privileges_and_a_filter_are_set(anyone: Place) -> None:
    assert anyone.probe(STATUS.format("NoNewPrivs")).out == "['1']\n"
    assert anyone.probe(STATUS.format("Seccomp")).out == "['2']\n"


def test_user_namespaces_are_refused(anyone: Place) -> None:
    probe = UNSHARE.format(CLONE_NEWUSER)
    assert anyone.probe(probe).out != "allowed\n"
    assert anyone.probe(probe, without={"options": [["--disable-userns"]]}).out == "allowed\n"


def test_mounts_are_refused(anyone: Place) -> None:
    mount = LIBC + "result = libc.mount(b'none', b'/tmp', b'tmpfs', 0, None); " + ERRNO
    assert anyone.probe(mount).out == "Operation not permitted\n"
    assert anyone.probe(UNSHARE.format(CLONE_NEWNS)).out == "Operation not permitted\n"
    umount = LIBC + "result = libc.umount2(b'/workspace', 2); " + ERRNO
    assert anyone.probe(umount).out == "Operation not permitted\n"


@pytest.mark.parametrize("probe", [ADD_KEY, VSOCK, IO_URING], ids=["add_key", "vsock", "io_uring"])
def test_calls_that_no_namespace_confines_are_refused(anyone: Place, probe: str) -> None:
    refused = "Operation not permitted\n"
    assert anyone.probe(probe).out == refused
    unfiltered = anyone.probe(probe, without={"options": [["--seccomp", "11"]]})
    assert unfiltered.out != refused, "the kernel itself refuses it here"


def test_the_only_network_interface_is_loopback(anyone: Place) -> None:
    probe = "import socket; print(socket.if_nameindex())"
    assert anyone.probe(probe).out == "[(1, 'lo')]\n"
    # Another network namespace also has other abstract sockets, on a machine with nothing but lo as well.
    name = f"overlayws-{uuid.uuid4().hex}"
    connect = f"import socket; s = socket.socket(socket.AF_UNIX); print(s.connect_ex('\\0{name}'))"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        assert anyone.probe(connect).out != "0\n"
        assert anyone.probe(connect, without={"options": [["--unshare-net"]]}).out == "0\n"


def test_processes_of_the_host_are_not_visible(anyone: Place) -> None:
    count = "import os; print(len([n for n in os.listdir('/proc') if n.isdigit()]))"
    assert anyone.probe(count).out == "2\n"  # bwrap's process 1, and the probe
    signal_host = f"import os; os.kill({os.getpid()}, 0)"
    assert "ProcessLookupError" in anyone.probe(signal_host).err


def test_the_hosts_settings_in_proc_cannot_be_written(here: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user cannot write them anyway")
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/dev/tty/legacy_tiocsti"):
        if os.path.exists(path):
            assert here.probe(WRITE, path).out in ("Read-only file system\n", "Permission denied\n"), path
    # Opened only, not written: these belong to the machine that runs the tests.
    weak = here.probe(WRITE, "/proc/sys/kernel/core_pattern", without={"options": [["--remount-ro", "/proc"]]})
    assert weak.out == "allowed\n"


@pytest.mark.parametrize("path", ["/proc/keys", "/proc/key-users", "/proc/kallsyms"])
def test_what_proc_tells_of_the_host_is_masked(anyone: Place, path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"no {path} here")
    assert anyone.probe(READ, path).out == "Permission denied\n"
    unmasked = anyone.probe(READ, path, without={"options": [["--ro-bind", "/dev/null", path]]})
    assert unmasked.out != "Permission denied\n"


def test_a_setuid_program_gives_nothing(here: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to plant one")
    # Owned by the caller, as whatever is in an upperdir: it must not even be another user inside.
    shutil.copy("/usr/bin/id", here.merged / "id")
    os.chown(here.merged / "id", 0, 0)
    os.chmod(here.merged / "id", 0o6755)
    assert here.run("./id", "-u").out == "1000\n"
    for program in ("/usr/bin/su", "/usr/bin/passwd", "/usr/bin/mount"):
        if os.path.exists(program):
            euid = (
                "import os, sys; s = os.stat(sys.argv[1]); f = os.statvfs(sys.argv[1]); print(f.f_flag & os.ST_NOSUID)"
            )
            assert here.probe(euid, program).out == f"{os.ST_NOSUID}\n"


def test_files_belong_to_the_caller_outside_and_to_the_user_inside(anyone: Place) -> None:
    ended = anyone.run("sh", "-c", "touch new; id -u; id -un; stat -c %u new")
    assert ended.out.split() == ["1000", "agent", "1000"]
    assert (anyone.merged / "new").stat().st_uid == (os.geteuid() if anyone.uid is None else anyone.uid)


FIND = """
import os, sys
secret, found = sys.argv[1].encode(), []
roots = ['/'] + ['/proc/%s/%s' % (p, n) for p in os.listdir('/proc') if p.isdigit() for n in ('root', 'cwd')]
for root in roots:
    for top, directories, files in os.walk(root):
        directories[:] = [d for d in directories if top != root or d not in ('proc', 'usr', 'dev')]
        for name in files:
            path = os.path.join(top, name)
            try:
                if os.path.isfile(path) and os.path.getsize(path) < 1000 and secret in open(path, 'rb').read():
                    found.append(path)
            except OSError: pass
for path in sys.argv[2:]:
    for prefix in ('', '/proc/1/root', '/proc/self/root', '/workspace/../..', '/proc/self/cwd/../../..'):
        try: found.append(repr((prefix + path, os.listdir(prefix + path))))
        except OSError: pass
print(found)
"""


def test_home_state_and_original_workspace_are_not_reachable(anyone: Place) -> None:
    places = [anyone.root / name for name in ("home", "state", "original")]
    for directory in places:
        directory.mkdir()
        (directory / "secret").write_text(SECRET)
    anyone.give()
    arguments = (SECRET, *map(str, places), os.path.expanduser("~root"), str(anyone.merged))
    assert anyone.probe(FIND, *arguments).out == "[]\n"
    shown = anyone.probe(FIND, *arguments, spec={"tools": [str(places[1])]})
    assert str(places[1] / "secret") in shown.out


def test_hidden_directories_are_masked_where_a_tool_would_show_them(anyone: Place) -> None:
    tool, state = anyone.root / "tool", anyone.root / "tool" / "deep" / "state"
    state.mkdir(parents=True)
    (state / "secret").write_text(SECRET)
    (tool / "program").write_text("echo tool\n")
    (tool / "program").chmod(0o755)
    anyone.give()
    spec = {"tools": [str(tool)], "hidden": [str(state)]}
    assert anyone.run(str(tool / "program"), spec=spec).out == "tool\n"
    assert anyone.probe(FIND, SECRET, spec=spec).out == "[]\n"
    weak = anyone.probe(FIND, SECRET, spec=spec, without={"options": [["--tmpfs", str(state)]]})
    assert SECRET not in weak.out and "secret" in weak.out


def test_tools_and_the_root_are_read_only(anyone: Place) -> None:
    tool = anyone.root / "tool"
    tool.mkdir()
    anyone.give()
    touch = f"for d in / /etc /usr /home {tool} /proc; do touch $d/new 2>&1; done; exit 0"
    ended = anyone.run("sh", "-c", touch, spec={"tools": [str(tool)]})
    assert len(ended.out.splitlines()) == 6 and "new" not in os.listdir(tool)


def test_a_read_only_run_cannot_write_the_workspace(anyone: Place) -> None:
    (anyone.merged / "file").write_text("as it was")
    anyone.give()
    ended = anyone.run("sh", "-c", "echo x >file; touch new; rm file; ls; exit 0", spec={"read_only": True})
    assert ended.out == "file\n" and (anyone.merged / "file").read_text() == "as it was"


@pytest.mark.parametrize(
    "workspace",
    ["/workspace", "/tmp/a b", "/home/someone/project", "/root/project", "/home/agent/project", "/run/x", "/var/tmp/y",
     "/srv/\udcff\udcfe", "/x/new\nline", "/x/a,b:c\\d", "/opt/-x", "/x/--args", "/" + "/".join(["d" * 200] * 10)],
)  # fmt: skip
def test_the_workspace_appears_at_its_own_path(anyone: Place, workspace: str) -> None:
    (anyone.merged / "here").touch()
    anyone.give()
    options: dict[str, Any] = {"popen": {"errors": "surrogateescape"}, "workspace": workspace}
    ended = anyone.run("sh", "-c", 'pwd; ls; echo "$PWD"; touch new', **options)
    assert ended.out == f"{workspace}\nhere\n{workspace}\n"
    assert sorted(os.listdir(anyone.merged)) == ["here", "new"]


def test_a_workspace_below_usr_shadows_the_original(here: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a directory below /usr")
    original = Path(f"/usr/src/overlayws-{uuid.uuid4().hex}")
    original.mkdir()
    try:
        (original / "secret").write_text(SECRET)
        (here.merged / "here").touch()
        assert here.run("sh", "-c", "ls; ls /proc/1/root$PWD", workspace=str(original)).out == "here\nhere\n"
    finally:
        shutil.rmtree(original)


def test_a_tool_below_tmp_is_there(anyone: Place) -> None:
    assert str(anyone.root).startswith("/tmp/")
    tool = anyone.root / "tool" / "bin"
    tool.mkdir(parents=True)
    (tool / "hello").write_text("#!/bin/sh\necho hello\n")
    (tool / "hello").chmod(0o755)
    anyone.give()
    env = {"PATH": f"{tool}:/usr/bin:/bin"}
    assert anyone.run("hello", env=env, spec={"tools": [str(tool.parent)]}).out == "hello\n"


def test_the_callers_network_has_its_names(here: Place) -> None:
    probe = "import os; print(sorted(n for n in ('hosts', 'resolv.conf') if os.path.exists('/etc/' + n)))"
    assert here.probe(probe).out == "['hosts']\n"
    real = sorted(name for name in ("hosts", "resolv.conf") if os.path.exists(f"/etc/{name}"))
    assert here.probe(probe, spec={"network": "host"}).out == f"{real}\n"


def test_every_bwrap_of_this_machine_does_it_all(anyone: Place) -> None:
    from overlayws.run.bwrap_program import candidates

    tried = 0
    for program in candidates():
        if anyone.uid is not None and not os.access(program, os.X_OK, effective_ids=False):
            continue
        if anyone.uid is not None and program.startswith("/root/"):
            continue
        tried += 1
        assert anyone.probe(UNSHARE.format(CLONE_NEWUSER), program=program).out != "allowed\n", program
        assert anyone.probe(STATUS.format("CapBnd"), program=program).out == f"['{'0' * 16}']\n", program
        assert anyone.run("sh", "-c", "exit 42", program=program).code == 42, program
    assert tried


def test_a_sandbox_that_fails_is_not_started_and_says_why(here: Place) -> None:
    said = here.run("true", spec={"tools": [str(here.root)], "hidden": []}, workspace="/usr/no/such/place").said
    assert said["error"] == "NotStartedError"
    assert "/usr/no" in said["message"] and "\n" not in said["message"]
    said = here.run("true", program="/nonexistent/bwrap").said
    assert said["error"] == "NotStartedError" and "/nonexistent/bwrap" in said["message"]
