from __future__ import annotations

import errno
import os
import threading

import pytest

from overlayws.base.files import Copied
from overlayws.base.worker import receive, send


def test_a_frame_larger_than_the_pipe_arrives_whole() -> None:
    read_end, write_end = os.pipe()
    done = Copied(unreadable=[("f", "x" * 1000)] * 3000)
    with open(read_end, "rb", buffering=0) as source, open(write_end, "wb", buffering=0) as out:
        writer = threading.Thread(target=send, args=(out, 7, done))
        writer.start()
        assert receive(source) == (7, done)
        writer.join()


def test_a_frame_that_is_cut_off_is_the_end_and_no_frame() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, (100).to_bytes(4) + b"half")
    os.close(write_end)
    with open(read_end, "rb", buffering=0) as source, pytest.raises(EOFError):
        receive(source)


def test_an_error_of_the_other_process_is_one_here() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0) as source, open(write_end, "wb", buffering=0) as out:
        send(out, 7, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OSError, match="No space left"):
            receive(source)
