"""Asking a model: the picture and the fields on the left, the conversation and the question on the right."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from cachetui import units
from cachetui.jobs import words as telling
from cachetui.runnable import ABOUT_A_PICTURE, GGUF, TRANSFORMERS, Runnable
from cachetui.tui import background
from cachetui.tui.asking import Asking
from cachetui.tui.handlers import prompt_look, prompt_state
from cachetui.tui.messages import Finished
from cachetui.tui.pictures import Shown
from cachetui.tui.predicting import Predicted
from cachetui.tui.talk import BAD, DIM, WARN, Options, Talk, Turn, ask_request, finish, seconds, short_name, turn_lines
from cachetui.tui.text import Part, clip, line, words
from cachetui.tui.widgets.fields import QuestionArea
from cachetui.tui.widgets.lines import KeyLine, StatusLine
from cachetui.tui.widgets.picture import PictureView
from cachetui.tui.widgets.prompt_pane import PromptPane

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp

_TICK = 1 / 12
"""Seconds between two looks at what came."""
_LOOKING = 2.0
"""Seconds between two looks at what is in memory."""
_NEAR = 3
"""Lines from the end within which the conversation goes on scrolling by itself."""
_KEYS = [
    ("ask", "Enter", "ask"), ("leave", "Esc", "back"), ("pick", "^O", "picture"), ("save", "^S", "save state"),
    ("copy", "^Y", "copy answer"), ("warm", "^G", "in memory"), ("fresh", "^L", "clear"),
]  # fmt: skip
_KEYS_BUSY = [("leave", "Esc", "stop"), ("warm", "^G", "in memory")]


class PromptScreen(Screen[None]):
    """One model. What was asked stays with the program until it ends."""

    CSS_PATH = "prompt.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide"), (160, "-ultrawide")]
    AUTO_FOCUS = "#question"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Stop, or back", show=False),
        Binding("ctrl+c", "stop", "Stop", show=False, priority=True),
        Binding("ctrl+o", "pick", "Picture", show=False, priority=True),
        Binding("ctrl+s", "save", "Save state", show=False, priority=True),
        Binding("ctrl+y", "copy", "Copy the answer", show=False, priority=True),
        Binding("ctrl+g", "warm", "In memory", show=False, priority=True),
        Binding("ctrl+l", "fresh", "Clear", show=False, priority=True),
        Binding("pageup,shift+pageup", "scroll(-1)", "Up", show=False, priority=True),
        Binding("pagedown,shift+pagedown", "scroll(1)", "Down", show=False, priority=True),
    ]

    def __init__(self, runnable: Runnable, app: CachetuiApp) -> None:
        super().__init__()
        self.cachetui = app
        self.runnable = runnable
        self.talk = app.talks.setdefault(runnable.key, Talk())
        self.asking: Asking | None = None
        self.saving: tuple[Asking, Turn] | None = None
        """The saving of a state, and the turn it is of."""
        self.shown: Shown | None = None
        self.looked = 0
        """Counts the looks at the picture, so that a late one is known."""
        self.known: set[str] = set()
        """Pictures that saved states were looked for."""
        self.predicted: Predicted | None = None
        self.waiting: Timer | None = None
        self._lines: dict[int, Static] = {}
        self.readable: Callable[[int], str] = partial(units.size, binary=app.binary)
        self.need = runnable.memory
        """Bytes that it will take as it is wanted, estimated; 0: not known."""
        self.free = 0
        """Bytes that a model may take now; 0 until that was looked at."""
        self.trouble = ""
        """What is wrong with a field."""

    def compose(self) -> ComposeResult:
        """Head, two panes, status, keys."""
        r = self.runnable
        yield StatusLine(id="prompt-head")
        with Horizontal(id="prompt-panes"):
            placed, quantizes = r.engine in (TRANSFORMERS, GGUF), r.engine == TRANSFORMERS
            yield PromptPane(self.cachetui, pictures=r.images, quantizes=quantizes, placed=placed)
            with Vertical(id="prompt-right"):
                with VerticalScroll(id="talk") as talk:
                    talk.border_title = words(clip(r.name, 60))
                    yield Static(self._welcome(), markup=False, id="welcome")
                    yield Static(markup=False, id="offer")
                yield QuestionArea(self.talk.questions, id="question")
        yield StatusLine(id="prompt-status")
        yield KeyLine(_KEYS)

    def on_mount(self) -> None:
        """What was said before is there."""
        self.query_one("#prompt-left").border_title = words(
            "Picture and options" if self.runnable.images else "Options"
        )
        self.query_one("#question").border_title = words("Ask")
        for n in range(len(self.talk.turns)):
            self._draw(n)
        self._offer()
        self._to_end()
        self._show_keys()
        self.show_status()
        self.set_interval(_TICK, self._tick)
        self.set_interval(_LOOKING, self._look_at_memory)
        self._look_at_memory()
        self._look_later()

    def on_resize(self) -> None:
        """Wrap for the new width."""
        self.call_after_refresh(self._redraw)

    def _redraw(self) -> None:
        for n in range(len(self.talk.turns)):
            self._draw(n)
        self._offer()

    # ---- the conversation

    @property
    def _width(self) -> int:
        return max(self.query_one("#talk").scrollable_content_region.width - 1, 20)

    def _draw(self, n: int) -> None:
        """One turn, as it is now."""
        turn = self.talk.turns[n]
        text = Content("\n").join(turn_lines(turn, self._width, short_name(turn.picture)))
        if n not in self._lines:
            self._lines[n] = Static(text, markup=False, classes="turn")
            self.query_one("#talk").mount(self._lines[n], before="#offer")
        else:
            self._lines[n].update(text)

    def _to_end(self) -> None:
        """The newest line is in sight, once it is laid out."""
        talk = self.query_one("#talk", VerticalScroll)
        self.call_after_refresh(talk.scroll_end, animate=False)

    def _welcome(self) -> Content:
        about = "Ask it something; Ctrl+O gives it a picture to look at."
        lines = [
            line((self.runnable.name, "bold"), (f"  {self.runnable.about}", DIM)),
            words(about if self.runnable.images else "Ask it something."),
            words("The first answer takes as long as loading does; the next ones come at once.", DIM),
        ]
        if need := self.need:
            scarce = 0 < self.free < need
            free = f"; {self.readable(self.free)} are free" if self.free else ""
            told = f"It takes about {self.readable(need)} of memory{free}."
            lines.append(words(told, WARN if scarce else DIM))
            if scarce:
                lines.append(words("→ load it with fewer bits, on a GPU, or free other models first (Ctrl+G)"))
        return Content("\n").join(lines)

    def show_welcome(self) -> None:
        """What stands there until something was asked."""
        self.query_one("#welcome", Static).update(self._welcome())

    def _offer(self) -> None:
        """What can be done next, above the question."""
        self.query_one("#welcome").display = not self.talk.turns
        prompt_state.show_offer(self)

    # ---- the picture and what it comes to

    @on(PromptPane.Changed)
    @on(PictureView.Resized)
    def _look_later(self) -> None:
        """The picture, its tokens and the state move with the fields."""
        prompt_look.later(self)

    def options(self) -> Options | None:
        """The fields; None while one is wrong, which is then said."""
        try:
            options = self.query_one(PromptPane).options()
        except ValueError as e:
            self.trouble = str(e)
            return None
        self.trouble = ""
        return options

    # ---- asking

    @on(QuestionArea.Submitted)
    def _submitted(self, message: QuestionArea.Submitted) -> None:
        self._ask(message.text.strip())

    def _ask(self, text: str) -> None:
        if self.asking is not None:
            self.cachetui.main.tell("It is still answering; Esc stops it.", severity="warning")
            return
        options, picture = self.options(), self.query_one(PromptPane).picture
        if options is not None and not text and not picture:
            self.trouble = "there is no question yet"
        if self.trouble or options is None:
            self.show_status()
            return
        turn = Turn(text or ABOUT_A_PICTURE, picture, options, doing="starting…")
        self.talk.turns.append(turn)
        self.query_one("#question", QuestionArea).text = ""
        chosen = self.runnable.chosen(options.device, options.bits)
        self.asking = Asking(self.cachetui.warm.asker(chosen, ask_request(turn)))
        self.asking.start()
        self._draw(len(self.talk.turns) - 1)
        self._offer()
        self._to_end()
        self._show_keys()
        self.show_status()

    def _tick(self) -> None:
        if self.saving is not None:
            prompt_state.moved(self, *self.saving)
        asking, turn = self.asking, self.talk.last
        if asking is None or turn is None:
            return
        ended = asking.ended  # asked before the text is taken: then that is all of it
        talk = self.query_one("#talk", VerticalScroll)
        follows = talk.max_scroll_y - talk.scroll_y <= _NEAR
        turn.answer += asking.take()
        turn.doing = "" if turn.answer else self._doing(asking)
        if ended is not None:
            self.asking = None
            finish(turn, ended, stopped=asking.cancel.is_set())
            self._offer()
            self._show_keys()
            self._look_at_memory()
        self._draw(len(self.talk.turns) - 1)
        self.show_status()
        if follows:
            self._to_end()

    def _doing(self, asking: Asking) -> str:
        p, passed = asking.progress, seconds(time.monotonic() - asking.begun)
        if asking.cancel.is_set():
            return "stopping…"
        if p is None:
            return f"starting…  {passed}"
        told = [telling.phase(p), telling.percent(p), telling.amount(p, self.readable) if p.total else "", passed]
        return " · ".join(t for t in told if t)

    # ---- the lines above and below

    def _look_at_memory(self) -> None:
        """What the model takes now; in a thread, for it is asked of the system."""
        warm = self.cachetui.warm

        def look() -> tuple[str, int]:
            from cachetui.jobs.warm import free_memory

            return warm.told(self.readable), free_memory("auto")

        def came(found: tuple[str, int]) -> None:
            if self.is_attached:
                lines, self.free = found
                self.show_welcome()
                head = [(" cachetui ", "bold $primary"), (" prompt ", DIM), (clip(self.runnable.name, 60), "bold")]
                self.query_one("#prompt-head", StatusLine).show(head, [(lines + " ", DIM)] if lines else [])

        if not warm.looking:
            background.start(self, look, came, lambda e: None, "warm")

    def _show_keys(self) -> None:
        without = set() if self.runnable.images else {"pick", "save"}
        if not self.runnable.saves_states:
            without.add("save")
        keys = _KEYS_BUSY if self.asking is not None else [k for k in _KEYS if k[0] not in without]
        self.query_one(KeyLine).show(keys)

    def show_status(self) -> None:
        left: list[Part] = []
        asking = self.asking
        if self.trouble:
            left = [(self.trouble, BAD)]
        elif asking is not None and asking.first is not None:
            rate = f" · {asking.rate:,.1f} tokens/s" if asking.rate else ""
            left = [("answering", "$accent"), (f"  {asking.pieces} tokens{rate}", DIM)]
        elif asking is not None:
            left = [(self._doing(asking), "$accent")]
        elif self.saving is not None:
            left = [("saving what it made of the picture  ", "$accent"), (self._doing(self.saving[0]), DIM)]
        elif (turn := self.talk.last) is not None and turn.figures:
            left = [(" · ".join(turn.figures[:3]), DIM)]
        self.query_one("#prompt-status", StatusLine).show(left, [])

    # ---- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Ctrl+C copies what is selected, as everywhere, unless there is something to stop."""
        return self.asking is not None if action == "stop" else True

    def action_stop(self) -> None:
        """Stop answering; what came stays."""
        if self.asking is not None:
            self.asking.cancel.set()
            self.show_status()

    def action_leave(self) -> None:
        """Stop answering; else back to the list."""
        if self.asking is not None:
            self.action_stop()
        elif self.saving is not None:
            self.cachetui.main.tell("What it made of the picture is still being saved.", severity="warning")
        else:
            self.dismiss(None)

    def action_ask(self) -> None:
        """As Enter in the question."""
        self._ask(self.query_one("#question", QuestionArea).text.strip())

    @on(PromptPane.Pick)
    @on(PictureView.Pressed)
    def action_pick(self) -> None:
        """Choose a picture."""
        if not self.runnable.images:
            self.cachetui.main.tell(f"{self.runnable.name} takes no pictures.", severity="warning")
            return
        from cachetui.tui.screens.pick import PickScreen

        def answer(path: str | None) -> None:
            if path is not None:
                self.query_one(PromptPane).set_picture(path)
            self.query_one("#question").focus()

        now = self.query_one(PromptPane).picture
        folder = now.rpartition("/")[0] if "/" in now else ""
        self.app.push_screen(PickScreen(self.cachetui, folder), answer)

    def action_copy(self) -> None:
        """The newest answer, or what is selected, to the clipboard."""
        from cachetui.text import safe_block

        turn = self.talk.last
        text = self.get_selected_text() or (turn.answer if turn is not None else "")
        if not text.strip():
            self.cachetui.main.tell("There is no answer to copy yet.", severity="warning")
            return
        self.app.copy_to_clipboard(safe_block(text.strip("\n")))
        self.cachetui.main.tell("The answer is on the clipboard.")

    def action_fresh(self) -> None:
        """Begin again with an empty pane."""
        if self.asking is None:
            for shown in self._lines.values():
                shown.remove()
            self._lines.clear()
            self.talk.turns.clear()
            self._offer()
            self.show_status()

    def action_warm(self) -> None:
        """What is in memory."""
        from cachetui.tui.screens.warm import WarmScreen

        self.app.push_screen(WarmScreen(self.cachetui), lambda _: self._look_at_memory())

    def action_scroll(self, step: int) -> None:
        """The conversation, a page."""
        talk = self.query_one("#talk", VerticalScroll)
        if step < 0:
            talk.scroll_page_up(animate=False)
        else:
            talk.scroll_page_down(animate=False)

    def action_save(self) -> None:
        """Keep what the model made of the picture of the newest question."""
        prompt_state.save(self)

    @on(KeyLine.Pressed)
    async def _key_clicked(self, message: KeyLine.Pressed) -> None:
        message.stop()
        await self.run_action(message.command)

    @on(Finished)
    def _answered(self, message: Finished) -> None:
        message.stop()
        message.then()

    def on_unmount(self) -> None:
        """Nobody waits for an answer any more."""
        if self.asking is not None:
            self.asking.cancel.set()
