"""What a program may do, each on a directory of its own that holds ``LOWER``. Run as a script inside the mount.

Prints {operation: error name or null, ".": the tree afterwards} as JSON.
"""

import json
import mmap
import os
import shutil
import socket
import stat
import sys

LOWER = {"f": "old\n", "g": "gg\n", "exe": "#!\n", "d/x": "x\n", "d/y": "y\n", "d/sub/z": "z\n", "deep/a/b/c": "c\n"}
LINK = ("l", "f")  # and one symlink


def write(path, text, flags=os.O_WRONLY | os.O_TRUNC | os.O_CREAT, mode=0o644):
    fd = os.open(path, flags, mode)
    os.write(fd, text.encode())
    os.close(fd)


def nothing():
    open("f").read()
    os.listdir("d")
    os.stat("deep/a/b/c")


def opened_for_writing():
    os.close(os.open("f", os.O_RDWR))


def edit():
    write("f", "new\n")


def append():
    write("deep/a/b/c", "more\n", os.O_WRONLY | os.O_APPEND)


def edit_with_size_and_mtime_set_back():
    st = os.stat("f")
    write("f", "0ld\n")
    os.utime("f", ns=(st.st_atime_ns, st.st_mtime_ns))


def edit_by_mapping_with_mtime_set_back():
    st = os.stat("f")
    with open("f", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[0]
        m[0:3] = b"map"
    os.utime("f", ns=(st.st_atime_ns, st.st_mtime_ns))


def truncate():
    os.truncate("f", 1)


def create():
    write("new", "new\n")


def create_deep():
    os.makedirs("n/e/w")
    write("n/e/w/file", "")


def create_and_delete():
    write("new", "")
    os.unlink("new")


def touch():
    os.utime("f", (1, 1))


def chmod():
    os.chmod("exe", 0o755)


def chmod_and_back():
    os.chmod("exe", 0o755)
    os.chmod("exe", 0o644)


def chmod_directory():
    os.chmod("d", 0o700)


def unlink():
    os.unlink("f")


def unlink_and_recreate():
    os.unlink("f")
    write("f", "other\n")


def rm_r():
    shutil.rmtree("d")


def rm_r_and_mkdir():
    shutil.rmtree("d")
    os.mkdir("d")
    os.chmod("d", 0o755)


def rm_r_and_refill():
    shutil.rmtree("d")
    os.mkdir("d")
    write("d/x", "another\n")
    os.mkdir("d/new")


def file_to_directory():
    os.unlink("f")
    os.mkdir("f")
    write("f/inside", "i\n")


def directory_to_file():
    shutil.rmtree("d")
    write("d", "flat\n")


def file_to_symlink():
    os.unlink("f")
    os.symlink("/etc/passwd", "f")


def directory_to_symlink():
    shutil.rmtree("d")
    os.symlink("deep", "d")


def symlink_to_file():
    os.unlink("l")
    write("l", "no link\n")


def retarget_symlink():
    os.unlink("l")
    os.symlink("g", "l")


def rename_file():
    os.rename("f", "moved")


def rename_file_there_and_back():
    os.rename("f", "moved")
    os.rename("moved", "f")


def rename_over():
    os.rename("f", "g")


def swap_files():
    os.rename("f", "t")
    os.rename("g", "f")
    os.rename("t", "g")


def move_directory():
    shutil.move("d", "moved")


def rename_new_directory():
    os.mkdir("n")
    write("n/file", "n\n")
    os.rename("n", "m")


def rename_new_directory_over_deleted():
    shutil.rmtree("d")
    os.mkdir("n")
    write("n/x", "n\n")
    os.rename("n", "d")


def hard_link():
    os.link("f", "hl")
    write("hl", "both\n")


def sparse():
    fd = os.open("sparse", os.O_RDWR | os.O_CREAT)
    os.truncate(fd, 1 << 20)
    os.pwrite(fd, b"end", 1 << 19)
    os.close(fd)


def fifo_and_socket():
    os.mkfifo("fifo")
    socket.socket(socket.AF_UNIX).bind("socket")


def fifo_for_a_file():
    os.unlink("f")
    os.mkfifo("f")


def odd_names():
    for name in (b"a\nb", b" ", b"-n", b"\xff\xfe", b"n" * 255, b".wh.f", b".wh..wh..opq", b"a:b,c\\d"):
        write(name, "odd\n")


def agent_attributes():
    os.setxattr("f", "user.note", b"\0\xff")
    os.setxattr("d", "user.note", b"")


def spoofed_marks():
    for target in ("f", "d", "d/x"):
        for name in ("opaque", "whiteout", "redirect", "metacopy", "special", "origin", "overlay.opaque"):
            try:
                os.setxattr(target, "user.overlay." + name, b"y")
            except OSError:
                pass  # an older kernel refuses what it cannot escape
    write("empty", "")
    try:
        os.setxattr("empty", "user.overlay.whiteout", b"")
        os.setxattr("empty", "user.overlay.special", b"block-device 8:0")
        os.setxattr("d", "user.overlay.opaque", b"x")
    except OSError:
        pass


def forged_whiteout():
    try:
        os.mknod("d/x2", stat.S_IFCHR, 0)
        os.unlink("f")
        os.mknod("f", stat.S_IFCHR, 0)
    except OSError:
        pass  # overlayfs refuses a 0:0 device; a plain directory does not


def unreadable():
    write("secret", "s\n")
    os.chmod("secret", 0)
    os.chmod("g", 0)
    os.makedirs("closed/below")
    write("closed/below/file", "c\n")
    os.chmod("closed", 0)


def rename_lower_directory():
    os.rename("d", "moved")


OPERATIONS = {
    name: thing
    for name, thing in list(globals().items())
    if callable(thing) and getattr(thing, "__module__", None) == __name__ and name != "write"
}


def main():
    result = {}
    for name, operation in OPERATIONS.items():
        os.chdir(name)
        try:
            operation()
            result[name] = None
        except OSError as error:
            result[name] = f"{error}"
        os.chdir("..")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
