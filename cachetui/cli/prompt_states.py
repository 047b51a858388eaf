"""One question to saved states: files, or folders of them; one loaded model for all that belong to it."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from cachetui.cli import prompt_show, transfer
from cachetui.cli.common import Failed, Session
from cachetui.cli.prompt import Ask, Way, piped_text, text_of
from cachetui.cli.prompt_find import runnable, selection
from cachetui.cli.prompt_run import pool_of, put, seen
from cachetui.cli.prompt_show import Row
from cachetui.jobs.model import JobState
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.jobs.warm import Pool
    from cachetui.runnable import Runnable
    from cachetui.states import StateInfo


def run(session: Session, ask: Ask, way: Way, target: str, given: Sequence[str]) -> int:
    """Ask from one state, the answer streaming; or from many, a row each. The exit code."""
    given = [_place(session, name) for name in given]
    paths = [path for place in given for path in _paths(place)]
    if not ask.text:
        text = piped_text()
        if not text:
            raise click.UsageError("nothing is asked: give a text")
        ask = replace(ask, text=text)
    infos = [_read(path) for path in paths]
    if len(infos) == 1 and not any(os.path.isdir(place) for place in given):
        info = infos[0]
        if isinstance(info, Row):
            raise Failed(safe(f"{info.state}: {info.reason}") + (f"\n{safe(info.advice)}" if info.advice else ""))
        chosen = _model(session, way, target, info)
        with pool_of(session) as pool:
            ended = put(pool, chosen, ask, way, info.path)
            if way.as_json:
                prompt_show.emit_one(chosen, ended, seen(pool, chosen))
        return {JobState.DONE: 0, JobState.CANCELLED: transfer.INTERRUPTED}.get(ended.state, 1)
    return _many(session, ask, way, target, infos)


def _place(session: Session, name: str) -> str:
    """The path that is meant: a file or folder, else a state by its TARGET or name."""
    path = session.where.resolve(name)
    if os.path.lexists(path):
        return path
    wanted = (name, f"state:{name}")
    there = [f"{i.root}/{i.path}" for i in session.scan.items if i.store == "state" and i.id in wanted]
    return there[0] if len(there) == 1 else path


def _paths(path: str) -> list[str]:
    """A file, or the states of a folder. Raises Failed."""
    from cachetui.state_items import is_state

    if not os.path.isdir(path):
        return [path]
    try:
        found = [p for n in sorted(os.listdir(path)) if is_state(p := os.path.join(path, n))]
    except OSError as e:
        raise Failed(safe(f"--state {path}: {e.strerror}")) from None
    if not found:
        raise Failed(safe(f"--state {path}: there is no saved state in it"))
    return found


def _read(path: str) -> StateInfo | Row:
    from cachetui import states

    try:
        return states.read(path)
    except states.StateError as e:
        return Row("", os.path.basename(path), reason=e.reason, advice=e.advice, state=path)


def _model(session: Session, way: Way, target: str, info: StateInfo) -> Runnable:
    """The model of a state, loaded as it was for it, unless the options say otherwise. Raises Failed."""
    from cachetui.state_items import model_target

    who = info.identity
    named = target or model_target(info)
    found = selection(session, named, way)
    if who.commit and not found.revision and any(r.commit == who.commit for r in found.item.revisions):
        found = replace(found, revision=who.commit)
    options = way.options
    if not options.bits and not found.item.traits.quantization.startswith("bitsandbytes"):
        kind = who.quantization.partition(" ")[0]
        bits = {"nf4": 4, "nf4-double": 4, "int8": 8}.get(kind, 0)
        options = replace(options, bits=bits, double_quant=kind == "nf4-double")
    if options.dtype == "auto" and who.dtype in ("float32", "bfloat16", "float16"):
        options = replace(options, dtype=who.dtype)
    if not options.attention and who.attention in ("eager", "sdpa"):
        options = replace(options, attention=who.attention)
    return runnable(session, found, replace(way, options=options))


def _many(session: Session, ask: Ask, way: Way, target: str, infos: Sequence[StateInfo | Row]) -> int:
    """A row each, in the order given; a model stays loaded as long as its states come."""
    from cachetui.cli.progress import Bar

    found: list[Row] = []
    with transfer.stoppable() as stop, pool_of(session) as pool, Bar(session.binary) as bar:
        for info in infos:
            if stop.is_set():
                break
            found.append(info if isinstance(info, Row) else _row(session, pool, ask, way, target, info, bar.tell, stop))
    prompt_show.rows(found, (), stopped=stop.is_set(), binary=session.binary, as_json=way.as_json)
    if stop.is_set():
        return transfer.INTERRUPTED
    return 1 if any(not r.works for r in found) else 0


def _row(
    session: Session, pool: Pool, ask: Ask, way: Way, target: str, info: StateInfo, tell: prompt_show.Tell,
    stop: threading.Event,
) -> Row:  # fmt: skip
    try:
        chosen = _model(session, way, target, info)
    except Failed as e:
        return Row("", info.model, reason=e.format_message(), state=info.path, state_tokens=info.tokens)
    text = text_of(ask, images=True, sees=True)
    ended = pool.ask(chosen, ask.request(text, ask.images, info.path), None, tell, stop)
    return prompt_show.row_of(chosen, ended, seen(pool, chosen), info.path, info.tokens)
