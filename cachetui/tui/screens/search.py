"""Finding a model on a Hub: words, task, size; what each result is; a typed name goes straight on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import Key
from textual.timer import Timer
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from cachetui import units
from cachetui.download.errors import PullError
from cachetui.tui import background, finding
from cachetui.tui.finding import About, Query
from cachetui.tui.messages import Finished
from cachetui.tui.screens.listing import ListScreen
from cachetui.tui.text import Part, clip, hang, line, words
from cachetui.tui.widgets.clean_input import CleanInput
from cachetui.tui.widgets.lines import KeyLine

if TYPE_CHECKING:
    from cachetui.download.search import Hit
    from cachetui.tui.app import CachetuiApp

T = TypeVar("T")

_DIM, _SECOND, _STRONG = "$foreground-muted", "$foreground 80%", "bold"
_GOOD, _WARN, _BAD = "$text-success", "$text-warning", "$text-error"
_TYPING, _RESTING = 0.35, 0.25
"""Seconds without a key before the Hub is asked: for a list, and for what one result is."""
_VARIANTS = 5
_WORD = 32
_KEYS = [
    ("choose", "Enter", "choose"),
    ("variants", "v", "its variants"),
    ("words", "/", "words"),
    ("leave", "Esc", "back"),
]


class SearchScreen(ListScreen[str | None]):
    """Answers with the TARGET that was chosen, or None."""

    CSS_PATH = "search.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "leave", "Back"),
        ("v", "variants", "Variants"),
        ("slash", "words", "Words"),
        ("j", "move('down')", "Down"),
        ("k", "move('up')", "Up"),
    ]

    def __init__(self, here: Collection[str], app: CachetuiApp) -> None:
        super().__init__()
        self._here = here
        self._cachetui = app
        self._hits: tuple[Hit, ...] = ()
        self._known: dict[str, About | PullError] = {}
        self._asked = 0
        """Counts the questions, so that a late answer is known as one."""
        self._waiting: dict[str, Timer] = {}
        """One for each kind of question: an answer to one must not put off another."""
        self._refused: PullError | None = None
        """Why nothing can be asked at all."""

    def compose(self) -> ComposeResult:
        """What to look for, the results, what the chosen one is."""
        with Vertical(id="search") as box:
            box.border_title = words("Download a model")
            yield CleanInput(placeholder="words, or a name: ORG/NAME, ollama:NAME", id="search-words")
            with Horizontal(id="search-more"):
                yield CleanInput(placeholder="task, e.g. text-generation", id="search-task")
                yield CleanInput(placeholder="size, e.g. <10GB or 2GB-8GB", id="search-size")
            yield Static(markup=False, id="search-state")
            yield OptionList(id="search-list", markup=False)
            with VerticalScroll(id="search-about", can_focus=False):
                yield Static(markup=False, id="search-text")
            yield KeyLine(_KEYS)

    def on_mount(self) -> None:
        """Whether a Hub may be asked is known before the first key."""
        self.query_one("#search-words").focus()
        self._say("asking the Hub…")
        self._ask(finding.ready, self._may_ask, "hub")

    def _ask(self, work: Callable[[], T], then: Callable[[T], None], name: str) -> None:
        """Ask in a thread; only the answer to the newest question counts."""
        self._asked += 1
        asked = self._asked

        def came(result: T) -> None:
            if asked == self._asked and self.is_attached:
                then(result)

        def failed(error: Exception) -> None:
            if asked == self._asked and self.is_attached:
                self._failed(error)

        background.start(self, work, came, failed, name)

    @on(Finished)
    def _answered(self, message: Finished) -> None:
        message.stop()
        message.then()

    def _may_ask(self, endpoint: str) -> None:
        self.query_one("#search").border_subtitle = words(endpoint)
        self._find()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, PullError) and error.code == "offline":
            self._refused = error
        self._list(())
        self._say(str(error), _BAD)
        advice = error.advice if isinstance(error, PullError) else ""
        self._tell([line(f"→ {advice}")] if advice else [])

    def _say(self, text: str, style: str = _DIM) -> None:
        self.query_one("#search-state", Static).update(words(text, style))

    def _tell(self, lines: list[Content]) -> None:
        self.query_one("#search-text", Static).update(Content("\n").join(lines))

    # ---- what is looked for

    @on(Input.Changed)
    def _typed(self) -> None:
        if self._refused is None and self._asked:
            self._later("find", _TYPING, self._find)

    def _later(self, what: str, seconds: float, act: Callable[[], None]) -> None:
        if what in self._waiting:
            self._waiting[what].stop()
        self._waiting[what] = self.set_timer(seconds, act)

    def _value(self, id_: str) -> str:
        return self.query_one(id_, Input).value.strip()

    def _find(self) -> None:
        text = self._value("#search-words")
        try:
            smallest, largest = finding.bounds(self._value("#search-size"))
        except ValueError as e:
            self._say(str(e), _BAD)
            return
        if target := finding.direct(text):
            self._say(f"Enter goes straight to {target}", _GOOD)
            if target.startswith("ollama:"):
                self._asked += 1
                self._list(())
                self._tell([])
                return
        else:
            self._say("searching…")
        wanted = text.removeprefix("hf:").partition("@")[0].partition(":")[0]
        query = Query(wanted, self._value("#search-task"), smallest, largest)
        self._ask(partial(finding.find, query, self._here), partial(self._found, target), "search")

    def _found(self, target: str, hits: tuple[Hit, ...], of: str = "") -> None:
        self._list(hits)
        count = "nothing is listed" if not hits else "1 model" if len(hits) == 1 else f"{len(hits)} models"
        if target:
            self._say(f"Enter goes straight to {target}", _GOOD)
        elif of:
            self._say(f"{count} made from {of}; / goes back to the words")
        else:
            self._say(f"{count}, most downloaded first" if len(hits) > 1 else count)

    def _list(self, hits: tuple[Hit, ...]) -> None:
        self._hits = hits
        options = self.query_one("#search-list", OptionList)
        options.clear_options()
        options.add_options([Option(self._row(h), id=f"h{n}") for n, h in enumerate(hits)])
        options.highlighted = 0 if hits else None
        if not hits:
            self._tell([])

    # ---- the results

    def _bytes(self, count: int) -> str:
        return units.size(count, binary=self._cachetui.binary)

    def _row(self, hit: Hit) -> Content:
        marks: list[Part] = []
        if hit.here:
            marks.append(("  on this machine", _GOOD))
        if hit.gated or hit.private:
            marks.append(("  gated" if hit.gated else "  private", _WARN))
        width = max(self.query_one("#search").content_size.width - 4, 20)
        room = width - sum(len(text) for text, _ in marks)
        told = [
            self._bytes(hit.size) if hit.size else "size not known",
            f"{units_of(hit.parameters)} parameters" if hit.parameters else "",
            f"{hit.downloads:,} download{'' if hit.downloads == 1 else 's'}",
            f"{hit.likes:,} like{'' if hit.likes == 1 else 's'}",
            clip(hit.licence, _WORD),
            clip(hit.task, _WORD),
            " ".join(hit.variants).upper(),
        ]
        return Content("\n").join(
            (
                line((clip(hit.repo, max(room, 20)), _STRONG), *marks),
                line((" · ".join(t for t in told if t), _SECOND)).truncate(width, ellipsis=True),
            )
        )

    @property
    def _chosen(self) -> Hit | None:
        at = self.query_one("#search-list", OptionList).highlighted
        return self._hits[at] if at is not None and at < len(self._hits) else None

    @on(OptionList.OptionHighlighted)
    def _moved(self) -> None:
        hit = self._chosen
        if hit is None:
            return
        known = self._known.get(hit.repo)
        if known is not None:
            self._tell(self._about(known))
        else:
            self._tell([words("looking what it is…", _DIM)])
            self._later("look", _RESTING, partial(self._look, hit.repo))

    def _look(self, repo: str) -> None:
        """Ask what a result is, when the cursor rests on it."""

        def keep(found: About | PullError) -> None:
            self._known[repo] = found
            if self.is_attached and self._chosen is not None and self._chosen.repo == repo:
                self._tell(self._about(found))

        def failed(error: Exception) -> None:
            keep(error if isinstance(error, PullError) else PullError("server", str(error)))

        background.start(self, partial(finding.about, repo, self._here), keep, failed, "about")

    def _about(self, known: About | PullError) -> list[Content]:
        width = max(self.query_one("#search-about").content_size.width - 2, 20)
        if isinstance(known, PullError):
            advice = [line(f"→ {known.advice}")] if known.advice else []
            return [words(str(known), _BAD), *advice]
        out: list[Content] = []
        come = sum(size for _, _, size in known.roles)
        if known.quants:
            told = ", ".join(f"{q.name} {self._bytes(q.size)}" for q in known.quants)
            out += hang(words("one of", _DIM), line(told), 11, width)
        else:
            parts = ", ".join(f"{role} {self._bytes(size)} ({n})" for role, n, size in known.roles)
            out += hang(words("comes", _DIM), line((self._bytes(come), _STRONG), f": {parts}"), 11, width)
        if known.left_out and not known.quants:
            out += hang(
                Content(""), words(f"{self._bytes(known.left_out)} in other formats are left out", _DIM), 11, width
            )
        for n, v in enumerate(known.variants[:_VARIANTS]):
            size = f", {self._bytes(v.size)}" if v.size else ""
            told_v = line(v.repo, (f"  {' '.join(v.variants).upper()}{size}, {v.downloads:,} downloads", _DIM))
            out += hang(words("variants" if n == 0 else "", _DIM), told_v, 11, width)
        if len(known.variants) > _VARIANTS:
            out += hang(
                Content(""), words(f"and {len(known.variants) - _VARIANTS} more: v lists them", _DIM), 11, width
            )
        return out

    # ---- keys

    @on(Input.Submitted)
    def _entered(self) -> None:
        if target := finding.direct(self._value("#search-words")):
            self.dismiss(target)
        elif self._hits:
            self.query_one("#search-list").focus()

    @on(OptionList.OptionSelected)
    def action_choose(self) -> None:
        """The result under the cursor."""
        if self._chosen is not None:
            self.dismiss(self._chosen.target)

    def action_variants(self) -> None:
        """Make the variants of a result the list."""
        hit = self._chosen
        if hit is not None:
            self._say(f"looking for variants of {hit.repo}…")
            show = partial(self._found, "", of=hit.repo)
            self._ask(partial(finding.variants, hit.repo, self._here), show, "variants")

    def action_words(self) -> None:
        """Back to what is looked for."""
        self.query_one("#search-words").focus()
        if self._refused is None:
            self._find()

    def key_down(self, event: Key) -> None:
        """From the lines above into the list."""
        if isinstance(self.focused, Input) and self._hits:
            event.stop()  # else the list, which has the focus then, would move at once
            self.query_one("#search-list").focus()

    def action_leave(self) -> None:
        """Nothing is chosen."""
        self._asked += 1
        self.dismiss(None)


def units_of(count: int) -> str:
    """Parameters as people write them: 7.6B, 500M."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + name
    return str(count)
