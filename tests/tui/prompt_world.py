"""What tests of prompting share: a picture, a pool of test workers, the colour VLM as a repo in the hub cache."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Static
from tui_world import select, settle, until

from cachetui.demo.builders import Hub
from cachetui.jobs.child import Settings
from cachetui.jobs.warm import Pool
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.main import MainScreen
from cachetui.tui.screens.prompt import PromptScreen
from cachetui.tui.warmdesk import WarmDesk

COLOUR_VLM = "tests/colour-vlm"
QWEN = "Qwen/Qwen3-VL-8B-Instruct"
_WORKER = str(Path(__file__).with_name("prompt_worker.py"))
_VLM = Path(__file__).parents[1] / "data" / "colour_vlm"


def png(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> Path:
    """A picture of one colour, written without any library."""
    width, height = size

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = (b"\0" + bytes(colour) * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def scripted(app: CachetuiApp) -> CachetuiApp:
    """The app with workers that answer without a model."""
    settings = Settings(command=lambda kind: [sys.executable, _WORKER], grace=5.0)
    app.warm = WarmDesk(app.where, lambda: Pool(settings=settings))
    return app


def add_colour_vlm(home: Path) -> None:
    """The trained model as a repo of the hub cache."""
    hub = Hub(home / ".cache/huggingface/hub")
    hub.repo(COLOUR_VLM).revision({p.name: p.read_bytes() for p in _VLM.iterdir()})


async def open_prompt(pilot: Pilot[None], name: str) -> PromptScreen:
    """From the list, by key."""
    main = await settle(pilot)
    select(main, name)
    await pilot.press("p")
    return await on_prompt(pilot)


async def on_prompt(pilot: Pilot[None]) -> PromptScreen:
    """Wait for the pane."""
    await until(pilot, lambda: isinstance(pilot.app.screen, PromptScreen))
    screen = pilot.app.screen
    assert isinstance(screen, PromptScreen)
    return screen


def said(screen: PromptScreen) -> str:
    """The whole conversation as it is shown."""
    shown = screen.query("#talk Static").results(Static)
    return "\n".join(str(s.render()) for s in shown if s.display)


def answered(screen: PromptScreen) -> bool:
    """Whether nothing is under way."""
    return screen.asking is None


async def ask(pilot: Pilot[None], screen: PromptScreen, text: str, seconds: float = 30.0) -> str:
    """Type a question, wait for the end of the answer; the conversation as it is then."""
    screen.query_one("#question").focus()
    await pilot.press(*text, "enter")
    await until(pilot, lambda: answered(screen), seconds)
    return said(screen)


def line_about_jobs(main: MainScreen) -> str:
    """What the main screen says of jobs and of models in memory."""
    return main.job_line.render().plain
