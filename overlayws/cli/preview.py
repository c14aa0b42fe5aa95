"""``overlayws start --dry-run``: what a session started now would show."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from overlayws.cli.terminal import json_path, visible

if TYPE_CHECKING:
    from overlayws.base.preview import Preview, Size


def as_text(found: Preview) -> str:
    """For a person: counts and sizes, by rule, then the paths that are redacted or refuse the start."""
    lines = [f"visible: {_size(found.visible)} in {found.directories} directories"]
    lines.append(f"hidden: {len(found.hidden)} paths" if found.hidden else "hidden: nothing")
    for rule, (paths, size) in sorted(found.by_rule().items(), key=lambda item: (-item[1][0], item[0])):
        lines.append(f"  {paths} by {visible(rule)} ({_size(size)})")
    for name, said in (("redacted", found.redacted), ("dangling links", found.leaving)):
        if said:
            lines.append(f"{name}: {len(said)}")
            lines += [f"  {visible(path)}" for path in said]
    if found.skipped:
        lines.append(f"not copied: {len(found.skipped)}")
        lines += [f"  {visible(path)} ({kind.value})" for path, kind in found.skipped]
    if found.findings:
        lines.append(f"findings: {len(found.findings)}")
        lines += [f"  {visible(f.path)}:{f.line}: {f.rule} ({f.action})" for f in found.findings]
    if found.blocked:
        lines.append("no session would be started: remove what blocks it, --hide it, or --show it")
    return "\n".join(lines)


def as_json(found: Preview) -> str:
    """For scripts: schema overlayws.preview/1."""
    data = {
        "schema": "overlayws.preview/1",
        "visible": {**_numbers(found.visible), "directories": found.directories},
        "hidden": [
            {**json_path(h.path), "kind": h.kind.value, "rule": h.rule, **_numbers(size)} for h, size in found.hidden
        ],
        "rules": [
            {"rule": rule, "paths": paths, **_numbers(size)} for rule, (paths, size) in sorted(found.by_rule().items())
        ],
        "redacted": [json_path(path) for path in found.redacted],
        "skipped": [{**json_path(path), "kind": kind.value} for path, kind in found.skipped],
        "links_outside": [json_path(path) for path in found.leaving],
        "findings": [{**json_path(f.path), "line": f.line, "rule": f.rule, "action": f.action} for f in found.findings],
        "blocked": bool(found.blocked),
        "warnings": list(found.warnings),
    }
    return json.dumps(data, indent=2)


def _size(size: Size) -> str:
    amount: float = size.size
    unit = "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    shown = f"{amount:.0f}" if unit == "B" else f"{amount:.1f}"
    return f"{size.files} file{'' if size.files == 1 else 's'}, {shown} {unit}"


def _numbers(size: Size) -> dict[str, int]:
    return {"files": size.files, "size": size.size}


def print_preview(found: Preview, *, json_wanted: bool) -> int:
    """Print it to stdout; the exit status: 1 where no session would be started."""
    click.echo(as_json(found) if json_wanted else as_text(found))
    return 1 if found.blocked else 0
