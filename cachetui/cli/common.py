"""What all verbs share: options, where to look, one way to begin, one way to speak."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cachetui import paths
from cachetui.cli.help import CONTEXT, Verb
from cachetui.config import ConfigError, Where
from cachetui.ledger import Scan
from cachetui.marks import Marks
from cachetui.model import Item, Root
from cachetui.store import Selection
from cachetui.text import safe, safe_block

if TYPE_CHECKING:
    from cachetui.filters import Filter
    from cachetui.jobs.model import Spec
    from cachetui.targets import TargetNotFound

F = TypeVar("F", bound=Callable[..., Any])


class Failed(click.ClickException):
    """It did not work; the message says why and what to do (exit 1)."""


class NotHere(Failed):
    """A TARGET that nothing on disk is called."""

    def __init__(self, message: str, repos: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.repos = repos
        """What a short name stands for; empty where it is none."""


def verb(name: str | None = None, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command that takes `_` for `-` and prints its help with colours where the terminal has them."""
    return click.command(name, cls=Verb, context_settings=dict(CONTEXT), **settings)


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


where_options = _options(
    click.option(
        "--cache-dir",
        "--model-cache-dir",
        "cache_dir",
        multiple=True,
        metavar="DIR",
        help="Look here too (repeatable): a hub cache, a folder that has one in hub/, or a folder of models.",
    ),
    click.option(
        "--search", multiple=True, metavar="DIR", help="Look for caches of projects below this folder (repeatable)."
    ),
)
root_option = click.option("--root", metavar="DIR", help="Only in this root, where a TARGET exists in several.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object; messages stay on stderr.")
binary_option = click.option("--binary", is_flag=True, help="Sizes in GiB instead of GB.")
changing_options = _options(
    click.option("--dry-run", is_flag=True, help="Say what would happen; change nothing."),
    click.option("-y", "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal to ask on."),
)


def say(message: str) -> None:
    """A line for the user, on stderr."""
    click.echo(safe_block(message), err=True)


def prose(message: str) -> None:
    """Words for the user, on stderr; a terminal gets them broken between words. Not for what is copied: commands."""
    if sys.stderr.isatty():
        import shutil
        import textwrap

        width = shutil.get_terminal_size().columns
        message = textwrap.fill(message, width, break_long_words=False, break_on_hyphens=False)
    say(message)


def to_where(cache_dir: Sequence[str] = (), search: Sequence[str] = ()) -> Where:
    """Where to look, from the environment, the configuration and the command line."""
    try:
        where = Where.current(tuple(cache_dir), tuple(search))
    except ConfigError as e:
        raise Failed(str(e)) from None
    except OSError as e:
        raise Failed(f"the working folder cannot be found: {e.strerror}; go to another one") from None
    for given in dict.fromkeys((*cache_dir, *search)):
        full = where.resolve(given)
        if not os.path.isdir(full):
            say(safe(f"{given}: there is no folder {full}"))
        elif not os.path.isabs(given):
            say(safe(f"{given} is {full}"))
    return where


def must_have_terminal() -> None:
    """Refuse to open the user interface where nobody would see it."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("the user interface needs a terminal; for scripts there is: cachetui ls --json")


def open_ui(where: Where) -> int:
    """The user interface."""
    must_have_terminal()
    from cachetui.tui.app import run

    return int(run(where))


@dataclass(frozen=True)
class Session:
    """One look at everything, with what the user marked."""

    where: Where
    scan: Scan
    marks: Marks
    binary: bool

    @property
    def roots(self) -> tuple[Root, ...]:
        """All roots."""
        return tuple(r.root for r in self.scan.roots)


def begin(where: Where, *, dry_run: bool = False, binary: bool = False) -> Session:
    """Recover what an earlier run left unfinished, read everything, apply pins and the usage log."""
    from cachetui.cli.progress import Reading
    from cachetui.scan import find_roots, scan_roots

    marks = Marks.cautious()
    if marks.unknown:
        say(safe(f"{marks.unknown}. Until then everything counts as pinned."))
    roots, problems = find_roots(where)
    recover(roots, dry_run=dry_run)
    with Reading(len(roots)) as reading:
        scan = scan_roots(roots, roots, reading, problems)
    gc.freeze()  # a million records without a cycle: neither what follows nor the exit needs to look through them
    for given in where.cache_dirs:
        _say_if_empty(where, given, scan)
    return Session(where, marks.apply_scan(scan), marks, binary or where.config.binary_units)


def _say_if_empty(where: Where, given: str, scan: Scan) -> None:
    real = os.path.realpath(where.resolve(given))
    inside = (r for r in scan.roots if r.root.path == real or r.root.path.startswith(real + os.sep))
    if os.path.isdir(real) and not any(r.items for r in inside):
        say(
            safe(
                f"{given}: no cache or model in {real} yet; HF_HUB_CACHE={real} makes other programs keep theirs there"
            )
        )


def say_about_roots(session: Session) -> None:
    """What is odd about a root itself, e.g. that a variable leads there which other programs do not obey."""
    for r in session.scan.roots:
        for p in r.root.problems:
            say(safe(f"{r.root.origin}, {r.root.path}: {p.message}"))


def recover(roots: Sequence[Root], *, dry_run: bool = False) -> None:
    """Finish or revert what a killed run left behind (only report it with dry_run), and say so."""
    from cachetui.plans.recovery import recover as run

    for found in run(roots, dry_run=dry_run):
        say(safe(f"{found.action}: {found.message}"))
    for spec in unfinished():
        say(safe(f"interrupted: {spec.title}; go on: cachetui jobs resume {spec.id}"))


def unfinished() -> tuple[Spec, ...]:
    """Copies that were interrupted and can go on."""
    if not paths.jobs_file().exists():
        return ()
    from cachetui.jobs.unfinished import offered

    return offered()


def real_root(session: Session, given: str | None) -> str | None:
    """The root that --root names. Raises Failed with the roots there are."""
    if given is None:
        return None
    from cachetui.text import decode_target

    for text in (given, decode_target(given)):
        full = session.where.resolve(text)
        for root in session.roots:
            if root.path in (full, os.path.realpath(full)) or text == root.given:
                return root.path
    known = "\n".join(f"  {safe(r.path)}" for r in session.roots) or "  none"
    raise Failed(f"{safe(given)} is no root; the roots are:\n{known}")


def find(session: Session, target: str, root: str | None) -> Selection:
    """The one thing a TARGET, or a short name of the catalogue, names. Raises Failed, with what to write instead."""
    from cachetui.targets import TargetAmbiguous, TargetNotFound, resolve

    try:
        found = resolve(session.scan, target, root, session.where.cwd)
    except TargetNotFound as e:
        return _by_short_name(session, target, root, e)
    except TargetAmbiguous as e:
        rows = "\n".join(f"  {safe(t)}   in {safe(r)}" for t, r in e.candidates)
        raise Failed(f"{safe(target)} has several meanings; write one of\n{rows}") from None
    if len(found) > 1:
        rows = "\n".join(f"  --root {safe(s.item.root)}" for s in found)
        raise Failed(f"{safe(target)} is in {len(found)} roots; say which one:\n{rows}")
    return found[0]


def _by_short_name(session: Session, target: str, root: str | None, error: TargetNotFound) -> Selection:
    from cachetui.memory import catalogue

    if never := catalogue.never(target):
        raise NotHere(safe(never))
    repos = tuple(r.repo for r in catalogue.named(target))
    wanted = {f"hf:{r}".lower() for r in repos}
    here = sorted({i.id for i in session.scan.items if i.id.lower() in wanted and root in (None, i.root)})
    if len(here) == 1:
        return find(session, here[0], root)
    if here:
        rows = "\n".join(f"  {safe(i)}" for i in here)
        raise Failed(f"{safe(target)} stands for several models that are here; write one of\n{rows}")
    if repos:
        rows = "\n".join(f"  cachetui pull hf:{r}" for r in repos)
        raise NotHere(f"{safe(target)} is not on disk; to get it:\n{rows}", repos)
    near = "".join(f"\n  {safe(n)}" for n in error.near)
    raise NotHere(safe(str(error)) + (f"; did you mean{near}" if near else ""))


def must_be_store(name: str) -> None:
    """Refuse a --store that is none."""
    from cachetui.store import all_stores

    known = [s.name for s in all_stores()]
    if name not in known:
        raise click.UsageError(f"--store {safe(name)}: there are {', '.join(known)}")


def filters_of(
    session: Session, expressions: Sequence[str], outdated: Callable[[Item], bool] | None = None
) -> list[Filter]:
    """The tests that --filter stands for; all of them must pass. `outdated`: what a Hub answered, if it was asked."""
    if not expressions:
        return []
    from cachetui.filters import FilterError, compile_filter

    try:
        ask = "cachetui ls --outdated"
        return [compile_filter(e, session.scan.ledger, outdated=outdated, ask=ask) for e in expressions]
    except FilterError as e:
        raise click.UsageError(str(e)) from None


def filtered(session: Session, expressions: Sequence[str], items: Iterable[Item]) -> list[Item]:
    """The items that pass every expression."""
    tests = filters_of(session, expressions)
    return [i for i in items if all(test(i) for test in tests)]


def must_agree(question: str, *, yes: bool, as_json: bool, word: str = "") -> bool:
    """Ask on the terminal unless --yes; with `word` it has to be typed. Without a terminal --yes is needed."""
    if yes:
        return True
    if as_json or not sys.stdin.isatty():
        why = "--json asks nothing" if as_json else "there is no terminal to ask on"
        raise click.UsageError(f"{why}: add -y to go ahead or --dry-run to look")
    if word:
        answer = click.prompt(safe(question), default="", show_default=False, err=True)
        return bool(answer.strip() == word)
    return click.confirm(safe(question), err=True)
