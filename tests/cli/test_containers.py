"""Containers: images, an engine that fails, and that none is left behind, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import engine
from tests.cli.conftest import Program, in_namespace, mounts
from tests.cli.containers import CONTAINED, ISOLATED, environment, sandbox
from tests.cli.test_kill import kill, nothing_runs, state, wait_until
from tests.cli.test_terminals import Person
from tests.trees import stamps

pytestmark = pytest.mark.docker


@pytest.fixture
def client() -> Iterator[Any]:
    import docker

    found = docker.APIClient(base_url=engine.host())
    yield found
    found.close()


def ours(client: Any, program: Program) -> list[str]:
    """The containers and volumes whose label names a session of ``program``."""
    filters = {"label": f"overlayws.session={program.session('s')}"}
    containers = [one["Id"] for one in client.containers(all=True, quiet=True, filters=filters)]
    return containers + [one["Name"] for one in client.volumes(filters=filters)["Volumes"] or ()]


def test_a_container_of_an_imported_image(overlayws: Program, root_file_system: Path, client: Any) -> None:
    env = environment("docker")
    name = f"overlayws-test/{os.getpid()}:x"
    identity = overlayws("image", "import", root_file_system, name, env=env).out.decode().strip()
    try:
        script = "cat /etc/motd; ls /usr 2>&1; echo $PWD; echo new > new; id -u"
        words = ["--sandbox", "docker", "--image", name, "--", "sh", "-c", script]
        done = overlayws("start", "--name", "s", *words, env=env)
        uid = 1000 if os.geteuid() == 0 else os.geteuid()
        assert done.out.decode() == f"an image of ours\nls: /usr: No such file or directory\n/workspace\n{uid}\n"
        assert overlayws("diff", "--name-status").out == b"A\tnew\n"
        (root_file_system / "bin/sh").unlink()
        overlayws("image", "import", root_file_system, name, env=env)
        done = overlayws("start", "--name", "t", *words, env=env, code=125)
        assert "/bin/sh" in done.error and "no such file" in done.error
        assert done.err.splitlines()[-1].startswith("hint: the command is started by a shell")
    finally:
        client.remove_image(name, force=True)
        client.remove_image(identity, force=True)


@pytest.mark.parametrize("words, complaint", [
    (["start", "--sandbox", "docker", "--image", "no-such-image:1", "--", "true"], "No such image"),
    (["start", "--sandbox", "docker", "--image", "Not A Name", "--", "true"], "invalid reference format"),
    (["start", "--sandbox", "docker", "--image", "/", ".", "--", "true"], "invalid reference format"),
    (["start", "--sandbox", "docker", "--image", "../info", "--", "true"], "invalid reference format"),
])  # fmt: skip
def test_an_image_that_is_not_there_is_one_line(words: list[str], complaint: str, overlayws: Program) -> None:
    done = overlayws(*words, env=environment("docker"), code=125)
    assert complaint in done.error
    assert complaint != "No such image" or "hint: docker pull no-such-image:1, or overlayws image import" in done.err
    assert overlayws("list").out == b""


@pytest.mark.parametrize("words", [
    ["--workdir-at", "/run"], ["--workdir-at", "/a:b"], ["--env", "HOME=relative"], ["--env", "HOME="],
    ["--env", "HOME=/workspace/home"],
])  # fmt: skip
@pytest.mark.parametrize("kind", CONTAINED)
def test_places_that_cannot_be_are_wrong_usage_and_leave_no_session(
    kind: str, words: list[str], overlayws: Program
) -> None:
    if kind == "gvisor-alone" and "/a:b" in words:
        pytest.skip("a colon is a character there")
    env = environment(kind)
    assert overlayws("start", *sandbox(kind), *words, "--", "true", env=env, code=2).error
    assert overlayws("list").out == b""


@pytest.mark.parametrize("options", [[], ["--read-only"]])
@pytest.mark.parametrize("kind", [one for one in CONTAINED if one.values[0] != "gvisor-alone"])
@pytest.mark.parametrize("volume", ["/workspace", "//workspace/.", "/workspace/src", "/behind"])
def test_a_volume_of_an_image_never_takes_the_place_of_the_workspace(
    volume: str, kind: str, options: list[str], overlayws: Program, root_file_system: Path, client: Any
) -> None:
    """A symlink of the image's included: only what is mounted tells. (gVisor mounts nothing through one.)"""
    os.symlink("workspace", root_file_system / "behind")
    (root_file_system / "workspace").mkdir()
    name = f"overlayws-test/{os.getpid()}:volume"
    archive = subprocess.run(["tar", "-C", root_file_system, "-c", "."], capture_output=True, check=True).stdout
    client.import_image_from_data(
        archive, repository=name.partition(":")[0], tag="volume", changes=[f"VOLUME {volume}"]
    )
    try:
        words = ["--sandbox", kind, "--image", name, *options, "--", "sh", "-c", "echo new > new; cat README.md"]
        done = overlayws("start", *words, env=environment(kind), code=None)
        if (kind, volume) == ("gvisor", "/behind") and done.code == 0:
            assert done.out == b"one\ntwo\nthree\n"
            assert overlayws("diff", "--name-status").out == (b"" if options else b"A\tnew\n")
            return
        assert done.code == 125
        assert "volume" in done.error or "mounted over the workspace" in done.error or "lost" in done.error
    finally:
        client.remove_image(name, force=True)


@pytest.mark.root
@pytest.mark.gvisor
def test_a_directory_as_an_image_is_never_written_to(
    overlayws: Program, workspace: Path, root_file_system: Path
) -> None:
    env = environment("gvisor-alone")
    before = stamps(root_file_system)
    words = ["--sandbox", "gvisor", "--image", root_file_system, "--workdir-at", "/srv/x", "--"]
    done = overlayws("start", *words, "sh", "-c", "cat /etc/motd README.md; echo x > new; ls -a /", env=env)
    assert done.out.startswith(b"an image of ours\none\n") and b"overlayws" not in done.out
    assert overlayws("diff", "--name-status").out == b"A\tnew\n"
    assert stamps(root_file_system) == before


@pytest.mark.root
@pytest.mark.gvisor
def test_a_directory_as_an_image_never_shows_what_is_hidden(overlayws: Program, workspace: Path) -> None:
    env = {**environment("gvisor-alone"), "HOME": str(overlayws.home.parent / "home")}
    (overlayws.home.parent / "home").mkdir(exist_ok=True)
    link = workspace.parent / "link"
    link.symlink_to(workspace / "src")
    overlayws("list", env=env)
    before = os.listdir("/")
    for image in ("/", workspace, workspace.parent, workspace / "src", link, overlayws.home, f"/.{workspace}/."):
        words = ["--sandbox", "gvisor", "--image", str(image), "--", "true"]
        done = overlayws("start", *words, env=env, code=125)
        assert "--image" in done.error and os.listdir("/") == before, image
        assert overlayws("list", env=env).out == b""


@pytest.mark.gvisor
@pytest.mark.skipif(os.geteuid() == 0, reason="root can show a directory")
def test_an_ordinary_user_has_no_directory_as_an_image(overlayws: Program, tmp_path: Path) -> None:
    words = ["--sandbox", "gvisor", "--image", tmp_path, "--", "true"]
    assert "only root" in overlayws("start", *words, env=environment("gvisor-alone"), code=125).error
    assert overlayws("list").out == b""


@pytest.mark.gvisor
def test_where_user_namespaces_are_switched_off_gvisor_says_so(overlayws: Program, tmp_path: Path) -> None:
    one_more = in_namespace("echo 1 > /proc/sys/user/max_user_namespaces", tmp_path, own_users=True)
    enter = [*one_more, "unshare", "--user", "--map-user=1234", "--map-group=1234"]  # where we are not root
    words = ["--sandbox", "gvisor", "--backend", "copy", "--", "true"]
    done = overlayws("start", *words, env=environment("gvisor-alone"), enter=enter, code=125)
    assert "no space left" in done.error or "user namespace" in done.error


def test_the_engines_own_socket_is_never_shown(overlayws: Program) -> None:
    place = os.path.dirname(engine.host().removeprefix("unix://"))
    words = ["--sandbox", "docker", "--tools", place, "--", "true"]
    done = overlayws("start", *words, env=environment("docker"), code=2)
    assert "holds the socket of the container engine" in done.error
    assert overlayws("list").out == b""


def test_names_that_are_none_and_directories_that_are_none(overlayws: Program, tmp_path: Path) -> None:
    env = environment("docker")
    assert "no name of an image" in overlayws("image", "import", tmp_path, "../x", env=env, code=2).error
    assert "no directory" in overlayws("image", "import", tmp_path / "none", "x", env=env, code=2).error
    assert "no container engine" in overlayws("image", "import", tmp_path, "x", code=3).error


@pytest.mark.gvisor
def test_a_runtime_that_keeps_writes_to_itself_is_never_no_changes(
    overlayws: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The engine's other runtime overlays every mount in memory: what is written to the workspace would vanish."""
    proxy = tmp_path / "python"
    proxy.mkdir()
    (proxy / "sitecustomize.py").write_text(
        "import overlayws.run.docker as docker\ndocker.gvisor_runtime = lambda: docker.Runtime('runsc-forgetful', ())\n"
    )
    env = {**environment("gvisor"), "PYTHONPATH": str(proxy)}
    done = overlayws("start", "--sandbox", "gvisor", "--", "touch", "new", env=env, code=125)
    assert "what is written to the workspace is lost" in done.error


@pytest.mark.gvisor
def test_gvisor_has_no_way_to_the_hosts_network(overlayws: Program) -> None:
    words = ["--sandbox", "gvisor", "--network", "host", "--", "true"]
    assert "network" in overlayws("start", *words, env=environment("gvisor"), code=2).error
    assert overlayws("list").out == b""


@pytest.mark.gvisor
def test_limits_that_a_runtime_ignores_are_said(overlayws: Program, tmp_path: Path) -> None:
    proxy = tmp_path / "python"
    proxy.mkdir()
    (proxy / "sitecustomize.py").write_text(
        "import overlayws.run.docker as docker\n"
        "docker.gvisor_runtime = lambda: docker.Runtime('runsc-unlimited', ('--ignore-cgroups',))\n"
    )
    env = {**environment("gvisor"), "PYTHONPATH": str(proxy)}
    done = overlayws("start", "--sandbox", "gvisor", "--memory", "64m", "--", "true", env=env)
    assert "--memory and --cpus are not enforced" in done.err


@pytest.mark.parametrize("kind", CONTAINED)
def test_after_kill_9_nothing_is_left_and_the_changes_are_kept(
    kind: str, overlayws: Program, workspace: Path, client: Any
) -> None:
    env = environment(kind)
    script = "echo x > new; rm -r docs; setsid sleep 100 & echo ready; while :; do sleep 0.1; done"
    child = overlayws.started("start", "--name", "s", *sandbox(kind), "--", "sh", "-c", script, env=env)
    assert child.stdout and child.stdout.readline() == b"ready\n"
    if os.geteuid() == 0:  # an ordinary user's engine keeps its own until the container ends
        assert mounts(overlayws.home) == []
    assert bool(ours(client, overlayws)) == (kind != "gvisor-alone")
    # The supervisor too: nobody is there who could end the container.
    supervisors = [pid for pid in children(child.pid) if "supervise.py" in command_line(pid)]
    assert supervisors
    for pid in supervisors:
        os.kill(pid, signal.SIGKILL)
    kill(child)
    done = overlayws("list", env=env)
    assert "session s was interrupted" in done.err and state(overlayws) == "interrupted"
    assert ours(client, overlayws) == []
    nothing_runs(overlayws)
    assert overlayws("diff", "s", "--name-status").out == b"D\tdocs/guide.txt\nA\tnew\n"
    overlayws("run", "s", "--", "sh", "-c", "cat new", env=env)


def test_after_kill_9_of_doctor_the_next_command_takes_its_trial_away(overlayws: Program, client: Any) -> None:
    env = environment("docker")
    overlayws("list", env=env)

    def probes() -> list[Path]:
        return [path for path in overlayws.home.glob(".*-*") if path.is_dir()]

    def containers() -> list[str]:
        found = client.containers(all=True, filters={"label": "overlayws.session"})
        return [one["Id"] for one in found if one["Labels"]["overlayws.session"].startswith(str(overlayws.home))]

    child = overlayws.started("doctor", env=env)
    wait_until(lambda: any(b"container" in path.read_bytes() for path in overlayws.home.glob(".probe-*/outside")), "it")
    kill(child)
    assert probes()
    for path in probes():
        os.utime(path, (0, 0))
    overlayws("list", env=env)
    assert probes() == [] and containers() == []
    assert mounts(overlayws.home) == []


def test_when_overlayws_alone_is_killed_its_container_ends_at_once(overlayws: Program, client: Any) -> None:
    env = environment("docker")
    script = "echo ready; while :; do sleep 0.1; done"
    child = overlayws.started("start", "--name", "s", "--sandbox", "docker", "--", "sh", "-c", script, env=env)
    assert child.stdout and child.stdout.readline() == b"ready\n"
    kill(child)
    filters = {"label": f"overlayws.session={overlayws.session('s')}"}
    wait_until(lambda: not client.containers(all=True, quiet=True, filters=filters), "the end of the container")
    overlayws("list", env=env)
    assert ours(client, overlayws) == []


@pytest.fixture
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of an engine of the test's own, to be killed (``kill_engine``)."""
    place = tmp_path_factory.mktemp("engine") / "own"
    with subprocess.Popen([engine.SCRIPT, place, str(os.getpid())]) as started:
        try:
            wait_until(lambda: (place / "ready").exists(), "an engine")
            yield place
        finally:
            (place / "stop").touch()
            started.wait(30)


def kill_engine(place: Path) -> None:
    (place / "restart").touch()  # so that the engine's script does not mind
    os.kill(int((place / "pid").read_text()), signal.SIGKILL)


@pytest.mark.root
def test_when_the_engine_is_killed_its_container_is_ended_without_it(overlayws: Program, mortal: Path) -> None:
    env = {"DOCKER_HOST": f"unix://{mortal}/socket"}
    script = "echo x > new; echo ready; while :; do sleep 0.1; done"
    child = overlayws.started("start", "--name", "s", "--sandbox", "docker", "--", "sh", "-c", script, env=env)
    assert child.stdout and child.stdout.readline() == b"ready\n"
    kill_engine(mortal)
    child.kill()
    child.communicate(timeout=30)
    overlayws("list", env=env)
    assert state(overlayws) == "interrupted"
    nothing_runs(overlayws)
    assert overlayws("diff", "s", "--name-status").out == b"A\tnew\n"


def test_a_connection_that_is_lost_is_no_status_of_the_command(overlayws: Program, client: Any) -> None:
    env = environment("docker")
    script = "echo x > new; echo ready; sleep 100"
    child = overlayws.started("start", "--name", "s", "--sandbox", "docker", "--", "sh", "-c", script, env=env)
    assert child.stdout and child.stdout.readline() == b"ready\n"
    below = [pid for one in children(child.pid) for pid in (one, *children(one))]
    attached = [pid for pid in below if command_line(pid).split("\0")[-2].endswith("attach.py")]
    assert len(attached) == 1
    os.kill(attached[0], signal.SIGKILL)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 4 and b"end is not known" in err
    overlayws("list", env=env)
    assert state(overlayws) == "interrupted" and ours(client, overlayws) == []


@pytest.mark.root
def test_an_engine_that_dies_during_a_run_is_no_status_of_the_command(overlayws: Program, mortal: Path) -> None:
    env = {"DOCKER_HOST": f"unix://{mortal}/socket"}
    words = ["--sandbox", "docker", "--", "sh", "-c", "echo ready; sleep 100"]
    child = overlayws.started("start", "--name", "s", *words, env=env)
    assert child.stdout and child.stdout.readline() == b"ready\n"
    kill_engine(mortal)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 4, err
    overlayws("list", env=env)
    assert state(overlayws) == "interrupted"


def children(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parent = int(Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found.append(int(name))
    return found


def command_line(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "cmdline").read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("kind", ISOLATED)
def test_a_shell_at_a_terminal(kind: str, overlayws: Program) -> None:
    env = dict(environment(kind))
    shell = ["bash", "--norc", "--noediting"]  # whose line editing gVisor of 2022 cannot
    person = Person(overlayws, "start", "--name", "s", *sandbox(kind), "--", *shell, env=env)
    person.waits_for("# " if (kind, os.geteuid() == 0) == ("gvisor-alone", False) else "$ ")
    person.resizes(33, 99)
    person.types("echo $((6 * 7)) > new; [ -t 0 ] && echo at-a-$TERM; stty size; echo e\\nd\r")
    person.waits_for("\nend\r\n")
    assert b"at-a-xterm-256color" in person.seen and b"33 99" in person.seen
    person.types("sleep 100\r")
    time.sleep(1.0)
    person.types("\x03")
    person.types("echo interrupted-$?\r")
    person.waits_for("interrupted-130")
    person.types("exit 5\r")
    assert person.leaves() == 5
    assert overlayws("diff", "s", "--name-status").out == b"A\tnew\n"


@pytest.mark.parametrize("kind", ISOLATED)
def test_interrupted_without_a_terminal_it_ends_with_130(kind: str, overlayws: Program) -> None:
    script = "echo x > new; echo ready; sleep 100; echo never"
    child = overlayws.started("start", "--name", "s", *sandbox(kind), "--", "sh", "-c", script, env=environment(kind))
    assert child.stdout and child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130 and b"never" not in out, err
    assert overlayws("diff", "s", "--name-status").out == b"A\tnew\n"


@pytest.mark.parametrize("kind", ISOLATED)
def test_the_program_may_handle_what_ends_it(kind: str, overlayws: Program) -> None:
    script = "trap 'echo x > handled; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    child = overlayws.started("start", "--name", "s", *sandbox(kind), "--", "sh", "-c", script, env=environment(kind))
    assert child.stdout and child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 9, err
    assert overlayws("diff", "s", "--name-status").out == b"A\thandled\n"


@pytest.mark.parametrize("kind", ISOLATED)
def test_a_time_limit_ends_a_container_that_ignores_it(kind: str, overlayws: Program) -> None:
    script = "trap '' TERM INT; echo x > new; setsid sleep 100 & while :; do sleep 1; done"
    words = [*sandbox(kind), "--timeout", "2", "--", "sh", "-c", script]
    began = time.monotonic()
    overlayws("start", "--name", "s", *words, env=environment(kind), code=124)
    assert time.monotonic() - began < 20
    assert overlayws("diff", "s", "--name-status").out == b"A\tnew\n"
