"""What verbs that act on items share: naming the items, and agreeing to what a plan asks about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

from cachetui.cli import common
from cachetui.cli.common import Session
from cachetui.store import Selection
from cachetui.text import safe

F = TypeVar("F", bound=Callable[..., Any])

targets_argument = click.argument("targets", nargs=-1, metavar="[TARGET]...")
filter_option = click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="EXPR",
    help="All that passes, e.g. 'accessed>6mo'; with TARGETs: only those of them that pass (repeatable).",
)


def include_option(codes: Sequence[str], does: str) -> Callable[[F], F]:
    """--include CODE: agree to a caution beforehand. `does`: the verb in its help."""
    return click.option(
        "--include",
        multiple=True,
        type=click.Choice(codes),
        metavar="CODE",
        help=f"Without asking, {does} also what is {', '.join(codes)} (one of these; repeatable).",
    )


def selections(
    session: Session, targets: Sequence[str], filters: Sequence[str], root: str | None
) -> Sequence[Selection]:
    """What TARGETs and filters name; all that passes the filters where no TARGET is given. Raises Failed."""
    from cachetui.targets import merged

    if not targets:
        items = [i for i in session.scan.items if root is None or i.root == root]
        return [Selection(i) for i in common.filtered(session, filters, items)]
    found = merged([common.find(session, t, root) for t in targets])
    passing = {i.key for i in common.filtered(session, filters, [s.item for s in found])}
    return [s for s in found if s.item.key in passing]


def agree(
    question: str,
    asks: Mapping[str, str],
    include: Iterable[str],
    *,
    does: str,
    how: tuple[bool, bool],
    word: str = "",
) -> frozenset[str] | None:
    """The codes of `asks` (code -> why) that are accepted; None when the user said no. `how`: yes, as_json.

    With --yes only what --include names is accepted. `does`: the verb of each question; `word`: to be typed.
    """
    yes, as_json = how
    if not common.must_agree(question, yes=yes, as_json=as_json, word=word):
        return None
    accept = set(include)
    if not yes:
        for code in sorted(asks.keys() - accept):
            if common.must_agree(f"{safe(asks[code])}: {does} all the same? [{code}]", yes=False, as_json=as_json):
                accept.add(code)
    return frozenset(accept)
