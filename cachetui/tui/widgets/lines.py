"""The one-line widgets around the tree: the strip of disks above, the status and the keys below."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from cachetui import units
from cachetui.tui.feed import Disk
from cachetui.tui.text import Part, clip, line
from cachetui.tui.widgets.columns import short_path


class DiskStrip(Widget):
    """What there is in all, and how full each disk is: ours `█`, others' `▒`, free `░`."""

    def __init__(self, home: str, *, binary: bool = False) -> None:
        super().__init__()
        self._home = home
        self._binary = binary
        self._heading = ""
        self._disks: tuple[Disk, ...] = ()
        self._away: tuple[str, ...] = ()

    def show(self, title: str, disks: tuple[Disk, ...], away: tuple[str, ...] = ()) -> None:
        """Another title or other disks; `away`: archive drives that are not there now. Outside strings."""
        if (title, disks, away) != (self._heading, self._disks, self._away):
            self._heading, self._disks, self._away = title, disks, away
            self.refresh()

    def render(self) -> Content:
        """As many disks as there is room for, on the right."""
        width = self.size.width
        left = line((" cachetui ", "bold $primary"), (" " + self._heading, "$foreground"))
        away = [line((clip(name, 18), "$foreground-muted"), (" offline", "$text-warning")) for name in self._away]
        right = self._fitting(width - left.cell_length - 3, away)
        tail = Content("   ").join(right)
        gap = max(width - left.cell_length - tail.cell_length - 1, 1)
        return Content.assemble(left, " " * gap, tail)

    def _fitting(self, room: int, away: list[Content]) -> list[Content]:
        """All disks, the first with a bar, as wide as may be; where they do not all fit, as many as do."""
        shown: list[Content] = []
        for first, others in ((18, 18), (18, 10), (18, 0), (10, 0), (0, 0)):
            shown = [self._disk(d, others if n else first) for n, d in enumerate(self._disks)] + away
            if sum(c.cell_length + 3 for c in shown) - 3 <= room:
                return shown
        fit: list[Content] = []
        room -= 6
        for drawn in shown:
            if drawn.cell_length + 3 <= room:
                fit.append(drawn)
                room -= drawn.cell_length + 3
        if left_out := len(shown) - len(fit):
            fit.append(line((f"+{left_out}", "$foreground-muted")))
        return fit

    def _disk(self, disk: Disk, cells: int) -> Content:
        free, total = (units.size(n, binary=self._binary) for n in (disk.free, disk.total))
        ours = units.size(disk.ours, binary=self._binary)
        parts: list[Part] = [(clip(short_path(disk.mount, self._home), 18) + " ", "$foreground-muted")]
        if cells and disk.total:
            mine = min(disk.ours / disk.total, 1.0)
            taken = min((disk.total - disk.free) / disk.total, 1.0)
            own = max(round(mine * cells), 1 if disk.ours else 0)
            other = max(round(taken * cells) - own, 0)
            parts += [
                ("█" * own, "$primary"),
                ("▒" * other, "$secondary"),
                ("░" * (cells - own - other), "$foreground-disabled"),
                (" ", ""),
            ]
        parts.append((f"{free} free of {total}", "$foreground"))
        if cells and disk.ours:
            parts.append((f", {ours} here", "$foreground-muted"))
        return line(*parts)


class StatusLine(Widget):
    """What is marked and what that would free; on the right what runs."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._left: tuple[Part, ...] = ()
        self._right: tuple[Part, ...] = ()

    def show(self, left: Sequence[Part], right: Sequence[Part]) -> None:
        """Other words."""
        if (tuple(left), tuple(right)) != (self._left, self._right):
            self._left, self._right = tuple(left), tuple(right)
            self.refresh()

    def render(self) -> Content:
        """Left, gap, right; what does not fit on the right goes first."""
        width = self.size.width
        left, right = line(" ", *self._left), line(*self._right)
        gap = width - left.cell_length - right.cell_length - 1
        if gap < 1:
            return left if self._left else line(" ", right)
        return Content.assemble(left, " " * gap, right)


class KeyLine(Widget):
    """The keys that matter here, as many as fit; a click is a key press."""

    class Pressed(Message):
        """A key of the footer was clicked."""

        def __init__(self, command: str) -> None:
            super().__init__()
            self.command = command

    def __init__(self, keys: Sequence[tuple[str, str, str]], always: int = 0) -> None:
        """`always`: so many of the last keys are shown however narrow it is."""
        super().__init__()
        self._always = always
        self._keys = tuple(keys)
        """(command, key, label)"""

    def show(self, keys: Sequence[tuple[str, str, str]]) -> None:
        """Other keys."""
        if tuple(keys) != self._keys:
            self._keys = tuple(keys)
            self.refresh()

    def _fitting(self) -> list[tuple[str, str, str]]:
        ends = len(self._keys) - self._always
        first, last = self._keys[:ends], self._keys[ends:]
        room = self.size.width - 1 - sum(len(key) + len(label) + 3 for _, key, label in last)
        out = []
        for command, key, label in first:
            room -= len(key) + len(label) + 3
            if room < -2:
                break
            out.append((command, key, label))
        return [*out, *last]

    def render(self) -> Content:
        """The line."""
        parts: list[str | Part] = [" "]
        for _, key, label in self._fitting():
            parts += [(key, "bold $accent"), (f" {label}  ", "$foreground-muted")]
        return line(*parts)

    def on_click(self, event: events.Click) -> None:
        """Find the key under the mouse."""
        edge = 1
        for command, key, label in self._fitting():
            edge += len(key) + len(label) + 3
            if event.x < edge:
                self.post_message(self.Pressed(command))
                return
