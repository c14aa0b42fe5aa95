"""Opening what a program left behind: files and directories below a root, never through a symlink, never hanging,
also where the program took the read permission away."""

from __future__ import annotations

import errno
import os
import stat

from overlayws.beneath import open_beneath, open_directory

# O_NONBLOCK: a FIFO or a device put there meanwhile must not hang the open (open(2)).
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
DIRECTORY = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


def open_file(name: str, parent: int) -> int:
    """A descriptor of the file ``name`` in the directory ``parent``. Raises OSError.

    A file of ours without read permission is given it for the moment of the open.
    """
    try:
        return os.open(name, FILE, dir_fd=parent)
    except PermissionError:
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            st = os.fstat(handle)
            if not stat.S_ISREG(st.st_mode):
                raise
            # chmod(2) through the descriptor: the name may not be trusted twice, and fchmod refuses O_PATH.
            through = f"/proc/self/fd/{handle}"
            mode = stat.S_IMODE(st.st_mode)
            os.chmod(through, mode | 0o400)
            try:
                return os.open(through, FILE & ~os.O_NOFOLLOW)
            finally:
                os.chmod(through, mode)
        finally:
            os.close(handle)


def xattr_names(fd: int) -> list[str]:
    """The names of the extended attributes; none where the file system has none. Raises OSError."""
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def searchable(fd: int, st: os.stat_result) -> bool:
    """Whether names in the directory can be opened: readable is not yet searchable (path_resolution(7))."""
    return bool(st.st_mode & 0o100) or os.access(f"/proc/self/fd/{fd}", os.X_OK)


class Unlocked:
    """Directories of ours that a program made unreadable (``chmod 000``), opened all the same.

    They keep the permission while the object is in use, because opening a name in a directory asks for it each
    time; ``restore`` puts the modes back.
    """

    def __init__(self) -> None:
        self._changed: list[tuple[int, int]] = []

    def open(self, name: str, parent: int) -> tuple[int, os.stat_result]:
        """A descriptor of the directory ``name`` in the directory ``parent``, and its stat before it was unlocked.

        Raises OSError.
        """
        try:
            fd = os.open(name, DIRECTORY, dir_fd=parent)
        except PermissionError:
            return self._unlock(name, parent)
        st = os.fstat(fd)
        if searchable(fd, st):
            return fd, st
        os.close(fd)
        return self._unlock(name, parent)

    def _unlock(self, name: str, parent: int) -> tuple[int, os.stat_result]:
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
        handle = os.open(name, flags, dir_fd=parent)
        try:
            st = os.fstat(handle)
            mode = stat.S_IMODE(st.st_mode)
            os.chmod(f"/proc/self/fd/{handle}", mode | 0o700)
            self._changed.append((handle, mode))
        except BaseException:
            os.close(handle)
            raise
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle), st

    def mark(self) -> int:
        """Where ``restore`` may stop: what was unlocked before stays so."""
        return len(self._changed)

    def restore(self, mark: int = 0) -> None:
        """Put back the modes of what was unlocked since ``mark``."""
        while len(self._changed) > mark:
            handle, mode = self._changed.pop()
            try:
                os.chmod(f"/proc/self/fd/{handle}", mode)
            finally:
                os.close(handle)


class Parents:
    """Directories below a root by their path; the last one stays open, since paths come sorted.

    A path below the last one is opened from there, so that a deep tree costs one step a level and no path is too
    long (PATH_MAX).
    """

    def __init__(self, root: int) -> None:
        """``root`` stays the caller's."""
        self._root = root
        self._path = ""
        self._fd = -1
        self._unlocked = Unlocked()

    def fd(self, path: str) -> int:
        """A descriptor of the directory ``path`` ('' is the root), valid until the next call. Raises OSError."""
        if self._fd >= 0 and path == self._path:
            return self._fd
        if self._fd >= 0 and path.startswith(f"{self._path}/"):
            fd = self._descend(self._fd, path[len(self._path) + 1 :])
            os.close(self._fd)
        else:
            self.close()
            fd = self._descend(self._root, path)
        self._path, self._fd = path, fd
        return fd

    def file(self, path: str) -> int:
        """A descriptor of the file ``path``, as ``open_file`` gives it. Raises OSError."""
        try:
            return open_beneath(self._root, path, FILE)  # most often nothing is locked, and one call does
        except OSError:
            parent, _, name = path.rpartition("/")
            return open_file(name, self.fd(parent))

    def _descend(self, start: int, path: str) -> int:
        try:
            fd = open_directory(start, path)
        except PermissionError:
            return self._unlock(start, path)
        if searchable(fd, os.fstat(fd)):
            return fd
        os.close(fd)
        return self._unlock(start, path)

    def _unlock(self, start: int, path: str) -> int:
        fd = os.dup(start)
        for component in path.split("/"):
            try:
                below, _ = self._unlocked.open(component, fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def close(self) -> None:
        """Close what is open, and put back the modes of directories that had to be unlocked."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._unlocked.restore()
