"""Asking a model: the picture and the fields on the left, the conversation and the question on the right."""

from __future__ import annotations

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
from cachetui.jobs.model import JobState
from cachetui.runnable import GGUF, TRANSFORMERS, Runnable
from cachetui.tui import background, pictures
from cachetui.tui.asking import Asking
from cachetui.tui.messages import Finished
from cachetui.tui.pictures import PictureError, Shown
from cachetui.tui.predicting import Predicted, predict
from cachetui.tui.talk import BAD, DIM, NOISE, Options, Talk, Turn, TurnState, gain, offer, seconds, turn_lines
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
_ROOMY = 36
"""Cells from which on the words below the picture are written out."""
_RESTING = 0.3
"""Seconds without a change before the picture is looked at anew."""
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
        self._cachetui = app
        self._runnable = runnable
        self._talk = app.talks.setdefault(runnable.key, Talk())
        self._asking: Asking | None = None
        self._saving: Asking | None = None
        self._shown: Shown | None = None
        self._looked = 0
        """Counts the looks at the picture, so that a late one is known."""
        self._predicted: Predicted | None = None
        self._waiting: Timer | None = None
        self._lines: dict[int, Static] = {}
        self._bytes: Callable[[int], str] = partial(units.size, binary=app.binary)
        self._trouble = ""
        """What is wrong with a field."""

    def compose(self) -> ComposeResult:
        """Head, two panes, status, keys."""
        r = self._runnable
        yield StatusLine(id="prompt-head")
        with Horizontal(id="prompt-panes"):
            placed, quantizes = r.engine in (TRANSFORMERS, GGUF), r.engine == TRANSFORMERS
            yield PromptPane(self._cachetui, pictures=r.images, quantizes=quantizes, placed=placed)
            with Vertical(id="prompt-right"):
                with VerticalScroll(id="talk") as talk:
                    talk.border_title = words(clip(r.name, 60))
                    yield Static(markup=False, id="welcome")
                    yield Static(markup=False, id="offer")
                yield QuestionArea(self._talk.questions, id="question")
        yield StatusLine(id="prompt-status")
        yield KeyLine(_KEYS)

    def on_mount(self) -> None:
        """What was said before is there."""
        self.query_one("#prompt-left").border_title = words(
            "Picture and options" if self._runnable.images else "Options"
        )
        self.query_one("#question").border_title = words("Ask")
        for n in range(len(self._talk.turns)):
            self._draw(n)
        self._offer()
        self._to_end()
        self._show_status()
        self.set_interval(_TICK, self._tick)
        self.set_interval(_LOOKING, self._look_at_memory)
        self._look_at_memory()
        self._look_later()

    def on_resize(self) -> None:
        """Wrap for the new width."""
        self.call_after_refresh(self._redraw)

    def _redraw(self) -> None:
        for n in range(len(self._talk.turns)):
            self._draw(n)
        self._offer()

    # ---- the conversation

    @property
    def _width(self) -> int:
        return max(self.query_one("#talk").scrollable_content_region.width - 1, 20)

    def _draw(self, n: int) -> None:
        """One turn, as it is now."""
        turn = self._talk.turns[n]
        text = Content("\n").join(turn_lines(turn, self._width, self._named(turn.picture)))
        if n not in self._lines:
            self._lines[n] = Static(text, markup=False, classes="turn")
            self.query_one("#talk").mount(self._lines[n], before="#offer")
        else:
            self._lines[n].update(text)

    def _to_end(self) -> None:
        """The newest line is in sight, once it is laid out."""
        talk = self.query_one("#talk", VerticalScroll)
        self.call_after_refresh(talk.scroll_end, animate=False)

    def _named(self, picture: str) -> str:
        return "random noise" if picture == NOISE else picture.rpartition("/")[2]

    def _welcome(self) -> Content:
        name = self._runnable.name
        if self._talk.turns:
            return Content("")
        about = (
            "Ask it something."
            if not self._runnable.images
            else "Ask it something; Ctrl+O gives it a picture to look at."
        )
        return Content("\n").join(
            (
                line((name, "bold"), (f"  {self._runnable.about}", DIM)),
                words(about),
                words("The first answer takes as long as loading does; the next ones come at once.", DIM),
            )
        )

    def _offer(self) -> None:
        """A saved state, where it would help and there is none."""
        self.query_one("#welcome", Static).update(self._welcome())
        self.query_one("#welcome").display = not self._talk.turns
        parts: list[Part] = []
        turn = self._talk.last
        if turn is not None and self._may_save(turn):
            known = self._predicted
            size = known.bytes if known is not None else 0
            parts = offer(size, gain(turn), binary=self._cachetui.binary)
        shown = self.query_one("#offer", Static)
        shown.update(line(*parts))
        shown.display = bool(parts)

    def _may_save(self, turn: Turn) -> bool:
        return (
            turn.state is TurnState.DONE
            and bool(turn.picture)
            and self._runnable.saves_states
            and not turn.result.get("state_used")
            and (turn.picture, turn.options.system) not in self._talk.saved
        )

    # ---- the picture and what it comes to

    @on(PromptPane.Changed)
    @on(PictureView.Resized)
    def _look_later(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
        self._waiting = self.set_timer(_RESTING, self._look)

    def _options(self) -> Options | None:
        """The fields; None while one is wrong, which is then said."""
        try:
            options = self.query_one(PromptPane).options()
        except ValueError as e:
            self._trouble = str(e)
            return None
        self._trouble = ""
        return options

    def _look(self) -> None:
        """Look at the picture with these options, and predict what it comes to."""
        pane = self.query_one(PromptPane)
        options, spec = self._options(), pane.picture
        self._looked += 1
        looked = self._looked
        self._show_status()
        if options is None:
            return
        if not spec:
            self._shown = None
            pane.view.tell(words("no picture: Ctrl+O" if self._runnable.images else "it takes no pictures", DIM))
            pane.about(Content(""))
            self._predict(looked, options)
            return
        room = pane.view.room

        def came(shown: Shown) -> None:
            if looked == self._looked and self.is_attached:
                self._shown = shown
                pane.view.show(shown)
                self._predict(looked, options)

        def failed(error: Exception) -> None:
            if looked == self._looked and self.is_attached:
                self._shown = None
                pane.view.tell(words("no picture", DIM))
                lines = [words(str(error), BAD)]
                if isinstance(error, PictureError) and error.advice:
                    lines.append(line(f"→ {error.advice}"))
                pane.about(Content("\n").join(lines))
                pane.predict(Content(""))

        look = partial(
            pictures.look, spec, room, max_pixels=options.max_pixels, resize=options.resize, seed=options.seed
        )
        background.start(self, look, came, failed, "picture")

    def _predict(self, looked: int, options: Options) -> None:
        """Tokens and bytes of a state, from the config alone."""
        pane, shown = self.query_one(PromptPane), self._shown

        def came(found: Predicted | None) -> None:
            if looked != self._looked or not self.is_attached:
                return
            self._predicted = found
            if shown is not None:
                pane.about(self._about(shown, found))
            pane.predict(self._comes_to(found))
            self._offer()

        background.start(self, partial(predict, self._runnable, shown, options), came, lambda e: None, "predict")

    def _about(self, shown: Shown, found: Predicted | None) -> Content:
        wide, high = shown.original
        size = f", {self._bytes(shown.file_size)}" if shown.file_size else ""
        room = max(self.query_one(PromptPane).scrollable_content_region.width, 20)
        name, about = clip(self._named(shown.spec), room), f"{wide} × {high}{size}"
        gap = "  " if len(name) + len(about) + 2 <= room else "\n"
        first = Content.assemble(words(name, "bold"), gap, words(about, DIM))
        parts: list[str | Part] = []
        if shown.lowered:
            sign = "lowered to" if room >= _ROOMY else "↓"
            parts.append((f"{sign} {shown.size[0]} × {shown.size[1]}", "$text-warning"))
        if found is not None and found.picture_tokens:
            sign = "=" if found.exact else "≈"
            parts.append((f"{' ' if parts else ''}{sign} {found.picture_tokens:,} tokens", "$foreground"))
        return Content("\n").join((first, line(*parts))) if parts else first

    def _comes_to(self, found: Predicted | None) -> Content:
        if found is None or not found.tokens:
            return Content("")
        told = [line(("before the text ", DIM), f"≈ {found.tokens:,} tokens")]
        if found.bytes:
            told.append(line(("as a saved state ", DIM), f"≈ {self._bytes(found.bytes)}"))
        wide = self.query_one(PromptPane).scrollable_content_region.width >= _ROOMY
        return Content("   " if wide and sum(t.cell_length for t in told) < _ROOMY * 2 else "\n").join(told)

    # ---- asking

    @on(QuestionArea.Submitted)
    def _submitted(self, message: QuestionArea.Submitted) -> None:
        self._ask(message.text.strip())

    def _ask(self, text: str) -> None:
        if self._asking is not None:
            self._cachetui.main.tell("It is still answering; Esc stops it.", severity="warning")
            return
        options, pane = self._options(), self.query_one(PromptPane)
        if options is None:
            self._show_status()
            return
        if not text:
            if not pane.picture:
                self._trouble = "there is no question yet"
                self._show_status()
                return
            text = "Describe this image."
        turn = Turn(text, pane.picture, options, doing="starting…")
        self._talk.turns.append(turn)
        self.query_one("#question", QuestionArea).text = ""
        request = {
            "op": "ask",
            "text": text,
            "images": [turn.picture] if turn.picture else [],
            "system": options.system,
            "max_new_tokens": options.max_new_tokens,
            "temperature": options.temperature,
            "seed": options.seed,
            "max_pixels": options.max_pixels,
            "resize": list(options.resize) if options.resize else None,
            "state": "",
            "auto_state": True,
        }
        self._asking = Asking(self._cachetui.warm.asker(self._runnable.chosen(options.device, options.bits), request))
        self._asking.start()
        self._draw(len(self._talk.turns) - 1)
        self._offer()
        self._to_end()
        self._show_keys()
        self._show_status()

    def _tick(self) -> None:
        if self._saving is not None:
            self._save_moved(self._saving)
        asking, turn = self._asking, self._talk.last
        if asking is None or turn is None:
            return
        ended = asking.ended  # asked before the text is taken: then that is all of it
        talk = self.query_one("#talk", VerticalScroll)
        follows = talk.max_scroll_y - talk.scroll_y <= _NEAR
        turn.answer += asking.take()
        turn.doing = "" if turn.answer else self._doing(asking)
        if ended is not None:
            self._asking = None
            self._over(turn, asking)
        self._draw(len(self._talk.turns) - 1)
        self._show_status()
        if follows:
            self._to_end()

    def _over(self, turn: Turn, asking: Asking) -> None:
        ended = asking.ended
        assert ended is not None
        turn.result = ended.result or {}
        said = turn.result.get("text")
        if isinstance(said, str) and said:
            turn.answer = said
        turn.reason = ended.reason or str(turn.result.get("reason") or "")
        turn.advice = ended.advice or str(turn.result.get("advice") or "")
        states = {JobState.DONE: TurnState.DONE, JobState.CANCELLED: TurnState.CANCELLED}
        turn.state = states.get(ended.state, TurnState.FAILED)
        if turn.result.get("finish") == "cancelled" or (asking.cancel.is_set() and turn.state is not TurnState.DONE):
            turn.state = TurnState.CANCELLED
        self._offer()
        self._show_keys()
        self._look_at_memory()

    def _doing(self, asking: Asking) -> str:
        import time

        p, passed = asking.progress, seconds(time.monotonic() - asking.begun)
        if asking.cancel.is_set():
            return "stopping…"
        if p is None:
            return f"starting…  {passed}"
        told = [telling.phase(p), telling.percent(p), telling.amount(p, self._bytes) if p.total else "", passed]
        return " · ".join(t for t in told if t)

    # ---- the lines above and below

    def _look_at_memory(self) -> None:
        """What the model takes now; in a thread, for it is asked of the system."""
        warm = self._cachetui.warm

        def came(lines: str) -> None:
            if self.is_attached:
                head = [(" cachetui ", "bold $primary"), (" prompt ", DIM), (clip(self._runnable.name, 60), "bold")]
                self.query_one("#prompt-head", StatusLine).show(head, [(lines + " ", DIM)] if lines else [])

        if not warm.looking:
            background.start(self, partial(warm.told, self._bytes), came, lambda e: None, "warm")

    def _show_keys(self) -> None:
        self.query_one(KeyLine).show(_KEYS_BUSY if self._asking is not None else _KEYS)

    def _show_status(self) -> None:
        left: list[Part] = []
        asking = self._asking
        if self._trouble:
            left = [(self._trouble, BAD)]
        elif asking is not None and asking.first is not None:
            rate = f" · {asking.rate:,.1f} tokens/s" if asking.rate else ""
            left = [("answering", "$accent"), (f"  {asking.pieces} tokens{rate}", DIM)]
        elif asking is not None:
            left = [(self._doing(asking), "$accent")]
        elif self._saving is not None:
            left = [("saving what it made of the picture  ", "$accent"), (self._doing(self._saving), DIM)]
        elif (turn := self._talk.last) is not None and turn.figures:
            left = [(" · ".join(turn.figures[:3]), DIM)]
        self.query_one("#prompt-status", StatusLine).show(left, [])

    # ---- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Ctrl+C copies what is selected, as everywhere, unless there is something to stop."""
        return self._asking is not None if action == "stop" else True

    def action_stop(self) -> None:
        """Stop answering; what came stays."""
        if self._asking is not None:
            self._asking.cancel.set()
            self._show_status()

    def action_leave(self) -> None:
        """Stop answering; else back to the list."""
        if self._asking is not None:
            self.action_stop()
        else:
            self.dismiss(None)

    def action_ask(self) -> None:
        """As Enter in the question."""
        self._ask(self.query_one("#question", QuestionArea).text.strip())

    @on(PromptPane.Pick)
    def action_pick(self) -> None:
        """Choose a picture."""
        if not self._runnable.images:
            self._cachetui.main.tell(f"{self._runnable.name} takes no pictures.", severity="warning")
            return
        from cachetui.tui.screens.pick import PickScreen

        def answer(path: str | None) -> None:
            if path is not None:
                self.query_one(PromptPane).set_picture(path)
            self.query_one("#question").focus()

        now = self.query_one(PromptPane).picture
        folder = now.rpartition("/")[0] if "/" in now else ""
        self.app.push_screen(PickScreen(self._cachetui, folder), answer)

    def action_copy(self) -> None:
        """The newest answer, or what is selected, to the clipboard."""
        from cachetui.text import safe_block

        turn = self._talk.last
        text = self.get_selected_text() or (turn.answer if turn is not None else "")
        if not text.strip():
            self._cachetui.main.tell("There is no answer to copy yet.", severity="warning")
            return
        self.app.copy_to_clipboard(safe_block(text.strip("\n")))
        self._cachetui.main.tell("The answer is on the clipboard.")

    def action_fresh(self) -> None:
        """Begin again with an empty pane."""
        if self._asking is None:
            for shown in self._lines.values():
                shown.remove()
            self._lines.clear()
            self._talk.turns.clear()
            self._offer()
            self._show_status()

    def action_warm(self) -> None:
        """What is in memory."""
        from cachetui.tui.screens.warm import WarmScreen

        self.app.push_screen(WarmScreen(self._cachetui), lambda _: self._look_at_memory())

    def action_scroll(self, step: int) -> None:
        """The conversation, a page."""
        talk = self.query_one("#talk", VerticalScroll)
        if step < 0:
            talk.scroll_page_up(animate=False)
        else:
            talk.scroll_page_down(animate=False)

    def action_save(self) -> None:
        """Keep what the model made of the picture of the newest question."""
        turn = self._talk.last
        if self._asking is not None or self._saving is not None:
            return
        if turn is None or not self._may_save(turn):
            why = "A state is saved after a question with a picture."
            if turn is not None and turn.result.get("state_used"):
                why = "This answer came from a saved state already."
            elif not self._runnable.saves_states:
                why = f"{self._runnable.engine} keeps no states here."
            self._cachetui.main.tell(why, severity="warning")
            return
        options = turn.options
        request = {
            "op": "save-state",
            "images": [turn.picture],
            "system": options.system,
            "output": "",
            "max_pixels": options.max_pixels,
            "resize": list(options.resize) if options.resize else None,
            "seed": options.seed,
        }
        self._saving = Asking(self._cachetui.warm.asker(self._runnable.chosen(options.device, options.bits), request))
        self._saving.start()
        self._show_status()

    def _save_moved(self, saving: Asking) -> None:
        ended, turn = saving.ended, self._talk.last
        if ended is None:
            self._show_status()
            return
        self._saving = None
        main = self._cachetui.main
        if ended.state is JobState.DONE:
            result = ended.result or {}
            if turn is not None:
                self._talk.saved.add((turn.picture, turn.options.system))
            size = result.get("bytes")
            told = f" ({self._bytes(size)})" if isinstance(size, int) else ""
            main.tell(f"Saved{told}: the next question about this picture starts from it.\n{result.get('path', '')}")
            from cachetui.tui.handlers import prompt

            prompt.state_saved(main, str(result.get("path", "")))
        else:
            main.tell(f"{ended.reason}\n{ended.advice}".strip(), title="Not saved", severity="error")
        self._offer()
        self._show_status()

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
        if self._asking is not None:
            self._asking.cancel.set()
