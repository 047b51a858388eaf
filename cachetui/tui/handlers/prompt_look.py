"""The picture of the prompt pane: shown, counted, and what it comes to as a saved state."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from textual.content import Content

from cachetui.tui import background, pictures
from cachetui.tui.handlers import prompt_known, prompt_state
from cachetui.tui.pictures import PictureError, Shown
from cachetui.tui.predicting import Predicted, predict
from cachetui.tui.talk import BAD, DIM, Options, short_name
from cachetui.tui.text import Part, clip, line, words
from cachetui.tui.widgets.prompt_pane import PromptPane

if TYPE_CHECKING:
    from cachetui.tui.screens.prompt import PromptScreen

_RESTING = 0.3
"""Seconds without a change before the picture is looked at anew."""
_ROOMY = 36
"""Cells from which on the words below the picture are written out."""


def later(screen: PromptScreen) -> None:
    """Something changed: look as soon as nothing changes any more."""
    if screen.waiting is not None:
        screen.waiting.stop()
    screen.waiting = screen.set_timer(_RESTING, partial(look, screen))


def look(screen: PromptScreen) -> None:
    """Look at the picture with these options, and predict what it comes to."""
    pane = screen.query_one(PromptPane)
    options, spec = screen.options(), pane.picture
    screen.looked += 1
    looked = screen.looked
    screen.show_status()
    if options is None:
        return
    screen.need = screen.runnable.chosen(options.device, options.bits).memory
    screen.show_welcome()
    if not spec:
        screen.shown = None
        pane.view.tell(words("no picture: Ctrl+O", DIM))
        pane.about(Content(""))
        _predict(screen, options)
        return
    room = pane.view.room

    def came(shown: Shown) -> None:
        if looked == screen.looked and screen.is_attached:
            screen.shown = shown
            pane.view.show(shown)
            _predict(screen, options)
            prompt_known.look(screen, spec, options)

    def failed(error: Exception) -> None:
        if looked == screen.looked and screen.is_attached:
            screen.shown = None
            pane.view.tell(words("no picture", DIM))
            lines = [words(str(error), BAD)]
            if isinstance(error, PictureError) and error.advice:
                lines.append(line(f"→ {error.advice}"))
            pane.about(Content("\n").join(lines))
            pane.predict(Content(""))

    work = partial(pictures.look, spec, room, max_pixels=options.max_pixels, resize=options.resize, seed=options.seed)
    background.start(screen, work, came, failed, "picture")


def _predict(screen: PromptScreen, options: Options) -> None:
    """Tokens and bytes of a state, from the config alone."""
    pane, shown, looked = screen.query_one(PromptPane), screen.shown, screen.looked

    def came(found: Predicted | None) -> None:
        if looked != screen.looked or not screen.is_attached:
            return
        screen.predicted = found
        room = max(pane.scrollable_content_region.width, 20)
        if shown is not None:
            pane.about(_about(screen, shown, found, room))
        pane.predict(_comes_to(screen, found, room))
        prompt_state.show_offer(screen)

    background.start(screen, partial(predict, screen.runnable, shown, options), came, lambda e: None, "predict")


def _about(screen: PromptScreen, shown: Shown, found: Predicted | None, room: int) -> Content:
    """Name, size, and what the model gets of it."""
    wide, high = shown.original
    size = f", {screen.readable(shown.file_size)}" if shown.file_size else ""
    name, about = clip(short_name(shown.spec), room), f"{wide} × {high}{size}"
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


def _comes_to(screen: PromptScreen, found: Predicted | None, room: int) -> Content:
    if found is None or not found.tokens:
        return Content("")
    told = [line(("before the text ", DIM), f"≈ {found.tokens:,} tokens")]
    if found.bytes and found.picture_tokens:
        told.append(line(("as a saved state ", DIM), f"≈ {screen.readable(found.bytes)}"))
    return Content("   " if sum(t.cell_length + 3 for t in told) - 3 <= room else "\n").join(told)
