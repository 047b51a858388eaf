"""Real pixels through textual-image (extra `pictures`), in terminals known to have a protocol for them.

textual-image asks the terminal when it is imported. While Textual runs, the answer would arrive as key presses, so
it is imported unable to ask, and the terminal is told by its environment; `CACHETUI_PICTURES` (kitty, sixel or
blocks) overrules that. What it gets is a bitmap of our own making: no stranger's file is decoded in this process.
"""

from __future__ import annotations

import io
import os
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.widget import Widget

    from cachetui.tui.pictures import Shown

_SIXEL_PROGRAMS = frozenset(("WezTerm", "iTerm.app", "mintty", "contour", "rio", "BlackBox"))
_SIXEL_TERMS = ("foot", "mlterm", "yaft", "contour", "st-sixel")


def protocol(env: Mapping[str, str]) -> str:
    """kitty, sixel, or empty for a terminal that is not known to show pixels."""
    asked = env.get("CACHETUI_PICTURES", "").lower()
    if asked:
        return asked if asked in ("kitty", "sixel") else ""
    if env.get("TMUX") or env.get("STY") or env.get("NO_COLOR"):
        return ""
    term = env.get("TERM", "")
    if term in ("xterm-kitty", "xterm-ghostty") or env.get("KITTY_WINDOW_ID") or env.get("TERM_PROGRAM") == "ghostty":
        return "kitty"
    if term.startswith(_SIXEL_TERMS) or env.get("TERM_PROGRAM") in _SIXEL_PROGRAMS or env.get("KONSOLE_VERSION"):
        return "sixel"
    return ""


def cell_size() -> tuple[int, int]:
    """Pixels of one cell, as the terminal told the kernel; (0, 0) where it did not."""
    try:
        import fcntl
        import termios

        stream = sys.__stdout__
        if stream is None or not stream.isatty():
            return 0, 0
        packed = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
    except (ImportError, OSError, ValueError):
        return 0, 0
    rows, columns, width, height = struct.unpack("HHHH", packed)
    return (width // columns, height // rows) if rows and columns and width and height else (0, 0)


def prepare() -> str:
    """Import what this terminal needs and name its protocol; empty for half blocks. Takes a moment: for a thread."""
    way = protocol(os.environ)
    if not way or not all(cell_size()) or find_spec("textual_image") is None:
        return ""
    with _unable_to_ask():
        import textual_image.renderable
    import textual_image.widget  # noqa: F401

    return way


def widget() -> Widget | None:
    """A widget of textual-image for this terminal, or None: then half blocks are drawn."""
    way = prepare()
    if not way:
        return None
    from textual_image import widget as made

    found: Widget = made.TGPImage() if way == "kitty" else made.SixelImage()
    found.styles.width, found.styles.height = "auto", "auto"
    return found


@contextmanager
def _unable_to_ask() -> Iterator[None]:
    real = sys.__stdout__
    sys.__stdout__ = io.StringIO()  # type: ignore[misc,assignment]  # says that it is no terminal
    try:
        yield
    finally:
        sys.__stdout__ = real  # type: ignore[misc]


def give(widget: Any, shown: Shown) -> None:
    """Show a picture: as a portable pixmap, which takes no decoding to speak of."""
    widget.image = io.BytesIO(b"P6\n%d %d\n255\n" % (shown.width, shown.height) + shown.rgb)
