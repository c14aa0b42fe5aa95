"""What an engine is told about a run, and which system calls its profile lets through."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from overlayws.errors import NotStartedError, UsageError
from overlayws.run import leftovers
from overlayws.run.container import Container, body, check_places, masked, shown
from overlayws.run.limits import Limits, available, parse_size
from overlayws.run.root_view import RootView
from overlayws.run.sandbox import RunSpec
from overlayws.run.seccomp import RESERVING
from overlayws.run.syscalls import profile

VIEW = RootView((("usr/bin", "/bin"),), ("/usr",), ("/etc/magic",), (), (), ())
SPEC = RunSpec(("make", "all"), "/workspace", {"HOME": "/home/agent", "PATH": "/t/bin:/usr/local/sbin"})
CONTAINER = Container(
    image="sha256:1",
    image_config={},
    source={"Type": "bind", "Source": "/state/merged"},
    uid=1000,
    gid=1000,
    label={"overlayws.session": "/state/s"},
    canary=".canary",
    word="w",
    view=VIEW,
)
LIMITS = Limits(256 << 20, 1.5, 50)


def test_everything_is_closed() -> None:
    request = body(SPEC, CONTAINER, LIMITS)
    host = request["HostConfig"]
    assert request["User"] == "1000:1000" and request["Cmd"] == ["make", "all"]
    assert request["Entrypoint"][-3:] == ["/workspace/.canary", "w", "/workspace"]
    assert host["CapDrop"] == ["ALL"] and "CapAdd" not in host and "Privileged" not in host and "PidMode" not in host
    assert host["SecurityOpt"][0] == "no-new-privileges" and host["SecurityOpt"][1].startswith("seccomp={")
    assert host["ReadonlyRootfs"] and host["NetworkMode"] == "none" and host["IpcMode"] == "private"
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (256 << 20, 256 << 20, 1_500_000_000)
    assert host["PidsLimit"] == 50 and host["LogConfig"] == {"Type": "none"}
    assert all({"noexec", "nosuid", "nodev"} <= set(options.split(",")) for options in host["Tmpfs"].values())
    assert all(any(word.startswith("size=") for word in options.split(",")) for options in host["Tmpfs"].values())
    writable = [mount["Target"] for mount in host["Mounts"] if not mount["ReadOnly"]]
    assert writable == ["/workspace"]
    read_only = body(replace(SPEC, read_only=True), CONTAINER, LIMITS)["HostConfig"]["Mounts"]
    assert all(mount["ReadOnly"] for mount in read_only)


def test_what_an_image_asks_for_is_bounded() -> None:
    config = {"Volumes": {"/data": {}, "relative": {}}, "Env": ["PATH=/opt/bin", "X=1"]}
    request = body(SPEC, replace(CONTAINER, image_config=config, view=None), LIMITS)
    assert "size=100m" in request["HostConfig"]["Tmpfs"]["/data"] and "relative" not in request["HostConfig"]["Tmpfs"]
    assert request["Healthcheck"] == {"Test": ["NONE"]}


@pytest.mark.parametrize("declared", [
    "/workspace", "/workspace/", "//workspace/.", "/x/../workspace", "/workspace/build", "/", "workspace", "relative",
])  # fmt: skip
def test_a_volume_of_an_image_never_covers_the_workspace(declared: str) -> None:
    with pytest.raises(NotStartedError, match="declares a volume"):
        check_places(SPEC, {"Volumes": {"/data": {}, declared: {}}})
    check_places(SPEC, {"Volumes": {"/data": {}, "/workspaces": {}}})


@pytest.mark.parametrize("changes", [
    {"workspace": "/run"}, {"workspace": "/var"}, {"workspace": "/tmp"}, {"workspace": "/home"},
    {"env": {"HOME": "/workspace/home"}}, {"env": {"HOME": "//workspace/./home/"}},
    {"env": {"HOME": "/x/../workspace/h"}}, {"env": {"HOME": "relative"}}, {"env": {"HOME": ""}},
])  # fmt: skip
def test_the_workspace_is_never_below_memory_of_ours(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        check_places(replace(SPEC, **changes), {})
    for fine in ({"workspace": "/home/agent/project"}, {"env": {"HOME": "/workspace/"}}, {"env": {"HOME": "/"}}):
        check_places(replace(SPEC, **fine), {})  # type: ignore[arg-type]


def test_a_workspace_is_named_to_the_gate_as_mountinfo_has_it() -> None:
    entry = body(replace(SPEC, workspace="/a b\\c"), CONTAINER, LIMITS)["Entrypoint"]
    assert entry[-1] == "/a\\040b\\134c"


def test_gvisor_counts_processes_inside() -> None:
    host = body(SPEC, replace(CONTAINER, gvisor=True), LIMITS)["HostConfig"]
    assert "PidsLimit" not in host and {"Name": "nproc", "Soft": 50, "Hard": 50} in host["Ulimits"]


def test_hidden_directories_are_masked_where_tools_would_show_them() -> None:
    spec = replace(SPEC, tools=("/home/me", "/home/me/ws/venv"), hidden=("/home/me/state", "/home/me/ws", "/elsewhere"))
    assert shown(spec, None) == ["/home/me", "/home/me/ws/venv"]
    assert masked(spec, None) == ["/home/me/state", "/home/me/ws"]
    assert shown(replace(SPEC, tools=("/workspace/x", "/t"), hidden=("/t",)), None) == []


def allowed(name: str, arguments: tuple[int, ...] = (), *, limited: bool = False) -> bool:
    """As seccomp(2) decides: any rule of the name that matches allows."""
    found = [rule for rule in profile(limited=limited)["syscalls"] if name in rule["names"]]
    return any(
        rule["action"] == "SCMP_ACT_ALLOW" and all(matches(test, arguments) for test in rule["args"]) for rule in found
    )


def matches(test: dict[str, Any], arguments: tuple[int, ...]) -> bool:
    value = arguments[test["index"]]
    if test["op"] == "SCMP_CMP_MASKED_EQ":
        return value & int(test["value"]) == test["valueTwo"]
    other = int(test["value"])
    return {"SCMP_CMP_EQ": value == other, "SCMP_CMP_LT": value < other, "SCMP_CMP_GT": value > other}[test["op"]]


def test_the_profile_refuses_what_a_program_does_not_need() -> None:
    for name in (
        "unshare setns mount umount2 pivot_root chroot keyctl add_key request_key ptrace process_vm_readv bpf "
        "userfaultfd perf_event_open io_uring_setup open_by_handle_at init_module kexec_load reboot swapon "
        "settimeofday open_tree fsopen move_mount mount_setattr"
    ).split():
        assert not allowed(name), name
    for name in "read openat execve statx futex rseq clock_gettime faccessat2 close_range epoll_pwait2".split():
        assert allowed(name), name
    assert profile()["defaultAction"] == "SCMP_ACT_ERRNO"


@pytest.mark.parametrize("gvisor", [False, True])
def test_a_limit_of_disk_is_also_one_of_each_file_and_refuses_what_takes_space_at_once(gvisor: bool) -> None:
    def rules(limited: bool) -> list[dict[str, Any]]:
        return [rule for rule in profile(gvisor=gvisor, limited=limited)["syscalls"] if "fallocate" in rule["names"]]

    assert [rule["action"] for rule in rules(False)] == ["SCMP_ACT_ALLOW"]
    assert [rule["action"] for rule in rules(True)] == ["SCMP_ACT_TRACE" if gvisor else "SCMP_ACT_ERRNO"]
    host = body(SPEC, replace(CONTAINER, gvisor=gvisor), replace(LIMITS, disk=1 << 30))["HostConfig"]
    assert {"Name": "fsize", "Soft": 1 << 30, "Hard": 1 << 30} in host["Ulimits"]
    assert '"errnoRet": 95' in host["SecurityOpt"][1] or gvisor
    for request in RESERVING:
        assert allowed("ioctl", (0, request)) and not allowed("ioctl", (0, 7 << 32 | request), limited=True)
    assert allowed("ioctl", (0, 0x5401), limited=True) and not allowed("ioctl", (0, 0x5412), limited=True)


def test_by_argument_only_the_dangerous_values_are_refused() -> None:
    assert allowed("clone", (0x11,)) and not allowed("clone", (0x10000000 | 0x11,))
    assert allowed("socket", (1,)) and allowed("socket", (41,)) and not allowed("socket", (40,))
    assert allowed("mknod", (0, 0o010644)) and not allowed("mknod", (0, 0o020644))
    assert not allowed("mknodat", (0, 0, 0o060644))
    for request in (0x5412, 0x541C):
        for high in (0, 1 << 32, 0xFFFFFFFF << 32):
            assert not allowed("ioctl", (0, high | request))
    chance = random.Random(7141)
    nearby = [0x5412 ^ 1 << bit for bit in range(32)] + [0x541C ^ 1 << bit for bit in range(32)]
    for request in [0, 0xFFFFFFFF, 0x5401, 0x5413, *nearby, *(chance.getrandbits(32) for _ in range(500))]:
        assert allowed("ioctl", (0, request)) == (request not in (0x5412, 0x541C)), hex(request)


def test_sizes_and_limits() -> None:
    assert [parse_size(text) for text in ("512m", "2g", "1.5GiB", "1024", "64KB")] == [
        512 << 20, 2 << 30, 3 << 29, 1024, 65536,
    ]  # fmt: skip
    for text in ("", "m", "1e3", "-1", "1x", "9" * 40):
        with pytest.raises(UsageError):
            parse_size(text)
    Limits().check()
    for limits in (Limits(memory=1 << 20), Limits(cpus=available() + 1.0), Limits(cpus=float("nan")), Limits(pids=1)):
        with pytest.raises(UsageError):
            limits.check()
    assert Limits(pids=9).or_else(LIMITS) == Limits(LIMITS.memory, LIMITS.cpus, 9)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"engine": 1, "container": {}}'])
def test_a_damaged_record_of_a_container_is_never_taken_for_none(content: bytes, tmp_path: Path) -> None:
    record = tmp_path / "outside"
    record.write_bytes(content)
    with pytest.raises(leftovers.LeftRunning):
        leftovers.clean(record)
    assert record.exists()
    record.write_bytes(json.dumps({}).encode())
    assert leftovers.clean(record) and not record.exists() and not leftovers.clean(record)
