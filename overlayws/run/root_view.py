"""What of the host's own root a sandbox shows, read-only, and what it gets made up instead.

The rule: programs and libraries, and those files of /etc without which they do not start or find no certificates.
Whatever may hold a credential or a name (the real passwd, gitconfig, pip.conf, machine-id, ssh ...) is not there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

USER, UID = "agent", 1000  # whoever the caller is; bwrap maps this one id to the caller's

_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = (
    "alternatives", "bash.bashrc", "ca-certificates.conf", "crypto-policies", "debian_version", "fonts", "gai.conf",
    "host.conf", "inputrc", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "magic",
    "magic.mime", "mime.types", "os-release", "perl", "pki/ca-trust/extracted", "pki/tls/cert.pem", "pki/tls/certs",
    "protocols", "profile", "rpc", "services", "shells", "ssl/cert.pem", "ssl/certs", "ssl/openssl.cnf", "terminfo",
    "timezone",
)  # fmt: skip
_ETC_PATTERNS = ("java-*-openjdk", "python3*")
_ETC_NETWORK = ("hosts", "resolv.conf")  # only with the host's network

# As in Docker's MaskedPaths, and what a caller who is root could read besides: /proc of any namespace shows them.
_PROC = (
    "acpi", "asound", "iomem", "ioports", "kallsyms", "kcore", "key-users", "keys", "kmsg", "kpagecgroup", "kpagecount",
    "kpageflags", "latency_stats", "pagetypeinfo", "sched_debug", "scsi", "slabinfo", "timer_list", "timer_stats",
    "vmallocinfo",
)  # fmt: skip

_PASSWD = """\
root:x:0:0:root:/root:/usr/sbin/nologin
{user}:x:{uid}:{gid}:{user}:{home}:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUP = "root:x:0:\n{user}:x:{gid}:\nnogroup:x:65534:\n"
_NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files{dns}\nservices: files\nprotocols: files\n"
_HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


@dataclass(frozen=True, slots=True)
class RootView:
    """What is there on this machine. Paths are absolute."""

    symlinks: tuple[tuple[str, str], ...]  # (target, path) of a top-level directory that is a symlink
    directories: tuple[str, ...]  # /usr, and top-level directories that are real ones
    etc: tuple[str, ...]
    etc_network: tuple[str, ...]
    proc_files: tuple[str, ...]  # to be masked
    proc_directories: tuple[str, ...]


@cache
def root_view() -> RootView:
    """Look at this machine's root, once a process."""
    links, directories = [], ["/usr"]
    for name in _TOP:
        path = f"/{name}"
        if os.path.islink(path):
            links.append((os.readlink(path), path))
        elif os.path.isdir(path):
            directories.append(path)
    etc = Path("/etc")
    names = [*_ETC, *(path.name for pattern in _ETC_PATTERNS for path in sorted(etc.glob(pattern)))]
    masked = [f"/proc/{name}" for name in _PROC if os.path.exists(f"/proc/{name}")]
    return RootView(
        tuple(links),
        tuple(directories),
        tuple(f"/etc/{name}" for name in names if os.path.exists(f"/etc/{name}")),
        tuple(f"/etc/{name}" for name in _ETC_NETWORK if os.path.exists(f"/etc/{name}")),
        tuple(path for path in masked if not os.path.isdir(path)),
        tuple(path for path in masked if os.path.isdir(path)),
    )


def made_up(home: str, network: str, uid: int = UID, gid: int = UID) -> dict[str, bytes]:
    """The files of /etc that say nothing about this machine: path -> content. ``uid`` and ``gid`` are the program's."""
    files = {
        "/etc/passwd": _PASSWD.format(user=USER, uid=uid, gid=gid, home=home).encode("utf-8", "surrogateescape"),
        "/etc/group": _GROUP.format(user=USER, gid=gid).encode(),
        "/etc/nsswitch.conf": _NSSWITCH.format(dns=" dns" if network == "host" else "").encode(),
    }
    if network != "host":
        files["/etc/hosts"] = _HOSTS.encode()
    return files
