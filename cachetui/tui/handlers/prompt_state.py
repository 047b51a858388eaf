"""Keeping what a model made of a picture: offered where it helps, saved on a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widgets import Static

from cachetui.jobs.model import JobState
from cachetui.tui.asking import Asking
from cachetui.tui.handlers import prompt
from cachetui.tui.talk import Turn, TurnState, gain, offer, save_request
from cachetui.tui.text import Part, line

if TYPE_CHECKING:
    from cachetui.tui.screens.prompt import PromptScreen


def show_offer(screen: PromptScreen) -> None:
    """A line below the conversation, where a state would help and there is none."""
    parts: list[Part] = []
    turn = screen.talk.last
    if turn is not None and _may_save(screen, turn):
        size = screen.predicted.bytes if screen.predicted is not None else 0
        parts = offer(size, gain(turn), binary=screen.cachetui.binary)
    shown = screen.query_one("#offer", Static)
    shown.update(line(*parts))
    shown.display = bool(parts)


def _may_save(screen: PromptScreen, turn: Turn) -> bool:
    return (
        turn.state is TurnState.DONE
        and bool(turn.picture)
        and screen.runnable.saves_states
        and not turn.result.get("state_used")
        and turn.prefix not in screen.talk.saved
    )


def save(screen: PromptScreen) -> None:
    """Keep what it made of the picture of the newest question, or say why there is nothing to keep."""
    if screen.asking is not None or screen.saving is not None:
        return
    turn = screen.talk.last
    if turn is None or not _may_save(screen, turn):
        why = "A state is saved after a question with a picture."
        if not screen.runnable.saves_states:
            why = f"Models that {screen.runnable.engine} runs keep no states."
        elif turn is not None and (turn.result.get("state_used") or turn.prefix in screen.talk.saved):
            why = "There is a saved state of this picture already."
        screen.cachetui.main.tell(why, severity="warning")
        return
    chosen = screen.runnable.chosen(turn.options.device, turn.options.bits)
    screen.saving = Asking(screen.cachetui.warm.asker(chosen, save_request(turn))), turn
    screen.saving[0].start()
    screen.show_status()


def moved(screen: PromptScreen, saving: Asking, turn: Turn) -> None:
    """Look whether it is saved by now."""
    screen.show_status()
    ended, main = saving.ended, screen.cachetui.main
    if ended is None:
        return
    screen.saving = None
    if ended.state is JobState.DONE:
        result = ended.result or {}
        screen.talk.saved.add(turn.prefix)
        size, path = result.get("bytes"), str(result.get("path", ""))
        told = f" ({screen.readable(size)})" if isinstance(size, int) else ""
        main.tell(f"Saved{told}: the next question about this picture starts from it.\n{path}")
        prompt.state_saved(main, path)
    else:
        main.tell(f"{ended.reason}\n{ended.advice}".strip(), title="Not saved", severity="error")
    show_offer(screen)
    screen.show_status()
