"""A program that changes a tree at random and then tells what the tree looks like; the standard library only.

``python3 operations.py ROOT SEED COUNT`` does COUNT operations and prints the tree as it sees it, a line each:
path, kind, mode, and content, link target or nothing, with extended attributes; every field base64 or a number.
It runs inside of a mount or a sandbox, so it knows nothing of overlayws. What the system refuses is passed over.
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import stat
import sys

_NAMES = [
    "a", "b.py", "c d", "-rf", "--", "new\nline", "tab\t", "quo\"te", "back\\slash", "b\udcff\udcfe", "é", "e\u0301",
    ".wh.a", ".wh..wh..opq", ".hidden", "%s", "*", "x" * 255, " lead", "trail ", "$(id)", "a:b,c=d", "esc\x1b[31m",
]  # fmt: skip
_CONTENTS = [b"", b"one\n", b"one\ntwo\nthree\n", b"no newline", b"\0binary\xff", b"crlf\r\n", b"line\n" * 2000]
_FILE_MODES = [0o644, 0o755, 0o600, 0o400, 0o666, 0o777, 0o640]
_DIRECTORY_MODES = [0o755, 0o700, 0o775, 0o777]


class Operations:
    def __init__(self, root: str, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)

    def paths(self, want: str = "any") -> list[str]:
        found = []
        for directory, names, files in os.walk(self.root):
            for name in names + files:
                path = os.path.join(directory, name)
                mode = os.lstat(path).st_mode
                kind = "dir" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "file"
                if want in ("any", kind):
                    found.append(path)
        return sorted(found)

    def some(self, want: str) -> str:
        return self.random.choice(self.paths(want) or [self.root])

    def directory(self) -> str:
        return self.random.choice([self.root, *self.paths("dir")])

    def fresh(self) -> str:
        return os.path.join(self.directory(), self.random.choice(_NAMES))

    def content(self) -> bytes:
        return self.random.choice(_CONTENTS) + str(self.random.randrange(5)).encode()

    def create(self) -> None:
        with open(self.fresh(), "xb") as f:
            f.write(self.content())

    def write(self) -> None:
        with open(self.some("file"), "r+b") as f:
            f.write(self.content())

    def append(self) -> None:
        with open(self.some("file"), "ab") as f:
            f.write(self.content())

    def truncate(self) -> None:
        path = self.some("file")
        os.truncate(path, self.random.choice([0, 1, os.lstat(path).st_size, 5000]))

    def open_only(self) -> None:
        open(self.some("file"), "r+b").close()

    def rename(self) -> None:
        os.rename(self.some("file"), self.fresh())

    def move_directory(self) -> None:
        shutil.move(self.some("dir"), self.fresh())

    def rename_and_back(self) -> None:
        path, other = self.some("file"), self.fresh()
        if not os.path.lexists(other):
            os.rename(path, other)
            os.rename(other, path)

    def unlink(self) -> None:
        os.unlink(self.some("file"))

    def unlink_link(self) -> None:
        os.unlink(self.some("link"))

    def remove_tree(self) -> None:
        path = self.some("dir")
        if path != self.root:
            shutil.rmtree(path)

    def remove_and_recreate(self) -> None:
        path = self.some("dir")
        if path != self.root:
            names = os.listdir(path)
            shutil.rmtree(path)
            os.mkdir(path)
            for name in names[: self.random.randrange(3)]:
                with open(os.path.join(path, name), "wb") as f:
                    f.write(self.content())

    def mkdir(self) -> None:
        os.mkdir(self.fresh())

    def symlink(self) -> None:
        os.symlink(self.random.choice(_NAMES), self.fresh())

    def hardlink(self) -> None:
        os.link(self.some("file"), self.fresh())

    def chmod(self) -> None:
        os.chmod(self.some("file"), self.random.choice(_FILE_MODES))

    def chmod_directory(self) -> None:
        os.chmod(self.some("dir"), self.random.choice(_DIRECTORY_MODES))

    def chmod_and_back(self) -> None:
        path = self.some("any")
        if not os.path.islink(path):
            mode = stat.S_IMODE(os.lstat(path).st_mode)
            os.chmod(path, 0o700)
            os.chmod(path, mode)

    def utime(self) -> None:
        os.utime(self.some("any"), ns=(self.random.randrange(1 << 60), 1), follow_symlinks=False)

    def same_size_same_time(self) -> None:
        path = self.some("file")
        st = os.lstat(path)
        if st.st_size:
            with open(path, "r+b") as f:
                first = f.read(1)
                f.seek(0)
                f.write(bytes([first[0] ^ 1]))
            os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))

    def become_directory(self) -> None:
        path = self.some("file")
        os.unlink(path)
        os.mkdir(path)

    def become_file(self) -> None:
        path = self.some("dir")
        if path != self.root:
            shutil.rmtree(path)
            with open(path, "wb") as f:
                f.write(self.content())

    def become_link(self) -> None:
        path = self.some("file")
        os.unlink(path)
        os.symlink(self.random.choice(_NAMES), path)

    def attribute(self) -> None:
        name = self.random.choice(["user.note", "user.x", "user.overlay.opaque", "user.overlay.whiteout"])
        os.setxattr(self.some("any"), name, self.content()[:50], follow_symlinks=False)

    def drop_attribute(self) -> None:
        path = self.some("any")
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith("user."):
                os.removexattr(path, name, follow_symlinks=False)

    def step(self) -> None:
        names = [n for n in vars(Operations) if not n.startswith("_")]
        helpers = {"paths", "some", "directory", "fresh", "content", "step", "view"}
        try:
            getattr(self, self.random.choice([n for n in names if n not in helpers]))()
        except (OSError, shutil.Error):
            pass

    def view(self) -> list[list[object]]:
        rows: list[list[object]] = []
        for path in self.paths():
            st = os.lstat(path)
            mode = stat.S_IMODE(st.st_mode)
            if stat.S_ISLNK(st.st_mode):
                kind, data, mode = "symlink", os.fsencode(os.readlink(path)), 0
            elif stat.S_ISDIR(st.st_mode):
                kind, data = "directory", b""
            else:
                kind = "file"
                with open(path, "rb") as f:
                    data = f.read()
            attributes = sorted(
                (n, base64.b64encode(os.getxattr(path, n, follow_symlinks=False)).decode())
                for n in os.listxattr(path, follow_symlinks=False)
                if n.startswith("user.")
            )
            name = base64.b64encode(os.fsencode(os.path.relpath(path, self.root))).decode()
            rows.append([name, kind, mode, base64.b64encode(data).decode(), [list(a) for a in attributes]])
        return sorted(rows, key=lambda row: str(row[0]))


def main(root: str, seed: str, count: str) -> None:
    os.umask(0)
    operations = Operations(root, int(seed))
    for _ in range(int(count)):
        operations.step()
    json.dump(operations.view(), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
