"""Docker's rules once more, slow and straight from their text, to compare with. Only for patterns made of
``a b . / * ? ! [ab] [^a]``: there Python's ``re`` and Go's RE2 mean the same."""

from __future__ import annotations

import posixpath
import re


def kept(ignore_file: str, paths: list[str]) -> set[str]:
    """The paths kept, in the walk of ``docker build``; ``paths`` has parents before children."""
    patterns = list(filter(None, map(_pattern, ignore_file.split("\n"))))
    recorded: dict[str, list[bool]] = {"": [False] * len(patterns)}
    pruned: set[str] = set()
    found = set()
    for path in paths:
        plain = path.rstrip("/")
        parent = posixpath.dirname(plain)
        if parent in pruned:
            pruned.add(plain)
            continue
        excluded = False
        recorded[plain] = []
        for (negated, text), inherited in zip(patterns, recorded[parent], strict=True):
            matched = inherited or (negated == excluded and _matches(text, plain))
            recorded[plain].append(matched)
            if matched:
                excluded = not negated
        if excluded:
            if path.endswith("/") and _pruned(plain, [text for negated, text in patterns if negated]):
                pruned.add(plain)
            continue
        while plain:  # a folder is kept if anything below is
            found.update({plain, plain + "/"})
            plain = posixpath.dirname(plain)
    return found & set(paths)


def _pattern(line: str) -> tuple[bool, str] | None:
    line = line.strip(" \t\r")
    if not line or line[0] == "#":
        return None
    mark = "!" if line[0] == "!" else ""
    text = line[len(mark) :].strip(" ")
    text = _clean(text) if text else ""
    if len(text) > 1:
        text = text.removeprefix("/")
    text = _clean((mark + text).strip(" "))
    return (True, text[1:]) if text[0] == "!" else (False, text)


def _clean(path: str) -> str:
    path = posixpath.normpath(path)
    return path[1:] if path.startswith("//") else path  # POSIX keeps two slashes, Go does not


def _matches(pattern: str, path: str) -> bool:
    special = re.sub(r"\A\*\*/?|/?\*\*\Z", "", pattern, count=1)
    if not re.search(r"[*?\[]", pattern):
        return path == pattern
    if not re.search(r"[*?\[]", special):
        if pattern.startswith("**"):
            suffix = pattern[2:]
            return path.endswith(suffix) or (suffix.startswith("/") and path == suffix[1:])
        return path.startswith(pattern[:-2])
    text, rest = "", pattern
    while rest:
        if rest.startswith("**"):
            rest = rest[2:].removeprefix("/")
            text += "(.*/)?" if rest else ".*"
            continue
        text += {"*": "[^/]*", "?": "[^/]", ".": r"\."}.get(rest[0], rest[0])
        rest = rest[1:]
    return re.search(f"^{text}\\Z", path) is not None


def _pruned(folder: str, exceptions: list[str]) -> bool:
    texts = [text.removesuffix("/**").removesuffix("/*") for text in exceptions]
    if any(re.search(r"[*\[\]?^\\]", text) for text in texts):
        return False
    return not any(f"{text}/".startswith(f"{folder}/") for text in texts)
