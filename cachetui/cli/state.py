"""cachetui state: what a model has read of a picture and a system prompt, kept for later questions."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeVar

import click

from cachetui import units
from cachetui.cli import choose, common
from cachetui.cli.common import Failed, Session
from cachetui.cli.help import CONTEXT, VerbGroup
from cachetui.model import OK, Item
from cachetui.state_items import COMMIT, KIND, MODEL, PICTURES, STORE, TOKENS, again
from cachetui.text import safe

F = TypeVar("F", bound=Callable[..., Any])
_SHORT = 7


class States(VerbGroup):
    """Its commands; `save`, the long one, has a module of its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of their use."""
        return ["save", "ls", "show", "verify", "rm"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """`list` is `ls`."""
        if cmd_name == "save":
            command = import_module("cachetui.cli.state_save").save
            assert isinstance(command, click.Command)
            return command
        return super().get_command(ctx, {"list": "ls"}.get(cmd_name, cmd_name))


@click.group(cls=States, context_settings=dict(CONTEXT))
def state() -> None:
    """Saved states: a picture and a system prompt, read once, asked often.

    A state is one file: the KV cache and what else the model needs to go on from there, as safetensors. `prompt
    --state FILE` asks without reading the picture again. States lie in a folder of this program's own
    (CACHETUI_STATES, or state_dir in config.toml, names another) and wherever --output put them.

    \b
    Examples:
      cachetui state save Qwen/Qwen3-VL-2B-Instruct --image photo.jpg
      cachetui state save --image a.jpg --image b.jpg --output caches/
      cachetui state ls
      cachetui prompt "What is in it?" --state photo_cache.pt
    """


@state.command("ls")
@choose.targets_argument
@choose.filter_option
@common.where_options
@common.binary_option
@click.option("-q", "--quiet", is_flag=True, help="Only the TARGETs, one a line.")
@common.json_option
def list_states(
    targets: tuple[str, ...],
    filters: tuple[str, ...],
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    binary: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """List saved states, the newest first. With TARGETs: only those, or those of these models.

    \b
    Examples:
      cachetui state ls
      cachetui state ls hf:Qwen/Qwen3-VL-2B-Instruct
      cachetui state ls --filter problem=stale-state --quiet
    """
    session = common.begin(common.to_where(cache_dir, search), binary=binary)
    items = _of(session, targets) if targets else [i for i in session.scan.items if i.store == STORE]
    items = common.filtered(session, filters, items)
    items.sort(key=lambda i: -(i.last_modified or 0.0))
    if as_json:
        _emit(session, items)
    elif quiet:
        from cachetui.cli.table import out

        for item in items:
            out(safe(item.id))
    else:
        _print(session, items)


def _of(session: Session, targets: Sequence[str]) -> list[Item]:
    """The states that TARGETs name, and those of the models that they name. Raises Failed."""
    found: dict[tuple[str, str], Item] = {}
    for target in targets:
        named = common.find(session, as_state(target, session), None).item
        for item in session.scan.items:
            if item.store == STORE and (item.key == named.key or dict(item.extra).get(MODEL) == named.id):
                found[item.key] = item
    return list(found.values())


def as_state(target: str, session: Session) -> str:
    """A TARGET as it is understood everywhere: the name of a state alone is one too."""
    name = f"{STORE}:{target}"
    return name if any(i.id == name for i in session.scan.items) else target


def _emit(session: Session, items: Sequence[Item]) -> None:
    from cachetui.cli import data

    data.emit({"states": [_data(session, item) for item in items], "size": sum(i.size for i in items)})


def _data(session: Session, item: Item) -> dict[str, Any]:
    from cachetui.cli import data

    rows = dict(item.extra)
    tokens = rows.get(TOKENS, "").replace(",", "")
    return {
        **data.item_data(item, session.scan.ledger),
        "model": data.plain(rows[MODEL]) if MODEL in rows else None,
        "commit": data.plain(rows[COMMIT]) if COMMIT in rows else None,
        "tokens": int(tokens) if tokens else None,
        "images": data.plain(rows.get(PICTURES, "")),
        "made": units.iso(item.last_modified),
    }


def _print(session: Session, items: Sequence[Item]) -> None:
    from cachetui.cli.table import Column, out, table

    if not items:
        folders = "".join(f"\n  {safe(r.path)}" for r in session.roots if r.store == STORE) or " no folder that exists"
        common.say(f"No saved states. Looked in:{folders}\nTry: cachetui state save --image FILE")
        return
    heads = [Column("STATE", flex=True), Column("MODEL", flex=True, spare=True), Column("TOKENS", right=True)]
    heads += [Column("SIZE", right=True), Column("PICTURES", flex=True), Column("AGE"), Column("NOTE")]
    lines: list[list[str]] = []
    for item in items:
        rows = dict(item.extra)
        commit = f"@{rows[COMMIT][:_SHORT]}" if COMMIT in rows else ""
        words = [s for s in item.states if s != OK] or [p.code for p in item.problems]
        lines.append([
            item.id, rows.get(MODEL, "") + commit, rows.get(TOKENS, ""), units.size(item.size, binary=session.binary),
            rows.get(PICTURES, ""), units.age(item.last_modified), ", ".join(dict.fromkeys(words)),
        ])  # fmt: skip
    table(heads, lines)
    total = units.size(sum(i.size for i in items), binary=session.binary)
    out(f"\n{len(items)} {'state' if len(items) == 1 else 'states'}, {total}")


@state.command("show")
@click.argument("target")
@common.root_option
@common.where_options
@common.binary_option
@common.json_option
@click.pass_context
def show_state(
    ctx: click.Context,
    target: str,
    root: str | None,
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    binary: bool,
    as_json: bool,
) -> Any:
    """Show one state: a TARGET, or any FILE. Says also why a file is none.

    \b
    Examples:
      cachetui state show photo_cache.pt
      cachetui state show state:photo_cache.pt --json
    """
    from cachetui.cli.show import show

    session = common.begin(common.to_where(cache_dir, search), binary=binary)
    name = as_state(target, session)
    if name.startswith(f"{STORE}:") or _is_known(session, target):
        more = {"cache_dir": cache_dir, "search": search, "binary": binary, "as_json": as_json}
        return ctx.invoke(show, target=name, root=root, all_files=False, **more)
    _show_file(session, target, as_json=as_json)
    return 0


def _is_known(session: Session, path: str) -> bool:
    real = os.path.realpath(session.where.resolve(path))
    return any(i.kind == KIND and real == os.path.realpath(f"{i.root}/{i.path}") for i in session.scan.items)


def _show_file(session: Session, path: str, *, as_json: bool) -> None:
    """A file that lies in no folder that is looked at. Raises Failed."""
    from cachetui.cli import data
    from cachetui.cli.table import fields
    from cachetui.states import StateError, read

    full = session.where.resolve(path)
    try:
        info = read(full)
    except StateError as e:
        raise Failed(safe(f"{path}: {e.reason}") + (f"\n{safe(e.advice)}" if e.advice else "")) from None
    if as_json:
        data.emit({"target": data.plain(full), **_ascii(info.to_json())})
        return
    who = info.identity
    pictures = ", ".join(f"{i.name} {i.width}x{i.height}" for i in who.images)
    rows = [("kind", "saved state, in a folder that is not looked at"), ("path", full)]
    rows += [("size", units.size(info.bytes, binary=session.binary)), (MODEL, who.repo or info.model)]
    rows += [(COMMIT, who.commit), (TOKENS, f"{info.tokens:,}"), (PICTURES, pictures), ("system", who.system)]
    fields([(label, value) for label, value in rows if value])


def _ascii(value: Any) -> Any:
    """Names as JSON carries them."""
    from cachetui.cli.data import plain

    if isinstance(value, dict):
        return {k: _ascii(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_ascii(v) for v in value]
    return plain(value) if isinstance(value, str) else value


@state.command("verify")
@choose.targets_argument
@choose.filter_option
@common.root_option
@click.option("--full", is_flag=True, help="Read everything from the drive, also what did not change since last time.")
@common.where_options
@common.binary_option
@common.json_option
@click.pass_context
def verify_states(
    ctx: click.Context, /, targets: tuple[str, ...], cache_dir: tuple[str, ...], search: tuple[str, ...], **more: Any
) -> Any:
    """Compare saved states with the hashes they carry. Without TARGET: all. A TARGET may be any FILE.

    \b
    Examples:
      cachetui state verify
      cachetui state verify photo_cache.pt
    """
    from cachetui.cli.verify import verify

    names, strange = targets, []
    if targets:
        session = common.begin(common.to_where(cache_dir, search), binary=more["binary"])
        names = tuple(as_state(t, session) for t in targets)
        strange = [t for t in names if _is_strange(session, t)]
    if strange:
        return _verify_files(strange, as_json=more["as_json"])
    return ctx.invoke(verify, targets=names, store=STORE, cache_dir=cache_dir, search=search, **more)


def _is_strange(session: Session, target: str) -> bool:
    """Whether it is a file in no folder that is looked at."""
    known = target.startswith(f"{STORE}:") or _is_known(session, target)
    return not known and os.path.isfile(session.where.resolve(target))


def _verify_files(files: Sequence[str], *, as_json: bool) -> int:
    from cachetui.cli import data
    from cachetui.cli.table import out

    found = [(path, *_verdict(os.path.abspath(os.path.expanduser(path)))) for path in files]
    if as_json:
        rows = [{**data.path_fields(p), "outcome": outcome, "reason": data.plain(why), "advice": data.plain(advice)}
                for p, outcome, why, advice in found]  # fmt: skip
        data.emit({"states": rows})
    else:
        for path, outcome, why, advice in found:
            out(safe(f"{path}: {why or outcome}"))
            if advice:
                out(safe(f"  {advice}"))
    return 1 if any(why for _, _, why, _ in found) else 0


def _verdict(path: str) -> tuple[str, str, str]:
    """What a file is found to be, why, and what to do."""
    from cachetui.states import StateError, check, read
    from cachetui.states.errors import DAMAGED, PICKLE
    from cachetui.states.reading import foreign_zip

    try:
        info = read(path)
    except StateError as e:
        more = foreign_zip(path) if e.code == PICKLE else None
        reason = f"{e.reason}; {more}" if more else e.reason
        return "damaged" if e.code == DAMAGED else "no state", reason, e.advice
    if why := check(path):
        return "damaged", why, f"save it again: {again(info, path)}"
    return "intact", "", ""


@state.command("rm")
@choose.targets_argument
@choose.filter_option
@common.root_option
@click.option("--permanent", is_flag=True, help="Not into the trash: gone for good, the space is free at once.")
@common.where_options
@common.changing_options
@common.binary_option
@common.json_option
@click.pass_context
def remove_states(
    ctx: click.Context,
    /,
    targets: tuple[str, ...],
    filters: tuple[str, ...],
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    **more: Any,
) -> Any:
    """Delete saved states, undoably: a plan first, then the trash; `undo` brings them back.

    \b
    Examples:
      cachetui state rm photo_cache.pt
      cachetui state rm --filter problem=stale-state --dry-run
    """
    from cachetui.cli.rm import rm

    if not targets and not filters:
        raise click.UsageError("name what to delete: a TARGET (see: cachetui state ls) or --filter EXPR")
    session = common.begin(common.to_where(cache_dir, search), dry_run=more["dry_run"])
    names = [as_state(t, session) for t in targets]
    for name in names:
        if (item := common.find(session, name, common.real_root(session, more["root"])).item).store != STORE:
            raise Failed(f"{safe(item.id)} is no saved state: cachetui rm {safe(item.id)}")
    filters = filters if names else (*filters, f"store={STORE}")
    return ctx.invoke(rm, targets=tuple(names), filters=filters, cache_dir=cache_dir, search=search, **more)
