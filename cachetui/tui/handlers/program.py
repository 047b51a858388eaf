"""Help, palette, themes, stepping back, leaving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from cachetui.tui import background, job_words
from cachetui.tui.handlers import filtering, jobs, marks, scanning
from cachetui.tui.text import line, words

if TYPE_CHECKING:
    from textual.theme import Theme

    from cachetui.jobs.model import Job
    from cachetui.tui.screens.main import MainScreen


def open_help(main: MainScreen) -> None:
    """All keys."""
    from cachetui.tui.screens.help import HelpScreen

    main.app.push_screen(HelpScreen())


def open_palette(main: MainScreen) -> None:
    """Every command by name."""
    main.app.action_command_palette()


def choose_theme(main: MainScreen) -> None:
    """Textual's own list of themes."""
    main.app.search_themes()


def keep_theme(main: MainScreen, theme: Theme) -> None:
    """The colours that were chosen are those of the next start too."""
    if theme.name == main.saved_theme:
        return
    main.saved_theme = theme.name

    def work() -> None:
        from cachetui.config_edit import save_value

        save_value("theme", theme.name)

    def failed(error: Exception) -> None:
        main.tell(f"The theme is not kept for the next start: {error}", severity="warning")

    background.start(main, work, lambda _: None, failed, "theme")


def back(main: MainScreen) -> None:
    """Stop reading; else clear the filter; else take the marks away."""
    if main.shelf.reading:
        scanning.stop(main)
    elif main.filter_text:
        filtering.clear(main)
    elif main.marked:
        marks.clear(main)


def leave(main: MainScreen) -> None:
    """Quit; while something runs only after asking."""
    if main.running is None and main.cachetui.desk.active:
        _leave_jobs(main)
        return
    if main.running is None:
        scanning.stop(main)
        main.app.exit()
        return
    from cachetui.tui.screens.ask import AskScreen

    def answer(yes: bool | None) -> None:
        if yes:
            main.app.exit()

    lines = [f"Still {main.running[0]}.", "If you leave now, the next start finishes it or takes it back, and says so."]
    main.app.push_screen(AskScreen("Leave?", lines, "Leave"), answer)


_SHOWN = 8
"""Jobs named when leaving."""


def _leave_jobs(main: MainScreen) -> None:
    """Jobs run in processes that end with this one: wait for them, or stop them, or stay."""
    from cachetui.tui.screens.choice import Answer, ChoiceScreen

    desk = main.cachetui.desk

    def answer(choice: str | None) -> None:
        desk.leaving = choice == "wait"
        if choice == "stop":
            main.running = ("stopping the jobs", None)
            background.start(main, desk.close, lambda _: main.app.exit(), lambda e: main.app.exit(), "close")
        else:
            jobs.moved(main)

    ways = [Answer("wait", "w", "Wait, then quit"), Answer("stop", "s", "Stop and quit")]
    lines = _running_jobs([j for j in desk.jobs() if not j.state.ended])
    main.app.push_screen(ChoiceScreen("Jobs are not done", lines, ways, "Stay"), answer)


def _running_jobs(running: Sequence[Job]) -> list[Content]:
    out = [line(job_words.state_word(j), f"  {j.spec.title}") for j in running[:_SHOWN]]
    if len(running) > _SHOWN:
        out.append(words(f"and {len(running) - _SHOWN} more"))
    out += [Content(""), words("Stopped now, nothing is lost: what can go on is offered at the next start.")]
    if lost := [j.spec.kind for j in running if not j.spec.resumable]:
        out.append(words(f"To be asked for again: {', '.join(dict.fromkeys(lost))}."))
    return out
