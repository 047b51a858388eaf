"""The left of the prompt screen: the picture, and the fields that say how it is asked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Input, Static

from cachetui.tui.talk import DIM, Options, lowering, warmth, whole
from cachetui.tui.text import words
from cachetui.tui.widgets.clean_input import CleanInput
from cachetui.tui.widgets.fields import Cycle, PictureInput
from cachetui.tui.widgets.picture import PictureView

if TYPE_CHECKING:
    from cachetui.states import Identity
    from cachetui.tui.app import CachetuiApp

_DEVICES = ("auto", "cpu", "mps" if sys.platform == "darwin" else "cuda")
_BITS = (("0", "as stored"), ("8", "8 bits"), ("4", "4 bits"))

_TIPS = {
    "#picture-path": "a path, noise for a random picture, or nothing; Tab completes",
    "#picture-pick": "choose a picture (Ctrl+O)",
    "#lower": "lower the resolution: most pixels (250000, 500k, 1M), or a size (640x480)",
    "#system": "what the model is told before everything else",
    "#tokens": "the answer stops after so many new tokens",
    "#seed": "the same seed draws the same answer, and the same noise",
    "#temperature": "0 takes the likeliest word each time; higher is more varied",
    "#device": "where the model runs; auto takes a GPU it fits in",
    "#bits": "quantized while it is loaded: smaller, a little worse",
}


class PromptPane(VerticalScroll, can_focus=False):
    """Says that something changed; what the fields hold is asked with `options`."""

    class Changed(Message):
        """What the model would get is another thing now."""

    class Pick(Message):
        """A picture is to be picked."""

    def __init__(self, app: CachetuiApp, *, pictures: bool, quantizes: bool, placed: bool) -> None:
        super().__init__(id="prompt-left")
        self._cachetui = app
        self._pictures = pictures
        """Whether the model takes any."""
        self._quantizes = quantizes
        self._placed = placed
        """Whether the device can be chosen."""

    def compose(self) -> ComposeResult:
        """Picture, what is known of it, fields."""
        where = self._cachetui.where
        with Vertical(id="prompt-picture"):
            yield PictureView(id="picture")
            yield Static(markup=False, id="picture-about")
        with Vertical(id="prompt-fields"):
            with Horizontal(classes="field picture-field"):
                yield Static(words("picture", DIM), markup=False, classes="label")
                yield PictureInput(where.home, where.cwd, id="picture-path")
                yield Button(words("^O"), id="picture-pick")
            with Horizontal(classes="field picture-field"):
                yield Static(words("lower to", DIM), markup=False, classes="label")
                yield CleanInput(placeholder="500k, 640x480, as it is", id="lower")
            with Horizontal(classes="field"):
                yield Static(words("system", DIM), markup=False, classes="label")
                yield CleanInput(placeholder="system prompt", id="system")
            with Horizontal(classes="field"):
                yield Static(words("tokens", DIM), markup=False, classes="label")
                yield CleanInput("128", id="tokens")
                yield Static(words("seed", DIM), markup=False, classes="label second")
                yield CleanInput("0", id="seed")
            with Horizontal(classes="field"):
                yield Static(words("temp.", DIM), markup=False, classes="label")
                yield CleanInput("0", id="temperature")
                yield Cycle("on", [(d, d) for d in _DEVICES], id="device")
            with Horizontal(classes="field"):
                yield Cycle("weights ", _BITS, id="bits")
        yield Static(markup=False, id="predicted")

    def on_mount(self) -> None:
        """What does not apply is not shown."""
        for id_, tip in _TIPS.items():
            self.query_one(id_).tooltip = words(tip)
        self.set_class(not self._pictures, "-text-only")
        self.query_one("#bits").display = self._quantizes
        self.query_one("#device").display = self._placed
        self.view.tell(words("no picture: Ctrl+O", DIM))

    @property
    def view(self) -> PictureView:
        """Where the picture is drawn."""
        return self.query_one(PictureView)

    @property
    def picture(self) -> str:
        """Path, `noise` or empty."""
        return self.query_one(PictureInput).path if self._pictures else ""

    def set_picture(self, path: str) -> None:
        """One that was picked."""
        self.query_one(PictureInput).set_path(path)

    def set_like(self, who: Identity, picture: str) -> None:
        """The fields as they were for a saved state."""
        self.set_picture(picture)
        self.query_one("#system", Input).value = who.system
        lowered = str(who.max_pixels) if who.max_pixels else "x".join(map(str, who.resize or ()))
        self.query_one("#lower", Input).value = lowered

    def options(self) -> Options:
        """What the fields say. Raises ValueError with a sentence, and puts the cursor where it is wrong."""
        value = self._value
        for id_, check in (
            ("tokens", lambda: whole(value("tokens"), "tokens", 1)),
            ("seed", lambda: whole(value("seed"), "seed", 0)),
            ("temperature", lambda: warmth(value("temperature"))),
            ("lower", lambda: lowering(value("lower"))),
        ):
            try:
                check()
            except ValueError:
                self.query_one(f"#{id_}").add_class("-wrong")
                raise
            self.query_one(f"#{id_}").remove_class("-wrong")
        max_pixels, resize = lowering(value("lower"))
        return Options(
            value("system"),
            whole(value("tokens"), "tokens", 1),
            warmth(value("temperature")),
            whole(value("seed"), "seed", 0),
            max_pixels,
            resize,
            self.query_one("#device", Cycle).value if self._placed else "auto",
            int(self.query_one("#bits", Cycle).value) if self._quantizes else 0,
        )

    def _value(self, id_: str) -> str:
        return self.query_one(f"#{id_}", Input).value

    def about(self, text: Content) -> None:
        """The line below the picture."""
        self.query_one("#picture-about", Static).update(text)

    def predict(self, text: Content) -> None:
        """What it will come to."""
        self.query_one("#predicted", Static).update(text)

    @on(Input.Changed)
    @on(Cycle.Changed)
    def _changed(self, message: Message) -> None:
        message.stop()
        self.post_message(self.Changed())

    @on(Input.Submitted)
    def _entered(self, message: Input.Submitted) -> None:
        """Enter in a field goes on to the question."""
        message.stop()
        self.screen.query_one("#question").focus()

    @on(Button.Pressed, "#picture-pick")
    def _pick(self, message: Button.Pressed) -> None:
        message.stop()
        self.post_message(self.Pick())
