"""Text that tools take for binary: a NUL byte or UTF-16 must not keep a reviewer from seeing a change.

git (and grep, and most viewers) call a file binary for one NUL in its first 8000 bytes. Judged here by name and bytes,
never by what the changed tree says (``.gitattributes``).
"""

from __future__ import annotations

import re

_HEAD = 65536  # bytes that are looked at
_FEW = 10  # of how many bytes at most one may be a NUL
_SOURCES = frozenset(
    """
    ada asm awk bash bat bib c cc cfg cjs clj cmake cmd coffee conf cpp cs css csv cxx dart diff dockerfile el
    elm erl ex exs f90 fish fs gemspec go gradle graphql groovy h hcl hh hpp hs htm html hxx idl ini ipynb java
    jl js json json5 jsx kt kts less lisp lock log lua m mak make md mdx mjs mk ml mli mm nim nix patch php pl
    pm properties proto ps1 psd1 psm1 py pyi pyx r rake rb rs rst s sass scala scm scss sh sol sql svelte svg
    swift tcl tex tf tfvars toml ts tsv tsx txt v vb vbs vhd vim vue xml xsd xsl yaml yml zig zsh
    """.split()
)
_NAMES = frozenset(
    """
    makefile gnumakefile dockerfile containerfile jenkinsfile rakefile gemfile procfile .gitattributes .gitignore
    .gitmodules .envrc .profile .bashrc .bash_profile .zshrc .npmrc .editorconfig
    """.split()
)
# What text may hold besides NUL: tab, line ends, form feed, escape, printable ASCII, and anything above.
_NOT_TEXT = re.compile(rb"[\x01-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")


def taken_for_binary(data: bytes) -> bool:
    """git's rule (buffer_is_binary in xdiff-interface.c)."""
    return data.find(b"\0", 0, 8000) >= 0


def utf16(data: bytes) -> str | None:
    """``utf-16-le`` or ``utf-16-be`` where ``data`` is a text in it, mark or not; nothing is lost."""
    if len(data) % 2 or b"\0" not in data[:_HEAD]:
        return None
    head = data[:_HEAD]
    found = None
    if head.startswith(b"\xff\xfe"):
        found = "utf-16-le"
    elif head.startswith(b"\xfe\xff"):
        found = "utf-16-be"
    elif len(head) >= 8:
        first, last = head[::2].count(0), head[1::2].count(0)
        if 4 * max(first, last) > len(head) > 8 * min(first, last):  # more than half of its characters are ASCII
            found = "utf-16-le" if last > first else "utf-16-be"
    if found is None:
        return None
    try:
        text = data.decode(found)
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else found


def text_in_disguise(path: str, data: bytes) -> bool:
    """Whether ``data``, which has a NUL early on, is to be shown as text: by its name, its encoding or its bytes."""
    name = path.rpartition("/")[2].casefold()
    if name in _NAMES or name.rpartition(".")[2] in _SOURCES:
        return True
    head = data[:_HEAD]
    if utf16(head[: len(head) // 2 * 2]):
        return True
    return head.count(0) * _FEW <= len(head) and len(_NOT_TEXT.findall(head)) * 100 <= len(head)
