"""Draws the pictures of the README from the demo world: python screenshots/make.py

Each is the real program, driven by key presses, saved as SVG by Textual and turned into PNG by headless Chromium.
The world is built at full size where the disk has room: its blocks are reserved, not written.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from cachetui.config import Where, load
from cachetui.demo import build
from cachetui.tui.app import CachetuiApp

HERE = Path(__file__).parent
FULL_SIZE = 10**9
NEEDED = 75 * 10**9


@dataclass(frozen=True)
class Picture:
    """One screenshot: the terminal's size and the keys that lead there."""

    name: str
    size: tuple[int, int]
    keys: Sequence[str] = ()
    wait: float = 0.6


def _mark(*names: str) -> tuple[str, ...]:
    """Marks the first row whose name starts with each."""
    return tuple(f"mark:{name}" for name in names)


PICTURES = (
    Picture("main", (140, 40), ("at:Qwen/",)),
    Picture("plan", (120, 40), (*_mark("meta-llama/", "microsoft/phi", "HuggingFaceFW/", "TinyLlama/"), "d")),
    Picture("trash", (120, 30), ("T",)),
    Picture("help", (120, 40), ("question_mark",)),
    Picture("narrow", (80, 24), ("at:Qwen/",)),
    Picture("wide", (210, 45), ("at:microsoft/phi",)),
)


async def _do(main: Any, pilot: Pilot[None], key: str) -> None:
    """Press a key; `at:NAME` goes to a row, `mark:NAME` marks it, `wait:SECONDS` waits."""
    verb, _, name = key.partition(":")
    if verb == "wait":
        await pilot.pause(float(name))
    elif verb in ("at", "mark") and name:
        rows = main.models.rows
        main.models.move_to(next(n for n in range(len(rows)) if rows[n].title.startswith(name)))
        await pilot.pause()
        if verb == "mark":
            await pilot.press("space")
    else:
        await pilot.press(key)


async def draw(where: Where, picture: Picture) -> Path:
    """Drive the program there and save what it shows."""
    app = CachetuiApp(where)
    async with app.run_test(size=picture.size, notifications=True) as pilot:
        while app.screen_stack[0].shelf.reading:  # type: ignore[attr-defined]
            await asyncio.sleep(0.05)
        await pilot.pause(0.3)
        for key in picture.keys:
            await _do(app.screen_stack[0], pilot, key)
            await pilot.pause(0.1)
        await pilot.pause(picture.wait)
        svg = app.export_screenshot(title="cachetui")
    path = HERE / f"{picture.name}.svg"
    path.write_text(svg)
    return path


def to_png(svg: Path) -> Path:
    """As Chromium draws it; other converters shift the columns."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("PNG needs Chromium: apt-get install chromium")
    box = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg.read_text())
    assert box is not None
    width, height = (int(float(n)) + 1 for n in box.groups())
    page = f'<body style="margin:0;background:#0000"><img src="{svg.absolute().as_uri()}" width="{width}"></body>'
    png = svg.with_suffix(".png")
    with tempfile.TemporaryDirectory() as folder:
        html = Path(folder) / "page.html"
        html.write_text(page)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"]
        flags += ["--disable-component-update", "--disable-sync", "--no-first-run", f"--user-data-dir={folder}/profile"]
        flags += [f"--window-size={width},{height}", f"--screenshot={png}", html.as_uri()]
        subprocess.run([browser, *flags], check=True, capture_output=True)
    return png


def main() -> None:
    """Build the world, draw everything, clean up."""
    with tempfile.TemporaryDirectory(prefix="cachetui-pictures-") as folder:
        gb = FULL_SIZE if shutil.disk_usage(folder).free > NEEDED else 10**7
        env = build(Path(folder) / "world", gb=gb, now=time.time())
        os.environ.update(env)
        os.environ.pop("NO_COLOR", None)
        subprocess.run(
            ["cachetui", "rm", "-y", "hf:mlx-community/Qwen3-0.6B-4bit", "ollama:acme/pirate:v1"], check=True
        )
        subprocess.run(["cachetui", "rm", "-y", "hf:openai/whisper-large-v3-turbo"], check=True)
        where = Where(dict(os.environ), env["HOME"], env["HOME"], search_roots=load().search_roots, config=load())
        for picture in PICTURES:
            print(to_png(asyncio.run(draw(where, picture))), flush=True)


if __name__ == "__main__":
    main()
