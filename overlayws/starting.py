"""start, and what it would do: preview and explain. See api.py."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from overlayws.errors import OverlaywsError, UnableError, UsageError
from overlayws.run.limits import Limits
from overlayws.session.config import policy, settings
from overlayws.session.places import check_names, checked_workspace, user_config
from overlayws.session.session import BASES, KEPT_IN, Run, Session
from overlayws.session.store import Store
from overlayws.upkeep import SILENT, Talk, captured, default_store, drop_bases, recover, shelf_of

if TYPE_CHECKING:
    from overlayws.base.explain import Explained
    from overlayws.base.judge import Judge
    from overlayws.base.making import Base
    from overlayws.base.preview import Preview
    from overlayws.layer.room import Room
    from overlayws.run.sandbox import RunResult, RunSpec


@dataclass(frozen=True, slots=True)
class Confinement:
    """How the commands of a session are run."""

    sandbox: str = "auto"
    network: str = "none"
    read_only: bool = False
    tools: tuple[str, ...] = ()  # host directories shown read-only
    limits: Limits = Limits()
    image: str = ""  # of a container: its root file system
    workdir_at: str = ""  # where the workspace appears inside
    capture: str = "disk"  # or "memory": gVisor keeps what is written until the end of the run
    checkpoint_every: float | None = None  # seconds; with "memory", save what there is in between


def start(
    workspace: Path | str,
    *,
    store: Store | None = None,
    name: str | None = None,
    backend: str = "auto",
    confinement: Confinement | None = None,
    base: str = "copy",
    scan: bool = False,
    gitleaks: bool = False,
    git: str = "auto",
    ignore_files: Sequence[Path] = (),
    hide: Sequence[str] = (),
    show: Sequence[str] = (),
    gitignore: bool = False,
    talk: Talk = SILENT,
) -> Session:
    """Make a session of ``workspace``: a sanitized base, an empty upperdir. Nothing is run yet: see ``run``.

    The base is shared with the other sessions on an unchanged workspace; with ``base="live"`` it is the workspace
    itself, below a mask (``scan``: the contents of its files are judged too). ``gitignore`` hides what git ignores,
    ``gitleaks`` asks that program too.

    Raises UsageError (not a workspace, a bad pattern, a name that is taken), UnableError (no backend, no sandbox,
    unreadable files, no space), BlockedError for a file whose content refuses the start.
    """
    from overlayws import live
    from overlayws.filter.contents import Inspector
    from overlayws.layer.all_backends import choosing as choosing_backend
    from overlayws.run.all_sandboxes import CONTAINERS
    from overlayws.run.all_sandboxes import choosing as choosing_sandbox

    store = store or default_store()
    confinement = confinement or Confinement()
    if not os.fspath(workspace):
        raise UsageError("an empty path is no workspace", hint="name a directory")
    root = checked_workspace(Path(workspace), store.home)
    confinement.limits.check()
    store.prepare()
    among = live.BACKENDS if base == "live" else None
    with (
        choosing_backend(backend, store.home, among) as try_backend,
        choosing_sandbox(confinement.sandbox) as try_sandbox,
    ):
        # What they try goes on beside all this; nothing else is made before the answers.
        recover(store, talk=talk)
        judge = _judge(root, ignore_files, hide, show, gitignore)
        opinion = settings().gitleaks
        opinion = "warn" if gitleaks and opinion == "off" else opinion
        if base not in BASES:
            raise UsageError(f"no base is called {base!r}", hint=f"one of: {', '.join(BASES)}")
        if base == "live":
            live.check_backend(backend)
        shelf = shelf_of(store)
        import overlayws.changes.capture  # noqa: F401 (of ``captured``: loaded while they go on, and not afterwards)

        backend_name, _, passed_over = try_backend()
        sandbox_name, _, also_passed_over = try_sandbox()
    if (confinement.image or confinement.workdir_at) and sandbox_name == "none":
        raise UsageError("--image and --workdir-at are nothing without a sandbox", hint="--sandbox docker")
    if confinement.read_only and sandbox_name == "none":
        raise UsageError("--read-only is nothing without a sandbox: the command could write", hint="--sandbox bwrap")
    if confinement.image and sandbox_name == "bwrap":
        raise UsageError("--image is for a container, not for bwrap", hint="--sandbox docker or --sandbox gvisor")
    check_capture(confinement.capture, confinement.checkpoint_every, sandbox_name, base)
    if sandbox_name == "gvisor" and confinement.image.startswith(("./", "../")):  # a path, not an engine's image
        confinement = replace(confinement, image=os.path.abspath(confinement.image))
    if confinement.capture == "memory":
        from overlayws.run.gvisor import check_memory

        check_memory(backend_name, confinement.image)
    if base == "live" and os.geteuid() == 0 and sandbox_name in CONTAINERS:
        # There the program is another user, to whom root's own files are shown as its own (layer/outside.py): these
        # of a base, which is ours, and not those of a workspace, which may be anybody's.
        raise UnableError("root's --base live cannot be shown to a container", hint="--base copy, or --sandbox bwrap")
    for line in (*passed_over, *also_passed_over):
        talk.notice(line)
    talk.notice(f"backend {backend_name}, sandbox {sandbox_name}")
    # A commit reads every file, which a live base is there to avoid: only on request.
    own_git = git == "fresh" or (git == "auto" and base == "copy" and (root / ".git").exists())
    waiting = f"waiting for another start on {root}"
    # Held until the session is saved: gc must not take the base away before.
    with writing(store), shelf.locked(root, lambda: talk.notice(waiting)), store.creating(name) as (final, scratch):
        judge = replace(judge, inspector=Inspector(policy(shelf.key(root))))
        session = Session(
            name=final,
            directory=scratch,
            workspace=root,
            created=now(),
            backend=backend_name,
            sandbox=sandbox_name,
            own_git=own_git,
            network=confinement.network,
            read_only=confinement.read_only,
            tools=confinement.tools,
            limits=confinement.limits,
            image=confinement.image,
            workdir_at=confinement.workdir_at,
            kept_in=confinement.capture,
            checkpoint_every=confinement.checkpoint_every,
            base_mode=base,
        )
        for directory in (session.layer.upperdir, session.layer.workdir, session.layer.merged, session.journals):
            directory.mkdir(mode=0o700)
        if base == "live":
            made = live.make_base(session, judge, scan=scan, talk=talk)
            if own_git:
                live.make_own_git(session, talk)
        else:
            shelved = shelf.obtain(root, judge, own_git=own_git, progress=talk.progress)
            session, made = replace(session, base_id=shelved.id), shelved.base
            if opinion != "off":
                made = _second_opinion(opinion, root, made, talk)
        session = replace(session, warnings=made.warnings)
        os.chmod(session.layer.upperdir, made.lowerdir.stat().st_mode & 0o777)
        store.save(captured(session, state="new"))
    with suppress(OverlaywsError), shelf.locked(root):
        drop_bases(store, root)
    for warning in made.warnings:
        talk.warning(warning)
    return store.load(final)


def check_capture(capture: str, every: float | None, sandbox: str, base: str) -> None:
    """Raises UsageError for a way to capture that the sandbox or the base has not."""
    if capture not in KEPT_IN:
        raise UsageError(f"no capture is called {capture!r}", hint=f"one of: {', '.join(KEPT_IN)}")
    if capture == "memory" and sandbox != "gvisor":
        raise UsageError(
            f"--capture memory is gVisor's, and the sandbox is {sandbox}", hint="--sandbox gvisor, or --capture disk"
        )
    if capture == "memory" and base == "live":
        raise UsageError("--capture memory needs a base that stays as it is", hint="--base copy, or --capture disk")
    if every is not None and capture != "memory":
        raise UsageError("--checkpoint-every is for --capture memory", hint="--capture disk loses nothing in a crash")


def capturing(session: Session, capture: str | None, every: float | None) -> Session:
    """``session`` as one run of it is to be captured; None: as the session is. Raises UsageError."""
    kept_in = capture or session.kept_in
    every = every if every is not None or capture == "disk" else session.checkpoint_every
    check_capture(kept_in, every, session.sandbox, session.base_mode)
    return replace(session, kept_in=kept_in, checkpoint_every=every)


def begun(session: Session, spec: RunSpec) -> Session:
    """``session`` while the command of ``spec`` runs in it."""
    run = Run(spec.command, now(), kept_in=spec.capture)
    return replace(session, state="running", doing="run", runs=(*session.runs, run))


def heard(talk: Talk, said: list[str]) -> Callable[[str], None]:
    """What warns of a line, and appends it to ``said``."""

    def hear(line: str) -> None:
        said.append(line)
        talk.warning(line)

    return hear


def noted(session: Session, said: Sequence[str]) -> Session:
    """``session`` when its last run is over and is to be captured, with what was said of it."""
    runs = (*session.runs[:-1], replace(session.runs[-1], notices=tuple(said)))
    return replace(session, doing="capture", runs=runs)


def bounds(spec: RunSpec) -> Room | None:
    """What the kernel is to limit the upperdir to; not where changes are in memory, which has its own size."""
    return spec.limits.room if spec.capture == "disk" else None


def ended(session: Session, result: RunResult) -> Session:
    """``session`` with what is known of its last command now that it has ended."""
    code, duration = result.exit_code, round(result.duration, 3)
    done = replace(session.runs[-1], exit_code=code, duration=duration, disk=result.disk_limit, notes=result.notes)
    return replace(session, runs=(*session.runs[:-1], done))


@contextmanager
def writing(store: Store) -> Iterator[None]:
    """What goes wrong while files are written is an UnableError that names the state directory."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        full = getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "full" in str(error)
        raise UnableError(
            f"cannot write to the state directory {store.home}: {getattr(error, 'strerror', None) or error}",
            hint="free some space, or set OVERLAYWS_HOME to a directory with more" if full else "check its disk",
        ) from error


def preview(
    workspace: Path | str,
    *,
    store: Store | None = None,
    ignore_files: Sequence[Path] = (),
    hide: Sequence[str] = (),
    show: Sequence[str] = (),
    gitignore: bool = False,
) -> Preview:
    """What a session started now would show and hide, by which rules (``start --dry-run``). Nothing is made.

    Raises as ``start``, but for what only the making of a session can raise.
    """
    from overlayws.base.preview import preview as look

    root = checked_workspace(Path(workspace), (store or default_store()).home)
    return look(root, _judge(root, ignore_files, hide, show, gitignore))


def explain(
    workspace: Path,
    paths: Sequence[str],
    *,
    ignore_files: Sequence[Path] = (),
    hide: Sequence[str] = (),
    show: Sequence[str] = (),
    gitignore: bool = False,
    talk: Talk = SILENT,
) -> list[tuple[str, str, str]]:
    """(path, verdict, why) for paths relative to ``workspace``, as ``start`` would decide now: ``visible``,
    ``redacted``, ``hidden`` or ``blocked``. See ``explained`` for the rules themselves."""
    found = explained(workspace, paths, ignore_files=ignore_files, hide=hide, show=show, gitignore=gitignore, talk=talk)
    return [(one.path, one.verdict, one.why) for one in found]


def explained(
    workspace: Path,
    paths: Sequence[str],
    *,
    ignore_files: Sequence[Path] = (),
    hide: Sequence[str] = (),
    show: Sequence[str] = (),
    gitignore: bool = False,
    talk: Talk = SILENT,
) -> list[Explained]:
    """As ``explain``, each with the rule that decides."""
    from overlayws.base.explain import explained as explain_paths

    judge = _judge(workspace, ignore_files, hide, show, gitignore)
    for warning in judge.rules.warnings:
        talk.warning(warning)
    return explain_paths(workspace, judge, paths)


def _judge(
    root: Path,
    ignore_files: Sequence[Path],
    hide: Sequence[str],
    show: Sequence[str],
    gitignore: bool,
) -> Judge:
    from overlayws.base.contents import spared
    from overlayws.base.judge import Judge
    from overlayws.filter.contents import Inspector
    from overlayws.filter.sources import load_filter

    check_names()
    rules = load_filter(root, ignore_files=ignore_files, hide=hide, show=show, user_rules=_user_rules())
    also: dict[str, str] = {}
    if gitignore:
        from overlayws.base.gitignore import ignored_by_git

        also = ignored_by_git(root, os.environ, every_file=bool(show))
    for path in spared(rules, also):  # --show is the last word
        del also[path]
    return Judge(rules, Inspector(policy()), also)


def _second_opinion(how: str, root: Path, base: Base, talk: Talk) -> Base:
    """The base, with what gitleaks has to say about it. Raises BlockedError where ``how`` is ``block``."""
    from overlayws.base.contents import blocked
    from overlayws.base.gitleaks import find_program, gitleaks

    talk.progress("asking gitleaks", 0, 0)
    found = gitleaks(find_program(os.environ.get("PATH", ""), root), base.lowerdir.parent)
    if found and how == "block":
        raise blocked([replace(finding, rule=f"gitleaks: {finding.rule}") for finding in found])
    shown = ", ".join(f"{f.path!r} line {f.line} ({f.rule})" for f in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return replace(base, warnings=(*base.warnings, f"gitleaks finds what is shown: {shown}{more}")) if found else base


def _user_rules() -> bytes | None:
    try:
        return (user_config() / "ignore").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {user_config() / 'ignore'}: {error.strerror}") from error


def now() -> str:
    """The time as session.json has it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
