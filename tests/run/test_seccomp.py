"""The filter, run through an interpreter of classic BPF (the kernel's own verdicts are in the attack tests)."""

from __future__ import annotations

import itertools
import os
import struct

import pytest

from overlayws.run import seccomp

ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50001, 0x50026
ARCHITECTURES = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
MACHINES = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "arm")}

# By name, from each architecture's own unistd.h; the filter's tables are by role.
NUMBERS = {
    "x86_64": {"ioctl": 16, "socket": 41, "add_key": 248, "keyctl": 250, "bpf": 321, "read": 0, "openat": 257},
    "i386": {"ioctl": 54, "socket": 359, "socketcall": 102, "add_key": 286, "keyctl": 288, "bpf": 357, "read": 3},
    "aarch64": {"ioctl": 29, "socket": 198, "add_key": 217, "keyctl": 219, "bpf": 280, "read": 63, "openat": 56},
    "arm": {"ioctl": 54, "socket": 281, "add_key": 309, "keyctl": 311, "bpf": 386, "read": 3, "openat": 322},
}


def verdict(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    data = struct.pack("<iIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator, at = 0, 0
    while True:
        what, true, false, operand = code[at]
        at += 1
        if what == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif what == 0x15:
            at += true if accumulator == operand else false
        elif what == 0x35:
            at += true if accumulator >= operand else false
        else:
            assert what == 0x06
            return int(operand)


def cases() -> list[tuple[str, str]]:
    return [(machine, abi) for machine, abis in MACHINES.items() for abi in abis]


@pytest.mark.parametrize(("machine", "abi"), cases())
def test_typing_into_terminals_is_refused_whatever_the_high_bits_say(machine: str, abi: str) -> None:
    program = seccomp.program(machine)
    assert program is not None
    ioctl = NUMBERS[abi]["ioctl"]
    for request, high in itertools.product((0x5412, 0x541C), (0, 1 << 32, 0xFFFFFFFF << 32)):
        assert verdict(program, ARCHITECTURES[abi], ioctl, 0, request | high) == EPERM
    for request in (0x5401, 0x5413, 0x5414):  # TCGETS, TIOCGWINSZ, TIOCSWINSZ
        assert verdict(program, ARCHITECTURES[abi], ioctl, 0, request) == ALLOW


@pytest.mark.parametrize(("machine", "abi"), cases())
def test_keyrings_bpf_io_uring_and_vsock_are_refused_and_the_rest_is_not(machine: str, abi: str) -> None:
    program, numbers = seccomp.program(machine), NUMBERS[abi]
    assert program is not None
    for number in (numbers["add_key"], numbers["add_key"] + 1, numbers["keyctl"], numbers["bpf"], 425, 426, 427):
        assert verdict(program, ARCHITECTURES[abi], number) == EPERM, number
    assert verdict(program, ARCHITECTURES[abi], numbers["socket"], 40) == EPERM
    for family in (1, 2, 10, 16):
        assert verdict(program, ARCHITECTURES[abi], numbers["socket"], family) == ALLOW
    assert verdict(program, ARCHITECTURES[abi], numbers["read"]) == ALLOW
    # 41 is ioctl's neighbour in some table and socket's number in another: no call is taken for another one.
    refused = {n for n in range(600) if verdict(program, ARCHITECTURES[abi], n) == EPERM}
    assert len(refused) == 9


def test_other_ways_to_name_a_call_are_closed() -> None:
    program = seccomp.program("x86_64")
    assert program is not None
    assert verdict(program, ARCHITECTURES["x86_64"], 0x40000000 | 514, 0, 0x5412) == ENOSYS  # ioctl of x32
    assert verdict(program, ARCHITECTURES["i386"], 102, 1, 0) == EPERM  # socketcall(SYS_SOCKET)
    assert verdict(program, ARCHITECTURES["i386"], 102, 3, 0) == ALLOW  # socketcall(SYS_CONNECT)
    assert verdict(program, ARCHITECTURES["aarch64"], 29, 0, 0x5412) == ENOSYS  # no architecture of this machine


@pytest.mark.parametrize(("machine", "abi"), cases())
def test_fallocate_is_said_not_to_be_there_where_the_disk_is_limited(machine: str, abi: str) -> None:
    number = {"x86_64": 285, "i386": 324, "aarch64": 47, "arm": 352}[abi]
    unlimited, limited = seccomp.program(machine), seccomp.program(machine, limited=True)
    assert unlimited is not None and limited is not None
    differ = [n for n in range(600) if len({verdict(p, ARCHITECTURES[abi], n) for p in (unlimited, limited)}) == 2]
    assert differ == [number] and verdict(limited, ARCHITECTURES[abi], number) == 0x00050000 | 95  # EOPNOTSUPP
    ioctl = NUMBERS[abi]["ioctl"]
    for request in (0x40305828, 0x4030582A, 0x40305839, 0x402C5828, 0x402C582A, 0x402C5839):  # linux/falloc.h
        assert verdict(limited, ARCHITECTURES[abi], ioctl, 0, 7 << 32 | request) == EPERM
        assert verdict(unlimited, ARCHITECTURES[abi], ioctl, 0, request) == ALLOW
    assert verdict(limited, ARCHITECTURES[abi], ioctl, 0, 0x5401) == ALLOW


def test_a_machine_without_numbers_has_no_filter() -> None:
    assert seccomp.program("riscv64") is None
    assert seccomp.program(os.uname().machine) is not None or os.uname().machine not in MACHINES
