"""The command palette: every command, by its title."""

from __future__ import annotations

from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from cachetui.tui.commands import Command, all_commands, key_name
from cachetui.tui.screens.main import MainScreen


class CommandProvider(Provider):
    """Commands of the main screen."""

    def _commands(self) -> list[type[Command]]:
        return [c for c in all_commands() if c.id != "palette"] if isinstance(self.screen, MainScreen) else []

    async def discover(self) -> Hits:
        """All of them, before anything is typed."""
        for c in self._commands():
            yield DiscoveryHit(c.title, partial(c.run, self._main), help=f"{key_name(c.keys[0])}   {c.help}")

    async def search(self, query: str) -> Hits:
        """Those whose title is like what was typed."""
        matcher = self.matcher(query)
        for c in self._commands():
            if (score := matcher.match(c.title)) > 0:
                shown = matcher.highlight(c.title)
                yield Hit(score, shown, partial(c.run, self._main), help=f"{key_name(c.keys[0])}   {c.help}")

    @property
    def _main(self) -> MainScreen:
        assert isinstance(self.screen, MainScreen)
        return self.screen
