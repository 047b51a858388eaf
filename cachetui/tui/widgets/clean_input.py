"""An input that holds nothing a terminal acts on, whatever is pasted into it."""

from __future__ import annotations

from textual.widgets import Input

from cachetui.text import safe


class CleanInput(Input):
    """Unsafe characters never become part of the value."""

    def validate_value(self, value: str) -> str:
        """What of it may be shown."""
        return "".join(c for c in value if safe(c) == c)
