"""The system calls that a sandbox refuses, as a classic BPF program for ``bwrap --seccomp``.

Refused with EPERM are ways around what the namespaces hide:

- ioctl TIOCSTI and TIOCLINUX: typing into a terminal (CVE-2017-5226). Only the low 32 bits of the request are
  compared, since the kernel looks at no others (CVE-2019-10063).
- add_key, request_key, keyctl: no namespace separates the caller's keyrings (keyrings(7)).
- socket(AF_VSOCK): in a virtual machine it reaches the host, and no network namespace holds it.
- io_uring, userfaultfd, bpf, perf_event_open: kernel surface that build tools do not need; Docker's default profile
  refuses them too.

Format: seccomp(2), linux/filter.h, linux/seccomp.h; numbers from the kernel's syscall tables.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW = 0x7FFF0000
_EPERM, _ENOSYS, _EOPNOTSUPP = 0x00050000 | 1, 0x00050000 | 38, 0x00050000 | 95
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
# FS_IOC_RESVSP, FS_IOC_RESVSP64 and FS_IOC_ZERO_RANGE (linux/falloc.h), as 64-bit and as i386 programs number them:
# every file system takes them for fallocate(2), and without a new size, so that RLIMIT_FSIZE does not see them.
RESERVING = (0x40305828, 0x4030582A, 0x40305839, 0x402C5828, 0x402C582A, 0x402C5839)
_AF_VSOCK = 40
_SOCKETCALL_SOCKET = 1
_X32 = 0x40000000  # the bit of x32 numbers, which come under the architecture of x86-64


@dataclass(frozen=True, slots=True)
class _Abi:
    architecture: int  # AUDIT_ARCH_*
    calls: tuple[int, ...]  # add_key request_key keyctl userfaultfd bpf perf_event_open
    ioctl: int
    socket: int
    fallocate: int
    socketcall: int | None = None
    x32: bool = False


_IO_URING = (425, 426, 427)  # the same on every architecture
_X86_64 = _Abi(0xC000003E, (248, 249, 250, 323, 321, 298), ioctl=16, socket=41, fallocate=285, x32=True)
_I386 = _Abi(0x40000003, (286, 287, 288, 374, 357, 336), ioctl=54, socket=359, fallocate=324, socketcall=102)
_AARCH64 = _Abi(0xC00000B7, (217, 218, 219, 282, 280, 241), ioctl=29, socket=198, fallocate=47)
_ARM = _Abi(0x40000028, (309, 310, 311, 388, 386, 364), ioctl=54, socket=281, fallocate=352)
_MACHINES = {"x86_64": (_X86_64, _I386), "aarch64": (_AARCH64, _ARM)}

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def program(machine: str, *, limited: bool = False) -> bytes | None:
    """The filter for ``machine`` (as os.uname() says), or None where its numbers are not known here. ``limited``: for
    a disk that is.

    A program of an architecture that the machine runs but that is not in the table gets ENOSYS for every call.
    """
    abis = _MACHINES.get(machine)
    if abis is None:
        return None
    code: list[_Instruction] = []
    for abi in abis:
        block = _block(abi, limited)
        code += [(_LOAD, 0, 0, _ARCHITECTURE), (_JUMP_EQUAL, 0, len(block), abi.architecture), *block]
    code.append((_RETURN, 0, 0, _ENOSYS))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _block(abi: _Abi, limited: bool) -> list[_Instruction]:
    refuse = (_RETURN, 0, 0, _EPERM)
    code: list[_Instruction] = [(_LOAD, 0, 0, _NUMBER)]
    if abi.x32:
        code += [(_JUMP_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ENOSYS)]
    for number in (*abi.calls, *_IO_URING):
        code += [(_JUMP_EQUAL, 0, 1, number), refuse]
    if limited:
        code += [(_JUMP_EQUAL, 0, 1, abi.fallocate), (_RETURN, 0, 0, _EOPNOTSUPP)]
    by_argument: Mapping[int, tuple[int, tuple[int, ...]]] = {
        abi.ioctl: (1, (_TIOCSTI, _TIOCLINUX, *(RESERVING if limited else ()))),
        abi.socket: (0, (_AF_VSOCK,)),
        # Its family is in memory, where a filter cannot look; C libraries have called socket(2) itself since 2015.
        **({abi.socketcall: (0, (_SOCKETCALL_SOCKET,))} if abi.socketcall is not None else {}),
    }
    for number, (argument, values) in by_argument.items():
        check: list[_Instruction] = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]
        for value in values:
            check += [(_JUMP_EQUAL, 0, 1, value), refuse]
        check.append((_RETURN, 0, 0, _ALLOW))
        code += [(_JUMP_EQUAL, 0, len(check), number), *check]
    return [*code, (_RETURN, 0, 0, _ALLOW)]
