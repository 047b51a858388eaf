"""A dialog around a list: up and down as in vi, and a line of keys that can be clicked."""

from __future__ import annotations

from typing import TypeVar

from textual import on
from textual.screen import ModalScreen
from textual.widgets import OptionList

from cachetui.tui.widgets.lines import KeyLine

Answer = TypeVar("Answer")


class ListScreen(ModalScreen[Answer]):
    """What such dialogs share; the keys are bound where they mean something."""

    def action_move(self, direction: str) -> None:
        """Up and down in the list, where there is one."""
        for options in self.query(OptionList):
            if direction == "down":
                options.action_cursor_down()
            else:
                options.action_cursor_up()

    @on(KeyLine.Pressed)
    async def _key_clicked(self, message: KeyLine.Pressed) -> None:
        message.stop()
        await self.run_action(message.command)
