"""put_in_place: a whole upperdir, made beside a layer's, instead of that one."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from overlayws import beneath
from overlayws.layer.mount import Layer


def put_in_place(layer: Layer, name: str) -> None:
    """Exchange the layer's upperdir with ``name`` beside it, a whole one; the old one is ``name`` or ``name.old`` then.

    Raises OSError.
    """
    layer.workdir.mkdir(mode=0o700, exist_ok=True)
    # As after a first mount: the attributes of the top are the program's now (layer/overlay.py).
    (layer.workdir / "work").mkdir(mode=0o700, exist_ok=True)
    upper = layer.upperdir.name
    parent = os.open(layer.upperdir.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            beneath.exchange(parent, name, parent, upper)
            return
        except OSError as error:
            # A file system without exchange: not in one step. ENOENT: half-way on one.
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOENT):
                raise
        with suppress(FileNotFoundError):
            os.rename(upper, f"{name}.old", src_dir_fd=parent, dst_dir_fd=parent)
        os.rename(name, upper, src_dir_fd=parent, dst_dir_fd=parent)
    finally:
        os.close(parent)
