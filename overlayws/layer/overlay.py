"""What the two overlayfs backends share: the directories of a layer, the prefix, and the probe."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from overlayws.layer.attempt import TIMED_OUT, Attempt, begun, last_line
from overlayws.layer.mount import Layer, Mount, MountError, check_entered, scratch_layer, shown
from overlayws.layer.room import Room
from overlayws.layer.whiteout import Marks
from overlayws.source.remove import remove_tree

_ENTER = Path(__file__).with_name("enter.py")
_SECONDS = 30.0  # that a trial may take


@contextmanager
def entered(
    mode: str, layer: Layer, at: Path | None, room: Room | None = None, *, fresh: bool = False
) -> Iterator[Mount]:
    """A Mount whose ``enter`` mounts the layer by overlayfs, ``mode`` being ``kernel`` or ``userns``.

    Makes the directories that are missing, and brings back what a crash left in an image, unless the layer is
    ``fresh``. Raises MountError.
    """
    with locked(layer), ExitStack() as stack:
        if not fresh:
            from overlayws.layer.bounded import absorb

            absorb(layer)
        prepare(layer, used=(layer.workdir / "work").exists())  # made by the first mount
        status = _status_file(layer)
        paths = {"lower": layer.lowerdir, "upper": layer.upperdir, "work": layer.workdir, "merged": layer.merged}
        paths |= {f"below{number}": path for number, path in enumerate(layer.below)}
        if at is not None:
            paths["at"] = at
        top, used, why = None, layer, ""
        if room is not None:
            from overlayws.layer.bounded import bounded
            from overlayws.layer.image import NoImage

            try:
                top, used = stack.enter_context(bounded(layer, room)) if mode == "kernel" else (None, layer)
                why = "" if mode == "kernel" else "only the backend kernel, which is root's, can mount a file system"
            except NoImage as error:
                why = str(error)
        if top is not None:
            # ``enter`` puts it there for the moment in which the overlay is mounted.
            names = {"upper": used.upperdir.name, "work": used.workdir.name}
            paths |= {key: layer.merged / name for key, name in names.items()} | {"image": top}
        words = [f"{name}={path.absolute()}" for name, path in paths.items()]
        own = (f"mode={mode}", f"parent={os.getpid()}", f"status={status.absolute()}")
        try:
            enter = (sys.executable, "-I", "-S", str(_ENTER), *own, *words, "--")
            yield Mount(layer.merged, enter, status, used, mode, top, why)
        finally:
            status.unlink(missing_ok=True)


def _status_file(layer: Layer) -> Path:
    """A new empty file for ``enter`` to say why it failed; those that a crash left are removed."""
    try:
        layer.merged.mkdir(mode=0o700, exist_ok=True)
        for left in layer.workdir.glob("entered-*"):
            left.unlink()
        status = layer.workdir / f"entered-{secrets.token_hex(8)}"
        os.close(os.open(status, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return status
    except OSError as error:
        raise MountError(f"cannot write to {shown(layer.workdir)}: {error.strerror}") from error


@contextmanager
def locked(layer: Layer) -> Iterator[None]:
    """One user of a layer at a time: the kernel only warns of a second mount of an upperdir. Raises MountError."""
    try:
        layer.workdir.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(layer.workdir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise MountError(f"cannot use {shown(layer.workdir)}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MountError(f"{shown(layer.merged)} is in use", hint="wait until its command has ended") from None
        yield
    finally:
        os.close(fd)


def prepare(layer: Layer, *, used: bool) -> None:
    """Make ``upperdir``, and unless it was ``used``, make its root what the lowerdir's is. Raises MountError."""
    try:
        fresh = not layer.upperdir.exists()
        layer.upperdir.mkdir(mode=0o700, exist_ok=True)
        if used and not fresh:  # the root is the program's by now
            return
        lower = os.open(layer.lowerdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            st = os.fstat(lower)
            for name in os.listxattr(lower):
                if name.startswith("user."):
                    os.setxattr(layer.upperdir, name, os.getxattr(lower, name))
        finally:
            os.close(lower)
        os.utime(layer.upperdir, ns=(st.st_atime_ns, st.st_mtime_ns))
        os.chmod(layer.upperdir, stat.S_IMODE(st.st_mode))
    except OSError as error:
        raise MountError(f"cannot prepare {shown(layer.upperdir)}: {error.strerror}") from error


@contextmanager
def trying(mode: str, marks: Marks, state: Path) -> Iterator[Callable[[], str | None]]:
    """What says why overlayfs cannot be used for layers below ``state``, or None: found out by mounting and using one.

    That is begun here and goes on beside the caller until it is asked for.
    """
    with ExitStack() as stack:
        try:
            scratch = Path(tempfile.mkdtemp(prefix=".probe-", dir=state))
        except OSError as error:
            reason = f"cannot write to {shown(state)}: {error.strerror}"
            yield lambda: reason
            return
        stack.callback(remove_tree, scratch)
        layer = scratch_layer(scratch)
        try:
            (layer.lowerdir / "d").mkdir(parents=True)
            for name in ("f", "d/x"):
                (layer.lowerdir / name).write_text("some")
            mount = stack.enter_context(entered(mode, layer, None, fresh=True))
            attempt = stack.enter_context(begun([*mount.enter[:-1], "try=yes", "--"], seconds=_SECONDS))
        except (MountError, OSError) as error:
            why = _why(error)
            answer: Callable[[], str | None] = lambda: why  # noqa: E731
        else:
            answer = lambda: _answer(attempt, mount, marks, layer.upperdir)  # noqa: E731
        yield answer


def _answer(attempt: Attempt, mount: Mount, marks: Marks, upperdir: Path) -> str | None:
    try:
        status = attempt.wait()
        check_entered(mount)
        if status == TIMED_OUT:
            return f"an overlay cannot be tried: it takes longer than {_SECONDS:.0f} seconds"
        if status:
            return f"an overlay can be mounted but not used: {last_line(attempt.said()) or status}"
        upper = os.open(upperdir / "d", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return None if marks.is_opaque(upper) else "overlayfs does not write its marks where we look for them"
        finally:
            os.close(upper)
    except (MountError, OSError) as error:
        return _why(error)


def _why(error: MountError | OSError) -> str:
    if isinstance(error, MountError):
        return error.message.partition(": ")[2] + (f" ({error.hint})" if error.hint else "")
    return f"an overlay cannot be tried: {error}"
