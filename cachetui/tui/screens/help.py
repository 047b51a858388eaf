"""All keys, and what the words and signs mean. The keys come from the commands."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from cachetui.tui.commands import sections
from cachetui.tui.text import hang, words

_DIM = "$foreground-muted"
_INDENT = 16
_WORDS = (
    ("size", "bytes of its files, each counted once"),
    ("own", "the part of it that nobody else holds"),
    ("frees", "what the disk gets back when it is gone: shared bytes come back with their last holder"),
    ("partial", "files of an unfinished download; what is whole is usable"),
    ("damaged", "something it names is missing or unreadable; the details say what"),
    ("orphan", "bytes that nothing names any more"),
    ("archived", "lies on another drive; programs load it through a link while the drive is there"),
    ("offline", "lies on a drive that is not there now: nothing is lost, plug it in"),
    ("foreign", "lies in an archive that nothing on this machine links to; A adopts it"),
    ("pinned", "protected by you from every deletion of many things at once"),
    ("read-only", "you may look, not delete"),
    ("not-yours", "another user owns it"),
    ("no ref", "a revision that no branch or tag names: perhaps superseded, perhaps chosen by its commit"),
)
_MOUSE = (
    ("click", "selects; on ▸ it opens, in the first column it marks, on a heading it sorts"),
    ("double", "opens or closes"),
)
_FILTERS = (
    ("llama gguf", "both words, in name, format, quantization or family"),
    ("size>10GB", "also own, shared, frees, allocated, files"),
    ("accessed>6mo", "last used more than six months ago; also modified"),
    ("type=dataset", "also state, store, quant, format, family, refs, loads, problem; ~ is contains, != is not"),
)


class HelpText(Static):
    """Wraps for its width, the second lines beside the keys."""

    def render(self) -> Content:
        """The whole text."""
        return Content("\n").join(_lines(self.app.size.width * 96 // 100 - 8 if self.app.size.width < 114 else 102))


class HelpScreen(ModalScreen[None]):
    """Scrolls; any of the usual keys leaves."""

    CSS_PATH = "help.tcss"
    BINDINGS = [
        ("escape,q,question_mark,enter", "dismiss", "Back"),
        ("j", "scroll('down')", "Down"),
        ("k", "scroll('up')", "Up"),
    ]

    def compose(self) -> ComposeResult:
        """One long text."""
        with VerticalScroll(id="help") as box:
            box.border_title = words("Help")
            box.border_subtitle = words("Esc goes back")
            yield HelpText(markup=False)

    def action_scroll(self, direction: str) -> None:
        """As in vi."""
        box = self.query_one("#help", VerticalScroll)
        if direction == "down":
            box.scroll_down(animate=False)
        else:
            box.scroll_up(animate=False)


def _lines(width: int) -> list[Content]:
    out: list[Content] = []
    for section, commands in sections():
        out.append(words(section, "bold $text-primary"))
        for c in commands:
            out += hang(words(f"  {c.key_names()}", "bold $accent"), words(c.help), _INDENT, width)
        out.append(Content(""))
    for title, table in (("Words", _WORDS), ("Filters", _FILTERS), ("Mouse", _MOUSE)):
        out.append(words(title, "bold $text-primary"))
        for word, text in table:
            out += hang(words(f"  {word}", "bold"), words(text, _DIM), _INDENT, width)
        out.append(Content(""))
    return out
