"""What is in memory: the models that answer at once, what they take, and a key to let one go."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from cachetui import units
from cachetui.tui import background
from cachetui.tui.messages import Finished
from cachetui.tui.screens.listing import ListScreen
from cachetui.tui.talk import DIM
from cachetui.tui.text import clip, line, words
from cachetui.tui.widgets.lines import KeyLine

if TYPE_CHECKING:
    from cachetui.jobs.warm import Warm
    from cachetui.tui.app import CachetuiApp

_EVERY = 1.0
_KEYS = [("free", "x", "free it"), ("free_all", "X", "free all"), ("leave", "Esc", "back")]


class WarmScreen(ListScreen[None]):
    """Every loaded model; looked at anew every second, in a thread."""

    CSS_PATH = "warm.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,w,ctrl+g", "leave", "Back"),
        ("x,delete,d", "free", "Free"),
        ("X", "free_all", "Free all"),
        ("j", "move('down')", "Down"),
        ("k", "move('up')", "Up"),
    ]

    def __init__(self, app: CachetuiApp) -> None:
        super().__init__()
        self._cachetui = app
        self._shown: tuple[Warm, ...] = ()
        self._bytes = partial(units.size, binary=app.binary)

    def compose(self) -> ComposeResult:
        """The list."""
        with Vertical(id="warm") as box:
            box.border_title = words("Models in memory")
            yield Static(words("looking…", DIM), markup=False, id="warm-sum")
            yield OptionList(id="warm-list", markup=False)
            yield KeyLine(_KEYS)

    def on_mount(self) -> None:
        """Look."""
        self._look()
        self.set_interval(_EVERY, self._look)

    def _look(self) -> None:
        def came(found: tuple[Warm, ...]) -> None:
            if self.is_attached:
                self._show(found)

        if not self._cachetui.warm.looking:
            background.start(self, self._cachetui.warm.sessions, came, lambda e: None, "warm")

    @on(Finished)
    def _answered(self, message: Finished) -> None:
        message.stop()
        message.then()

    def _show(self, found: tuple[Warm, ...]) -> None:
        options = self.query_one("#warm-list", OptionList)
        same = [w.key for w in found] == [w.key for w in self._shown]
        chosen = options.highlighted
        if same:
            for n, warm in enumerate(found):
                options.replace_option_prompt_at_index(n, self._row(warm))
        else:
            options.clear_options()
            options.add_options([Option(self._row(warm)) for warm in found])
            options.highlighted = min(chosen or 0, len(found) - 1) if found else None
        options.display = bool(found)
        self._shown = found
        told = words("No model is in memory: p loads the one under the cursor, and it stays for the next question.")
        if found:
            total = sum(w.memory for w in found)
            told = line((self._bytes(total), "bold"), " in all. Each is let go when nobody asked it for a while.")
        self.query_one("#warm-sum", Static).update(told)

    def _row(self, warm: Warm) -> Content:
        width = max(self.query_one("#warm").content_size.width - 4, 20)
        memory = self._bytes(warm.memory)
        idle = max(int(self._cachetui.clock() - warm.used), 0)
        waits = f"idle for {idle // 60} min {idle % 60} s"
        state = "loading" if not warm.loaded else "answering" if warm.busy else waits
        how = " · ".join(w for w in (warm.engine, warm.device, warm.dtype, warm.quantization, state) if w)
        name = clip(warm.name, width - len(memory) - 2)
        gap = " " * max(width - len(name) - len(memory), 1)
        return Content("\n").join((line((name, "bold"), gap, memory), line((how, "$foreground 80%"))))

    # ---- keys

    @on(OptionList.OptionSelected)
    def action_free(self) -> None:
        """Let the one under the cursor go; what it answers is stopped."""
        at = self.query_one("#warm-list", OptionList).highlighted
        if at is not None and at < len(self._shown):
            self._free([self._shown[at].key])

    def action_free_all(self) -> None:
        """Let all go."""
        self._free([w.key for w in self._shown])

    def _free(self, keys: list[str]) -> None:
        def work() -> None:
            for key in keys:
                self._cachetui.warm.free(key)

        background.start(self, work, lambda _: self._look(), lambda e: None, "free")

    def action_leave(self) -> None:
        """Back; they stay in memory."""
        self.dismiss(None)
