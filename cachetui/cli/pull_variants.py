"""What others made of a model (GGUF, GPTQ, AWQ, MLX), where the Hub lists it: `pull --variants`, and a hint before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from cachetui import units
from cachetui.cli import data
from cachetui.cli.common import Failed
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.config import Where
    from cachetui.download.planning import PullPlan
    from cachetui.download.search import Hit

_NAMED = 3
_PATIENCE = 5.0
"""Seconds without a byte: a sentence is not worth a longer wait."""


def show(where: Where, target: str, *, binary: bool, as_json: bool) -> int:
    """List them, most downloaded first. Raises Failed, UsageError."""
    from cachetui.download.client import Client
    from cachetui.download.errors import USAGE, PullError
    from cachetui.download.search import on_this_machine, variants
    from cachetui.download.spelling import parse_hub
    from cachetui.scan import scan

    try:
        repo = parse_hub(target).repo
        hits = variants(Client(tries=2), repo, here=on_this_machine(scan(where, stores=("hf",))))
    except PullError as e:
        if e.code == USAGE:
            raise click.UsageError(safe(f"{e}: {e.advice}")) from None
        raise Failed(safe(f"{target}: {e}") + (f"\n{safe(e.advice)}" if e.advice else "")) from None
    if as_json:
        data.emit({"verb": "pull", "target": f"hf:{repo}", "variants": [as_data(h) for h in hits]})
        return 0
    if not hits:
        click.echo(safe(f"The Hub lists no GGUF, GPTQ, AWQ or MLX version of {repo}."))
        return 0
    width = max(len(h.repo) for h in hits)
    for h in hits:
        here = "  on this machine" if h.here else "  gated" if h.gated else ""
        size = units.size(h.size, binary=binary) if h.size else "size not known"
        click.echo(f"{safe(h.target):<{width + 3}}  {_kinds(h):<8}  {size:>14}  {h.downloads:>10,} downloads{here}")
    return 0


def found(plan: PullPlan) -> tuple[Hit, ...]:
    """Of the model that a plan gets; none where it is one itself, or where the Hub does not say."""
    from cachetui.download.client import Client
    from cachetui.download.errors import PullError
    from cachetui.download.search import variants

    if plan.name.kind != "model" or plan.quants:
        return ()
    try:
        return variants(Client(_PATIENCE, tries=1), plan.name.repo)
    except PullError:
        return ()  # a mirror need not know them


def lines(plan: PullPlan, hits: Sequence[Hit], *, binary: bool) -> list[str]:
    """One sentence for the plan."""
    if not hits:
        return []
    named = [f"{h.repo} ({_kinds(h)}{f', {units.size(h.size, binary=binary)}' if h.size else ''})" for h in hits]
    more = f" and {len(hits) - _NAMED} more" if len(hits) > _NAMED else ""
    listed = f"; all: cachetui pull {plan.name.target} --variants" if more else ""
    return [safe(f"There are also {', '.join(named[:_NAMED])}{more}{listed}.")]


def as_data(hit: Hit) -> dict[str, Any]:
    """As a JSON object."""
    return {**asdict(hit), "target": hit.target}


def _kinds(hit: Hit) -> str:
    return " ".join(hit.variants).upper()
