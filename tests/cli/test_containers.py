"""Containers: their images, the places in them, and what their engine or runtime cannot."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import engine
from tests.cli.conftest import Program, in_namespace
from tests.cli.containers import CONTAINED, client, environment, sandbox
from tests.trees import stamps

pytestmark = pytest.mark.docker
__all__ = ["client"]  # a fixture


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


def test_the_program_has_a_name_whoever_the_caller_is(overlayws: Program) -> None:
    """An ordinary user's has the user's own number, which is seldom 1000: programs look up whose it is."""
    script = 'id -u; id -un; id -gn; python3 -c \'import os; print(os.path.expanduser("~" + os.environ["USER"]))\''
    words = ["--sandbox", "docker", "--", "sh", "-euc", script]
    number = b"%d" % (os.getuid() or 1000)
    done = overlayws("start", *words, env=environment("docker"))
    assert done.out.splitlines() == [number, b"agent", b"agent", b"/home/agent"]


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
