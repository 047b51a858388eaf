"""The only way a string from disk or a model reaches the screen (I11).

`cachetui.text.safe` makes it harmless to a terminal; everything here then builds values that parse no markup:
`Content` for widgets, titles and tooltips, and toasts with markup off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from cachetui.text import safe, safe_block

if TYPE_CHECKING:
    from textual.app import App

Severity = Literal["information", "warning", "error"]
Part = tuple[str, str]
"""(outside or own text, our own style)."""


def words(text: str, style: str = "") -> Content:
    """One line of outside text in one style."""
    return Content.styled(safe(text), style) if style else Content(safe(text))


def block(text: str, style: str = "") -> Content:
    """Outside text of several lines."""
    return Content.styled(safe_block(text), style) if style else Content(safe_block(text))


def line(*parts: str | Part | Content) -> Content:
    """Pieces of outside or own text beside each other; no piece is read as markup."""
    out: list[Content] = []
    for part in parts:
        if isinstance(part, Content):
            out.append(part)
        elif isinstance(part, str):
            out.append(words(part))
        else:
            out.append(words(*part))
    return Content("").join(out)


def clip(text: str, width: int) -> str:
    """Safe text cut to `width` cells, with `…` in the middle: the end of a name tells as much as its beginning."""
    text = safe(text)
    cells = cell_len(text)
    if cells <= width:
        return text
    if width <= 1:
        return "…"[:width]
    if cells == len(text):
        tail = (width - 1) // 3
        return text[: width - 1 - tail] + "…" + (text[-tail:] if tail else "")
    return set_cell_size(text, width - 1).rstrip() + "…"


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Safe text cut or padded to exactly `width` cells."""
    text = clip(text, width)
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def hang(label: Content, value: Content, indent: int, width: int) -> list[Content]:
    """A label and beside it a value, wrapped so that all its lines start at `indent`."""
    lines = value.wrap(max(width - indent, 12))
    room = " " * max(indent - label.cell_length, 1)
    return [
        Content.assemble(label, room, one) if n == 0 else Content.assemble(" " * indent, one)
        for n, one in enumerate(lines)
    ]


def toast(app: App[Any], message: str, *, title: str = "", severity: Severity = "information") -> None:
    """Tell something in passing; an error stays longer. The message may hold outside strings."""
    timeout = {"information": 5.0, "warning": 8.0, "error": 12.0}[severity]
    app.notify(safe_block(message), title=safe(title), severity=severity, timeout=timeout, markup=False)
