"""What the benchmarks of sandboxes share: overlayws as a process, and the tests' engine with an image of its own."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

NO_ENGINE = "unix:///nonexistent"


def overlayws(env: dict[str, str], cwd: Path, *words: str) -> bytes:
    """What ``overlayws`` printed; it must end well."""
    command = [sys.executable, "-m", "overlayws", *words]
    done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def host_image(host: str) -> str:
    """An image with nothing in it but places for this machine's own programs."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in ("usr", "tmp", "workspace", "etc", "proc", "dev"):
            about = tarfile.TarInfo(name)
            about.type, about.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(about)
        for name in ("bin", "sbin", "lib", "lib64"):
            about = tarfile.TarInfo(name)
            about.type, about.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(about)
    words = ["docker", "-H", host, "import", "-", "overlayws-bench:host"]
    subprocess.run(words, input=data.getvalue(), check=True, capture_output=True)
    return "overlayws-bench:host"
