"""What the prompt pane asks for: a question of several lines, a path that completes itself, a choice of a few."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import TextArea

from cachetui.text import safe
from cachetui.tui import pictures
from cachetui.tui.text import line
from cachetui.tui.widgets.clean_input import CleanInput
from cachetui.tui.widgets.columns import short_path

if TYPE_CHECKING:
    from textual.widgets.text_area import Edit, EditResult

_TRIED = 50
"""Completions that are looked at for one that can be typed."""


class QuestionArea(TextArea):
    """Enter asks, Ctrl+J begins another line, Up and Down bring earlier questions back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Ask", show=False),
        Binding("ctrl+j,shift+enter", "new_line", "New line", show=False),
    ]

    class Submitted(Message):
        """Enter was pressed."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, earlier: Callable[[], Sequence[str]], *, id: str) -> None:
        super().__init__(id=id, compact=True, soft_wrap=True, tab_behavior="focus", highlight_cursor_line=False)
        self.placeholder = "your question; Enter asks, Ctrl+J begins a new line"
        self._earlier = earlier
        self._at = -1

    def edit(self, edit: Edit) -> EditResult:
        """Unsafe characters never become part of the text, whatever is pasted."""
        edit.text = "\n".join(
            "".join(c for c in part if safe(c) == c) for part in edit.text.replace("\t", "    ").splitlines()
        ) + ("\n" if edit.text.endswith("\n") else "")
        return super().edit(edit)

    async def _on_key(self, event: events.Key) -> None:
        """Enter is a command here."""
        if event.key in ("enter", "shift+enter", "ctrl+j"):
            event.stop()
            event.prevent_default()
            if event.key == "enter":
                self.action_submit()
            else:
                self.action_new_line()
            return
        await super()._on_key(event)

    def action_submit(self) -> None:
        """Ask."""
        self._at = -1
        self.post_message(self.Submitted(self.text))

    def action_new_line(self) -> None:
        """Another line."""
        self.insert("\n")

    def action_cursor_up(self, select: bool = False) -> None:
        """On the first line: the question before."""
        if not select and self.cursor_location[0] == 0 and self._recall(1):
            return
        super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        """On the last line: the question after."""
        if not select and self.cursor_location[0] == self.document.line_count - 1 and self._recall(-1):
            return
        super().action_cursor_down(select)

    def _recall(self, step: int) -> bool:
        earlier = self._earlier()
        at = self._at + step
        if not -1 <= at < len(earlier) or (self._at == -1 and self.text.strip()):
            return False
        self._at = at
        self.text = earlier[at] if at >= 0 else ""
        self.move_cursor(self.document.end)
        return True


class _Paths(Suggester):
    """Completes paths to pictures; looks at the disk in a thread."""

    def __init__(self, home: str, base: str) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._home, self._base = home, base

    async def get_suggestion(self, value: str) -> str | None:
        """The first that can be shown as it is."""
        if not value:
            return None
        return await asyncio.to_thread(self._first, value)

    def _first(self, value: str) -> str | None:
        found = islice(pictures.completions(value, self._home, self._base), _TRIED)
        return next((path for path in found if safe(path) == path), None)


class PictureInput(CleanInput):
    """A path to a picture, or `noise`; Tab or → takes the completion. A path that cannot be typed can be set."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "complete", "Complete", show=False)]

    def __init__(self, home: str, base: str, *, id: str) -> None:
        super().__init__(id=id, placeholder="path, noise or nothing", suggester=_Paths(home, base))
        self._home, self._base = home, base
        self._set: tuple[str, str] = ("", "")
        """(as it is shown, the path)"""

    @property
    def path(self) -> str:
        """Absolute, or `noise`, or empty."""
        shown, path = self._set
        return path if shown and self.value == shown else pictures.resolve(self.value, self._home, self._base)

    def set_path(self, path: str) -> None:
        """One that was picked: also such that could not be typed."""
        shown = safe(short_path(path, self._home))
        self._set = (shown, path)
        self.value = shown
        self.cursor_position = len(shown)

    def action_complete(self) -> None:
        """Take the completion; without one, on to the next field."""
        if self._suggestion and self.cursor_position == len(self.value):
            self.action_cursor_right()
        else:
            self.screen.focus_next()


class Cycle(Widget, can_focus=True):
    """One of a few words; Space, Enter, ← → or a click goes on to the next."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space,right", "turn(1)", "Next", show=False),
        Binding("left", "turn(-1)", "Previous", show=False),
    ]

    class Changed(Message):
        """Another one was chosen."""

    def __init__(self, label: str, choices: Sequence[tuple[str, str]], *, id: str) -> None:
        super().__init__(id=id)
        self._label = label
        self._choices = tuple(choices)
        """(value, word)"""
        self._at = 0

    @property
    def value(self) -> str:
        """What is chosen."""
        return self._choices[self._at][0]

    def action_turn(self, step: int) -> None:
        """The next one."""
        self._at = (self._at + step) % len(self._choices)
        self.refresh()
        self.post_message(self.Changed())

    def on_click(self) -> None:
        """The next one."""
        self.action_turn(1)

    def render(self) -> Content:
        """The label, and the word between signs that say it can be turned."""
        strong = "bold reverse" if self.has_focus else "bold"
        word = self._choices[self._at][1]
        return line((f"{self._label} ", "$foreground-muted"), (f"‹{word}›", strong))
