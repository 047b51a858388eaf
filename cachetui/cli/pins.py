"""cachetui pin, cachetui unpin: protect from deletion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from cachetui.cli import common
from cachetui.cli.common import Failed
from cachetui.model import Item
from cachetui.text import safe


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    decorators = (
        click.argument("targets", nargs=-1, required=True, metavar="TARGET..."),
        common.root_option,
        common.where_options,
        common.changing_options,
        common.json_option,
    )
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


@common.verb()
@_options
def pin(targets: tuple[str, ...], **options: Any) -> int:
    """Protect items from deletion.

    Whatever a filter or a list of TARGETs says, they stay until `unpin`.

    \b
    Examples:
      cachetui pin hf:meta-llama/Llama-3.2-3B-Instruct
    """
    return _change(targets, pinned=True, **options)


@common.verb()
@_options
def unpin(targets: tuple[str, ...], **options: Any) -> int:
    """Take the protection of `pin` away.

    \b
    Examples:
      cachetui unpin hf:meta-llama/Llama-3.2-3B-Instruct
    """
    return _change(targets, pinned=False, **options)


def _change(
    targets: tuple[str, ...],
    *,
    pinned: bool,
    root: str | None,
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    from cachetui import marks

    session = common.begin(common.to_where(cache_dir, search), dry_run=dry_run)
    where = common.real_root(session, root)
    items: dict[tuple[str, str], Item] = {}
    for target in targets:
        found = common.find(session, target, where)
        if not found.is_whole:
            raise Failed(f"{safe(target)}: a pin protects a whole item; pin {safe(found.item.id)}")
        items[found.item.key] = found.item
    changing = {key: item for key, item in items.items() if (key in session.marks.pins) is not pinned}
    if not dry_run:
        try:
            (marks.pin if pinned else marks.unpin)(changing.values())
        except marks.MarksError as e:
            raise Failed(str(e)) from None
    if as_json:
        from cachetui.cli import data

        rows = [{"id": i.id, **data.path_fields(i.root, "root"), "pinned": pinned} for i in items.values()]
        data.emit({"verb": "pin" if pinned else "unpin", "dry_run": dry_run, "items": rows, "changed": len(changing)})
        return 0
    for item in items.values():
        was = "" if item.key in changing else " already"
        what = "pinned" if pinned else "not pinned"
        click.echo(f"{safe(item.id)}: {'would be' if dry_run and not was else 'is'}{was} {what}")
    return 0
