"""The plan before a repair: each damaged file goes to the trash, and an equal copy takes its place."""

from __future__ import annotations

from textual.content import Content

from cachetui.tui.screens.plan import PlanScreen
from cachetui.tui.text import line, words

_DIM, _STRONG, _WARN = "$foreground-muted", "bold", "$text-warning"


class RepairScreen(PlanScreen):
    """As for a deletion, in other words."""

    def _heading(self) -> str:
        count = len(self.plan.accepted)
        return f"Repair {count} file{'' if count == 1 else 's'}" if count else "Nothing can be repaired from here"

    def _verb(self) -> str:
        return "Repair (y)"

    def _summary(self) -> Content:
        if not self.plan.accepted:
            return words("Of nothing that is damaged there is an equal copy on this machine:", _WARN)
        return line(
            ("An equal copy takes the place of each", _STRONG),
            ("; it is compared with the hash first. u undoes it", _DIM),
        )
