"""Asking: one model whose answer streams, a conversation with it, or many models, a row each."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cachetui.cli import common, data, prompt_show, transfer
from cachetui.cli.common import Failed, Session
from cachetui.cli.prompt import NOISE, Ask, Way, piped_text, text_of
from cachetui.cli.prompt_find import find, runnable, selection
from cachetui.cli.prompt_show import Row
from cachetui.jobs.model import Ended, JobState
from cachetui.runnable import TRANSFORMERS
from cachetui.state_items import STORE
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.jobs.model import Json
    from cachetui.jobs.warm import Pool, Warm
    from cachetui.runnable import Runnable
    from cachetui.store import Selection


@contextmanager
def pool_of(session: Session) -> Iterator[Pool]:
    """Loaded models; none is left in the end."""
    from cachetui.jobs.warm import Pool

    pool = Pool(idle_seconds=session.where.config.warm_seconds)
    try:
        yield pool
    finally:
        pool.close()


def one(session: Session, ask: Ask, way: Way, target: str) -> int:
    """One model, or the saved state that a TARGET names. The exit code."""
    found = selection(session, target, way)
    if found.item.store == STORE:
        from cachetui.cli import prompt_states

        return prompt_states.run(session, ask, way, "", (data.full_path(found.item),))
    chosen = runnable(session, found, way)
    if way.options.bits and chosen.engine != TRANSFORMERS:
        common.say(f"--bits is for transformers; {chosen.engine} runs {safe(chosen.name)} as it is.")
    if not ask.text and not ask.images:
        if sys.stdin.isatty() and sys.stdout.isatty() and not way.as_json:
            return _talk(session, ask, way, chosen)
        if not (piped := piped_text()):
            raise click.UsageError("nothing is asked: give a text, or a picture")
        ask = _with_text(ask, piped)
    with pool_of(session) as pool:
        ended = put(pool, chosen, ask, way)
        if way.as_json:
            prompt_show.emit_one(chosen, ended, seen(pool, chosen))
    return _code(ended)


def _with_text(ask: Ask, text: str) -> Ask:
    from dataclasses import replace

    return replace(ask, text=text)


def put(pool: Pool, chosen: Runnable, ask: Ask, way: Way, state: str = "") -> Ended:
    """Ask, stream the answer to stdout (not with --json) and say on stderr how it went."""
    from cachetui.cli.progress import Bar

    text = text_of(ask, images=bool(ask.images or state), sees=chosen.images)
    _warn_if_large(chosen, pool, way)
    out = prompt_show.Stream(silent=way.as_json)
    with transfer.stoppable(out.end) as stop, Bar(way.binary) as bar:

        def on_event(event: Json) -> None:
            if event.get("name") == "token":
                bar.clear()
                out.write(str(event.get("text", "")))

        ended = pool.ask(chosen, ask.request(text, ask.images, state), on_event, bar.tell, stop)
    out.end()
    prompt_show.say_how(chosen, ended, state)
    return ended


def _warn_if_large(chosen: Runnable, pool: Pool, way: Way) -> None:
    """What will hardly go in is said before it is tried: estimates are estimates."""
    if seen(pool, chosen) is None and (found := too_large(chosen, binary=way.binary)):
        common.say(f"{safe(chosen.name)} {found[0]}: {found[1]}. Trying it all the same.")


def too_large(chosen: Runnable, *, binary: bool) -> tuple[str, str] | None:
    """(why, what to do) for a model that needs more memory than is free; None for one that goes in."""
    from cachetui.jobs.warm import free_memory
    from cachetui.units import size

    free = free_memory(chosen.wanted.device)
    if chosen.memory <= free:
        return None
    ways = []
    if (four := chosen.chosen(chosen.wanted.device, 4).memory) < chosen.memory:
        ways.append(f"--bits 4 needs about {size(four, binary=binary)}")
    ways.append("cachetui estimate --all tells what fits")
    need, there = size(chosen.memory, binary=binary), size(free, binary=binary)
    return f"needs about {need}, {there} are free", "; ".join(ways)


def seen(pool: Pool, chosen: Runnable) -> Warm | None:
    """The model as it is in memory, where it is."""
    return next((w for w in pool.sessions() if w.key == chosen.key and w.loaded), None)


def _code(ended: Ended) -> int:
    return {JobState.DONE: 0, JobState.CANCELLED: transfer.INTERRUPTED}.get(ended.state, 1)


def _talk(session: Session, ask: Ask, way: Way, chosen: Runnable) -> int:
    """Question after question to one loaded model. Control-C stops an answer, Control-D ends."""
    import importlib.util

    if importlib.util.find_spec("readline") is not None:
        importlib.import_module("readline")  # arrow keys and the questions before
    common.say(f"{safe(chosen.name)} ({safe(chosen.about)}). Control-D ends.")
    with pool_of(session) as pool:
        while True:
            try:
                text = input("> ").strip()
            except EOFError:
                click.echo()
                return 0
            except KeyboardInterrupt:
                click.echo()
                continue
            if text:
                put(pool, chosen, _with_text(ask, text), way)


def several(session: Session, ask: Ask, way: Way, targets: Sequence[str]) -> int:
    """These models, a row each; what cannot be asked is a row too."""
    wanted: list[Row | Runnable] = []
    for target in targets:
        try:
            wanted.append(find(session, target, way))
        except Failed as e:
            wanted.append(Row(target, target, reason=e.format_message()))
    return _rows(session, ask, way, wanted, ())


def everything(session: Session, ask: Ask, way: Way) -> int:
    """All models here; where there is a picture those that see. Catalogue models that are not here are named."""
    from cachetui.memory import catalogue
    from cachetui.store import Selection

    wanted: list[Row | Runnable] = []
    for item in session.scan.items:
        if way.root not in (None, item.root) or not item.traits.formats or _is_backup(session, Selection(item)):
            continue
        found = _asked(session, Selection(item), way)
        if isinstance(found, Row) or (found is not None and found.writes and (found.images or not ask.images)):
            wanted.append(found)
    names = {i.name.lower() for i in session.scan.items}
    missing = tuple(f"hf:{r.repo}" for r in catalogue.ROWS if r.sees and r.repo.lower() not in names)
    return _rows(session, ask, way, wanted, missing)


def _is_backup(session: Session, found: Selection) -> bool:
    """A copy in an archive: its link, or the original, is asked."""
    return session.scan.root_of(found.item).root.only_archive


def _asked(session: Session, found: Selection, way: Way) -> Row | Runnable | None:
    """What runs it (of several GGUF files the smallest), or why nothing does; None for what is no model to be asked."""
    from dataclasses import replace

    from cachetui.runnable import NotRunnable, runnable_of

    try:
        return runnable_of(found, way.options, session.where)
    except NotRunnable as e:
        if e.choices:
            return _asked(session, replace(found, file=e.choices[0]), way)
        if e.code in ("not-a-model", "adapter", "other-program", "state"):
            return None
        return Row(found.item.id, found.item.name, reason=e.reason, advice=e.advice)


def _rows(session: Session, ask: Ask, way: Way, wanted: Sequence[Row | Runnable], missing: Sequence[str]) -> int:
    """Ask one after the other those that go in; Control-C ends it with the rows there are."""
    from cachetui.cli.progress import Bar

    rows: list[Row] = []
    with transfer.stoppable() as stop, pool_of(session) as pool, Bar(session.binary) as bar:
        for n, subject in enumerate(wanted, 1):
            if stop.is_set():
                break
            if isinstance(subject, Row):
                rows.append(subject)
                continue
            if large := too_large(subject, binary=session.binary):
                why = f"not tried: it {large[0]}"
                rows.append(Row(subject.target, subject.name, False, subject.engine, reason=why, advice=large[1]))
                continue
            if not sys.stderr.isatty():
                common.say(f"{n} of {len(wanted)}: {safe(subject.name)} ...")
            rows.append(_row(pool, subject, ask, bar.tell, stop))
            pool.free(subject.key)
    if not rows and not missing:
        raise Failed("there is no model here that could be asked; cachetui ls shows what there is")
    prompt_show.rows(rows, missing, stopped=stop.is_set(), binary=session.binary, as_json=way.as_json)
    if stop.is_set():
        return transfer.INTERRUPTED
    return 1 if any(not r.works for r in rows) else 0


def _row(pool: Pool, subject: Runnable, ask: Ask, tell: prompt_show.Tell, stop: threading.Event) -> Row:
    images = (ask.images or (NOISE,)) if subject.images else ()
    text = text_of(ask, images=bool(images), sees=subject.images)
    ended = pool.ask(subject, ask.request(text, images), None, tell, stop)
    return prompt_show.row_of(subject, ended, seen(pool, subject))
