"""Which model a prompt goes to: TARGET, short name, the default, or one that is downloaded first."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from cachetui.cli import common
from cachetui.cli.common import Failed, NotHere, Session
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.cli.prompt import Way
    from cachetui.runnable import Runnable
    from cachetui.store import Selection


def find(session: Session, target: str, way: Way) -> Runnable:
    """What runs a TARGET (empty: the default model). Raises Failed, with the command to type."""
    return runnable(session, selection(session, target, way), way)


def selection(session: Session, target: str, way: Way) -> Selection:
    """What a TARGET names; downloaded first with --pull. Raises Failed."""
    from cachetui.runnable import DEFAULT_MODEL

    text = target or DEFAULT_MODEL
    try:
        return common.find(session, text, way.root)
    except NotHere as e:
        wanted = _to_pull(text, e.repos)
        told = _not_here(e, text, wanted, way.verb, is_default=not target)
        if not wanted or not (way.pull or _offered(wanted, told, way)):
            raise told from None
    _pull(session, wanted, way)
    return common.find(common.begin(session.where, binary=session.binary), wanted, way.root)


def runnable(session: Session, found: Selection, way: Way) -> Runnable:
    """What runs it. Raises Failed."""
    from cachetui.runnable import NotRunnable, runnable_of

    try:
        return runnable_of(found, way.options, session.where)
    except NotRunnable as e:
        raise Failed(safe(f"{found.item.id}: {e.reason}") + (f"\n{safe(e.advice)}" if e.advice else "")) from None


def _to_pull(text: str, repos: tuple[str, ...]) -> str:
    """The TARGET that a download would have; empty where it is not clear."""
    from cachetui.download.errors import PullError
    from cachetui.download.spelling import parse_hub

    if repos:
        return f"hf:{repos[0]}" if len(repos) == 1 else ""
    if text.startswith("ollama:"):
        return text
    store, colon, _ = text.partition(":")
    if "/" not in text or text.startswith(("/", ".", "~")) or (colon and "/" not in store and store != "hf"):
        return ""
    try:
        return parse_hub(text).target if ":" not in text.removeprefix("hf:") else text
    except PullError:
        return ""


def _not_here(error: NotHere, text: str, wanted: str, verb: str, *, is_default: bool) -> Failed:
    lines = [error.format_message()]
    if is_default:
        lines = [f"No model was named, and the default, {text}, is not on disk. Name one: cachetui {verb} TARGET"]
    if wanted:
        lines.append(f"Download it first, with its plan: cachetui {verb} {safe(wanted)} --pull{_size(wanted)}")
    elif text.isalpha() and not error.repos:
        lines.append(f"If that is what you ask: cachetui prompt --prompt {safe(text)}")
    return Failed("\n".join(lines))


def _size(target: str) -> str:
    from cachetui import units
    from cachetui.memory import catalogue

    rows = catalogue.named(target)
    return f"   (about {units.size(catalogue.facts(rows[0].repo).download)})" if len(rows) == 1 else ""


def _offered(target: str, told: Failed, way: Way) -> bool:
    """On a terminal: whether the person wants to see what downloading it takes (which asks once more)."""
    if way.as_json or way.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    common.say(told.format_message().partition("\n")[0])
    return click.confirm(f"See what downloading {safe(target)}{_size(target)} takes?", err=True)


def _pull(session: Session, target: str, way: Way) -> None:
    from cachetui.cli import pull

    if not pull.fetch(session.where, target, yes=way.yes, as_json=way.as_json, binary=session.binary):
        raise Failed(f"{safe(target)} was not downloaded.")
