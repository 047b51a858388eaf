"""cachetui quantize: quantized models that are kept: what there is, whether it is whole, what may go."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from cachetui import units
from cachetui.cli import choose, common
from cachetui.cli.common import Session
from cachetui.cli.help import CONTEXT, VerbGroup
from cachetui.config import Where
from cachetui.model import OK, Item
from cachetui.plans import model as plans
from cachetui.quant_items import COMMIT, KEY, SOURCE, STORE
from cachetui.quantized_entries.listing import ENTRY, OLDER
from cachetui.quantized_entries.places import Place, folders, place
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.quantized_entries.managing import Spoilt

INCLUDE = (plans.IN_USE, plans.LOCKED, plans.YOUNG, plans.UNCHECKED, plans.NO_UNDO, plans.LINKED_FROM)
MAX_AGE = 7
"""Days."""
_SHORT = 7

quant_dir_option = click.option(
    "--quant-dir",
    metavar="DIR",
    default="",
    help="The folder of quantized models; else quant_dir, QWEN_CACHE, default.",
)


class Commands(VerbGroup):
    """In the order of their use; what is none of them is a model to quantize."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As people need them."""
        return ["make", "info", "verify", "clean"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Making has a module of its own."""
        if cmd_name == "make":
            from cachetui.cli.quantize_make import make

            return make
        return super().get_command(ctx, cmd_name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`quantize TARGET` is `quantize make TARGET`."""
        if args and args[0] not in (*self.list_commands(ctx), *ctx.help_option_names):
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Commands, context_settings=dict(CONTEXT))
def quantize() -> None:
    """Quantize a model once, keep the result, load it in a second: cachetui quantize TARGET.

    An entry is a complete folder, named by a hash of what it depends on: model, commit, dtype, every setting of the
    quantization, rank, model class, library generations. They are items like any other: ls, show, prompt, archive, rm
    and verify know them as quant:...

    bitsandbytes makes what transformers loads; --format mlx makes what mlx_lm runs, --format gguf what llama.cpp and
    Ollama run: the same entries, with the same checks.

    \b
    Examples:
      cachetui quantize hf:Qwen/Qwen3-VL-2B-Instruct --bits 4 --dry-run
      cachetui quantize hf:Qwen/Qwen3-4B --format gguf --type Q4_K_M
      cachetui quantize make --help
      cachetui quantize info
      cachetui quantize verify --full
      cachetui quantize clean --older-than 30 --dry-run
      cachetui quantize clean --corrupted
      cachetui quantize --self-test
    """


def where_of(quant_dir: str) -> Where:
    """Where to look, with --quant-dir as the folder that is used."""
    where = common.to_where()
    if not quant_dir:
        return where
    return replace(where, config=replace(where.config, quant_dir=where.resolve(quant_dir)))


def _items(session: Session, used: Place) -> list[Item]:
    real = os.path.realpath(used.path)
    return [i for i in session.scan.items if i.store == STORE and i.root == real]


@quantize.command("info")
@quant_dir_option
@common.binary_option
@common.json_option
def info(quant_dir: str, binary: bool, as_json: bool) -> None:
    """Show the folder, what kind of drive it is on and what that means, the entries, and what is free.

    \b
    Examples:
      cachetui quantize info
      cachetui quantize info --quant-dir /mnt/fast/quantized --json
    """
    from cachetui.quantized_entries.storage import storage

    where = where_of(quant_dir)
    session = common.begin(where, binary=binary)
    used = place(where)
    items = sorted(_items(session, used), key=lambda i: -(i.last_modified or 0.0))
    others = [p for p in folders(where)[1:] if os.path.isdir(p.path)]
    found = storage(used.path)
    free = _free(used.path)
    largest = max((i.size for i in items), default=0)
    if as_json:
        _emit(session, used, items, others, free)
        return
    from cachetui.cli.table import fields, out

    there = "" if os.path.isdir(used.path) else "  (not there yet)"
    rows = [("folder", f"{used.path}{there}"), ("because of", used.origin), ("storage", found.words)]
    rows += [("loading", words)] if (words := found.load_words(largest)) else []
    rows += [("free", units.size(free, binary=session.binary) if free >= 0 else "unknown")]
    rows += [("not used now", f"{p.path} ({p.origin})") for p in others]
    fields(rows)
    out()
    _table(session, items)


def _table(session: Session, items: Sequence[Item]) -> None:
    from cachetui.cli.table import Column, out, table

    if not items:
        out("No quantized models yet.")
        return
    heads = [Column("ENTRY"), Column("MODEL", flex=True), Column("SIZE", right=True), Column("MADE"), Column("USED")]
    heads += [Column("NOTE", flex=True)]
    lines = []
    for item in items:
        rows = dict(item.extra)
        commit = f" @{rows[COMMIT][:_SHORT]}" if COMMIT in rows else ""
        notes = [s for s in item.states if s != OK] + [p.code for p in item.problems]
        if item.kind == "older":
            notes.append("made by an older script")
        lines.append([
            item.id, f"{item.name}{commit}" if item.name != item.path else "",
            units.size(item.size, binary=session.binary), units.age(item.last_modified), units.age(item.last_used),
            ", ".join(dict.fromkeys(notes)),
        ])  # fmt: skip
    table(heads, lines)
    total = units.size(sum(i.size for i in items), binary=session.binary)
    out(f"\n{len(items)} {'entry' if len(items) == 1 else 'entries'}, {total}")


def _emit(session: Session, used: Place, items: Sequence[Item], others: Sequence[Place], free: int) -> None:
    from cachetui.cli import data
    from cachetui.quantized_entries.storage import storage

    found = storage(used.path)
    data.emit(
        {
            "folder": data.plain(used.path),
            "origin": used.origin,
            "exists": os.path.isdir(used.path),
            "storage": {"kind": found.kind, "filesystem": data.plain(found.file_system), "means": found.words},
            "free": free if free >= 0 else None,
            "size": sum(i.size for i in items),
            "entries": [_row(session, i) for i in items],
            "other_folders": [{**data.path_fields(p.path), "origin": p.origin} for p in others],
        }
    )


def _row(session: Session, item: Item) -> dict[str, Any]:
    from cachetui.cli import data

    rows = dict(item.extra)
    return {
        **data.item_data(item, session.scan.ledger),
        "kind": item.kind,
        "model": data.plain(rows.get(SOURCE, "")) or None,
        "commit": rows.get(COMMIT),
        "key": rows.get(KEY),
        "made": units.iso(item.last_modified),
    }


def _free(folder: str) -> int:
    from cachetui.quantized_entries.places import room

    return room(folder, 0).free


@quantize.command("verify")
@choose.targets_argument
@click.option("--full", is_flag=True, help="Read every byte; else sizes, and the bytes of what has another time.")
@quant_dir_option
@common.binary_option
@common.json_option
def verify_entries(targets: tuple[str, ...], full: bool, quant_dir: str, binary: bool, as_json: bool) -> int:
    """Compare entries with their manifests. Without TARGET: all of the folder. Exits with 1 when one is damaged.

    \b
    Examples:
      cachetui quantize verify
      cachetui quantize verify quant:3c916944e2cf --full
    """
    where = where_of(quant_dir)
    session = common.begin(where, binary=binary)
    items = _items(session, place(where))
    if targets:
        named = {common.find(session, t, None).item.key for t in targets}
        items = [i for i in items if i.key in named]
    bad = {s.item.key: s.reason for s in _spoilt(session, items, full=full)}
    if as_json:
        from cachetui.cli import data

        rows = [{"target": i.id, "name": data.plain(i.name), "ok": i.key not in bad,
                 "reason": data.plain(bad.get(i.key, ""))} for i in items]  # fmt: skip
        data.emit({"verb": "quantize verify", "full": full, "entries": rows})
    else:
        for item in items:
            click.echo(safe(f"{item.id}  {item.name}: {bad.get(item.key) or _good(item, full=full)}"))
        if not items:
            click.echo("No quantized models there.")
    if bad and not as_json:
        common.say("cachetui quantize clean --corrupted moves what is damaged to the trash.")
    return 1 if bad else 0


def _good(item: Item, *, full: bool) -> str:
    if item.kind == ENTRY:
        return "as it was written" if full else "sizes and times are right"
    return "nothing is known of it" if item.kind == OLDER else "it is being made"


def _spoilt(session: Session, items: Sequence[Item], *, full: bool) -> list[Spoilt]:
    from cachetui.cli.progress import Bar
    from cachetui.jobs.meter import Meter
    from cachetui.quantized_entries.managing import spoilt

    meter = Meter()
    with Bar(session.binary) as bar:

        def told(done: int, total: int, name: str) -> None:
            message = {"phase": "verify", "done": done, "total": total, "name": name}
            if (progress := meter.update(message, time.monotonic())) is not None:
                bar.tell(progress)

        return spoilt(items, full=full, progress=told)


@quantize.command("clean")
@click.option(
    "--older-than", metavar="DAYS", help=f"Neither made nor used for so long, e.g. 30 or 6mo; alone: {MAX_AGE} days."
)
@click.option("--corrupted", is_flag=True, help="What is damaged or was never finished; reads every byte.")
@click.option("--stale", is_flag=True, help="What was made from a commit that its model has left behind.")
@choose.include_option(INCLUDE, "take")
@quant_dir_option
@common.changing_options
@common.binary_option
@common.json_option
def clean(
    older_than: str | None,
    corrupted: bool,
    stale: bool,
    include: tuple[str, ...],
    quant_dir: str,
    dry_run: bool,
    yes: bool,
    binary: bool,
    as_json: bool,
) -> int:
    """Move old, damaged or stale entries to the trash; `cachetui undo` brings them back. Shows first what goes.

    What is pinned stays. With several of the options an entry goes that any of them means.

    \b
    Examples:
      cachetui quantize clean --older-than 30
      cachetui quantize clean --corrupted --stale --dry-run
    """
    from cachetui.quantized_entries import managing

    where = where_of(quant_dir)
    days = _days(older_than) if older_than or not (corrupted or stale) else None
    session = common.begin(where, dry_run=dry_run, binary=binary)
    items = _items(session, place(where))
    chosen = {i.key: i for i in managing.old(items, days, time.time())} if days is not None else {}
    if stale:
        chosen |= {i.key: i for i in managing.stale(items)}
    if corrupted:
        for s in _spoilt(session, [i for i in items if i.key not in chosen], full=True):
            common.say(safe(f"{s.item.id}  {s.item.name}: {s.reason}"))
            chosen[s.item.key] = s.item
    return _go(session, list(chosen.values()), include, (dry_run, yes, as_json))


def _days(text: str | None) -> float:
    """Raises UsageError."""
    if text is None:
        return MAX_AGE
    try:
        days = float(text)
    except ValueError:
        try:
            days = units.parse_age(text) / 86400
        except ValueError as e:
            raise click.UsageError(f"--older-than: {e}") from None
    if not 0 <= days < 1e6:
        raise click.UsageError(f"--older-than {text}: give a number of days")
    return days


def _go(session: Session, items: Sequence[Item], include: tuple[str, ...], how: tuple[bool, bool, bool]) -> int:
    from cachetui.cli import data
    from cachetui.cli.plan import outcome_data, outcome_lines, plan_data, plan_lines
    from cachetui.plans.executor import execute
    from cachetui.quantized_entries.managing import removal

    dry_run, yes, as_json = how
    plan = removal(session.scan, items)
    outcome = None
    if not as_json:
        for line in plan_lines(plan, session.binary) if items else ("Nothing is to be cleaned.",):
            click.echo(line)
    if not dry_run and plan.accepted:
        asks = {c.code: c.message for i in reversed(plan.accepted) for c in reversed(i.cautions)}
        count = len(plan.accepted)
        accept = choose.agree(f"Move {count} to the trash?", asks, include, does="take", how=(yes, as_json))
        if accept is None:
            common.say("Nothing was changed.")
            return 1
        outcome = execute(plan, accept=accept)
    if as_json:
        done = outcome_data(outcome) if outcome is not None else None
        data.emit({"verb": "quantize clean", "dry_run": dry_run, "plan": plan_data(plan), "outcome": done})
    elif outcome is not None:
        for line in outcome_lines(outcome, session.binary):
            click.echo(line)
    if dry_run or not items:
        return 0
    return 0 if outcome is not None and all(r.done for r in outcome.results) else 1
