"""The app: themes, and the one main screen. What it does is in screens/ and handlers/."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import ClassVar

from textual.app import App
from textual.binding import BindingType
from textual.command import Provider
from textual.screen import Screen

from cachetui.config import Where
from cachetui.tui.feed import Feed
from cachetui.tui.jobdesk import JobDesk
from cachetui.tui.messages import JobsMoved, Named
from cachetui.tui.screens.main import MainScreen
from cachetui.tui.talk import Talk
from cachetui.tui.themes import DEFAULT, THEMES
from cachetui.tui.warmdesk import WarmDesk


def _provider() -> type[Provider]:
    from cachetui.tui.palette import CommandProvider

    return CommandProvider


class CachetuiApp(App[None]):
    """cachetui in a terminal."""

    TITLE = "cachetui"
    CSS_PATH = "screens/main.tcss"  # of the default screen; Textual does not read that one's own CSS_PATH
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {_provider}
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, where: Where, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.where = where
        self.clock = clock
        """POSIX seconds that ages count from; tests stop it."""
        self.binary = where.config.binary_units
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = where.config.theme if where.config.theme in self.available_themes else DEFAULT
        self.desk = JobDesk(self._jobs_moved)
        self.warm = WarmDesk(where)
        self.talks: dict[str, Talk] = {}
        """What was asked in this run, by `Runnable.key`."""
        self._feed = Feed(self._names_came)
        self._feed.start(where)

    @property
    def main(self) -> MainScreen:
        """The main screen, whatever lies above it."""
        screen = self.screen_stack[0]
        assert isinstance(screen, MainScreen)
        return screen

    def get_default_screen(self) -> Screen[None]:
        """The main screen is the only one below."""
        return MainScreen(self._feed)

    async def action_quit(self) -> None:
        """Ctrl+Q, from any screen: asks while something runs."""
        from cachetui.tui.handlers import program

        main = self.screen_stack[0]
        if isinstance(main, MainScreen):
            program.leave(main)

    def _jobs_moved(self) -> None:
        if self._running and self.screen_stack:
            self.screen_stack[0].post_message(JobsMoved())

    def _names_came(self) -> None:
        if self._running and self.screen_stack:
            self.screen_stack[0].post_message(Named())


def run(where: Where) -> int:
    """Open the UI and return the exit code when it was left."""
    gc.disable()  # until the first picture: there is no garbage yet, and looking for it delays the names
    app = CachetuiApp(where)
    try:
        app.run()
    finally:
        app.desk.close()
        app.warm.close()
    return app.return_code or 0
