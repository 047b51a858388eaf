"""A box to tick whose sign, not only its colour, says whether it is ticked."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Checkbox

from cachetui.tui.text import line


class Tick(Checkbox):
    """`[x]` or `[ ]`; Space and Enter tick."""

    def render(self) -> Content:
        """Where the focus is, the box, the label."""
        box = "[x]" if self.value else "[ ]"
        here = ("▸ " if self.has_focus else "  ", "bold $accent")
        label = self.label if isinstance(self.label, Content) else Content(str(self.label))
        return Content.assemble(line(here, (f"{box} ", "bold $accent")), label)
