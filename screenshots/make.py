"""Draws the pictures of the README from the demo world: python screenshots/make.py [NAME...]

Each is the real program, driven by key presses, saved as SVG by Textual and turned into PNG by headless Chromium.
The world is built at full size: its blocks are reserved, not written. It and the archive of the demo lie on file
systems of their own, sparse images that are mounted: nothing of that size is taken here, but it must run as root.
Pictures of downloads are drawn on a small world, beside the test server of tests/download.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asking
from hub import HubServer, fill
from textual.pilot import Pilot

from cachetui.config import Where, load
from cachetui.demo import build
from cachetui.jobs.model import Job
from cachetui.tui.app import CachetuiApp

HERE = Path(__file__).parent
HUB = HubServer()
FULL_SIZE = 10**9
SMALL = 10**6
DRIVE, HOME = 1000 * 10**9, 400 * 10**9
"""Bytes of the second drive, and of the one with the models."""


@dataclass(frozen=True)
class Picture:
    """One screenshot: the terminal's size and the keys that lead there."""

    name: str
    size: tuple[int, int]
    keys: Sequence[str] = ()
    wait: float = 0.6
    small: bool = False
    """From a world of a thousandth of the size: there every byte is what its hash says."""
    hub: bool = False
    """Beside a Hub of our own, on the small world."""
    asks: bool = False
    """With models that answer, on the small world."""
    quantizes: bool = False
    """With quantized models, and one to be quantized, on the small world."""


def _pull(name: str, *before: str) -> tuple[str, ...]:
    """Downloads a model; `before` happens between the plan and the job."""
    return "D", *name, "enter", "wait:2", *before, "y", "wait:0.5"


def _mark(*names: str) -> tuple[str, ...]:
    """Marks the first row whose name starts with each."""
    return tuple(f"mark:{name}" for name in names)


def _archive(name: str) -> tuple[str, ...]:
    """Archives a row to the first drive."""
    return f"at:{name}", "a", "wait:1.5", "enter", "wait:2", "y", "wait:1"


def _card(name: str) -> tuple[str, ...]:
    """Compares memory with a card."""
    return "m", "wait:0.5", *("space" if c == " " else c for c in name), "enter", "wait:1"


PICTURES = (
    Picture("main", (140, 40), ("at:Qwen/",)),
    Picture("plan", (120, 40), (*_mark("meta-llama/", "microsoft/phi", "HuggingFaceFW/", "TinyLlama/"), "d")),
    Picture("trash", (120, 30), ("T",)),
    Picture("archive", (120, 34), ("at:microsoft/phi", "a", "wait:1.5")),
    Picture("archive-plan", (120, 36), (*_mark("microsoft/phi", "TinyLlama/"), "a", "wait:1.5", "enter", "wait:2")),
    Picture("offline", (140, 40), ("at:mistralai/",)),
    Picture(
        "verify",
        (120, 36),
        (*_mark("meta-llama/", "google/gemma", "acme/half", "bartowski/"), "v", "ended", "clear", "J", "enter"),
        small=True,
    ),
    Picture("help", (120, 40), ("question_mark",)),
    Picture("narrow", (80, 24), ("at:Qwen/",)),
    Picture("wide", (210, 45), ("at:microsoft/phi",)),
    Picture(
        "jobs",
        (120, 34),
        (*_archive("HuggingFaceFW/"), "ended", *_archive("Qwen/"), *_archive("TheBloke/"), "until:20", "J", "k"),
        0.3,
    ),
    Picture("details-fit", (140, 40), (*_card("rtx 2080"), "at:Qwen/")),
    Picture("what-can-i-run", (150, 44), (*_card("rtx 2080"), "f", "wait:1.5", *("down",) * 25)),
    Picture(
        "prompt",
        (130, 34),
        (
            *("at:acme/colour", "p", "wait:1", "ctrl+o", "wait:2", "enter", "wait:2"),
            *("type:what colour is this picture ?", "enter", "answered", "ctrl+s", "wait:3"),
            *("type:describe the image .", "enter", "answered", "wait:2"),
        ),
        small=True,
        asks=True,
    ),
    Picture(
        "smoke-test",
        (130, 34),
        (
            *_mark("acme/colour", "gemma-3-270m", "google/gemma", "mistralai/", "microsoft/phi"),
            *("p", "wait:1", "enter", "tested", "k", "k", "k", "k"),
        ),
        small=True,
        asks=True,
    ),
    Picture("quantize", (120, 34), ("at:meta-llama/", "Q", "wait:2")),
    Picture(
        "quantized",
        (130, 36),
        ("at:acme/colour", "Q", "wait:2", "y", "ended", "wait:3", "at:acme/colour-vlm nf4"),
        small=True,
        asks=True,
    ),
    Picture(
        "quantizing",
        (120, 26),
        ("at:acme/helpful", "Q", "wait:2", "y", "until:30", "J", "wait:0.1"),
        0.0,
        small=True,
        quantizes=True,
    ),
    Picture("clean-up", (120, 36), ("C", "wait:0.5", "o", "wait:1.5"), small=True, quantizes=True),
    Picture("search", (120, 36), ("D", "wait:1", *"qwen", "wait:1", "down", "wait:2"), small=True, hub=True),
    Picture("pull", (120, 34), ("D", *"Qwen/Qwen3-0.6B", "enter", "wait:2"), small=True, hub=True),
    Picture("pull-quant", (120, 30), ("D", *"bartowski/Qwen3-0.6B-GGUF", "enter", "wait:2"), small=True, hub=True),
    Picture(
        "downloads",
        (120, 32),
        (
            *_pull("google/gemma-3-270m"),
            "ended",
            *_pull("Qwen/Qwen3-0.6B"),
            *_pull("HuggingFaceTB/SmolLM2-360M"),
            "until:35",
            "J",
            "k",
        ),
        small=True,
        hub=True,
    ),
    Picture(
        "download-failed",
        (120, 30),
        (*_pull("mlx-community/Qwen3-0.6B-4bit", "gate:mlx-community/Qwen3-0.6B-4bit"), "ended", "clear", "J"),
        small=True,
        hub=True,
    ),
)


def _percent(job: Job) -> float:
    p = job.progress
    return 100 * p.done / p.total if p is not None and p.phase in ("copy", "download", "load") and p.total else 0


_BUSY: dict[str, Callable[[Any], bool]] = {
    "ended": lambda main: main.cachetui.desk.active,
    "answered": lambda main: main.app.screen.asking is not None,
    "tested": lambda main: main.app.screen.running,
}


async def _do(main: Any, pilot: Pilot[None], key: str) -> None:
    """Press a key; `at:NAME` goes to a row, `mark:NAME` marks it.

    `wait:SECONDS` waits, `until:20` until the first job is at 20 %, `ended` until no job runs,
    `clear` takes what was told away, `type:TEXT` types it, `answered` and `tested` wait for models.
    """
    verb, _, name = key.partition(":")
    if verb == "gate":
        HUB.repos[name].gated = True
    elif key in _BUSY:
        while _BUSY[key](main):
            await pilot.pause(0.1)
    elif key == "clear":
        main.app.clear_notifications()
    elif verb == "until":
        while all(_percent(job) < int(name) for job in main.cachetui.desk.jobs() if not job.state.ended):
            if not main.cachetui.desk.active:
                raise SystemExit("the jobs were too quick for a picture")
            await pilot.pause(0.02)
    elif verb == "type" and name:
        await pilot.press(*("space" if c == " " else c for c in name))
    elif verb == "wait":
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
    if picture.asks:
        asking.fill(Path(where.home))
    if picture.quantizes:
        asking.fill_quantized(Path(where.home))
    app = CachetuiApp(where)
    HUB.rate = 4e6 if picture.name == "downloads" else 0.0
    async with app.run_test(size=picture.size, notifications=True) as pilot:
        while app.screen_stack[0].shelf.reading:  # type: ignore[attr-defined]
            await asyncio.sleep(0.05)
        await pilot.pause(0.3)
        for key in picture.keys:
            await _do(app.screen_stack[0], pilot, key)
            await pilot.pause(0.1)
        await pilot.pause(picture.wait)
        app.clear_notifications()
        await pilot.pause(0.5)
        svg = app.export_screenshot(title="cachetui")
    app.desk.close()
    app.warm.close()
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


@contextmanager
def drive(folder: Path, label: str, size: int) -> Iterator[Path]:
    """A file system of its own: a sparse image, mounted at a place that was not there before."""
    point, image = Path("/mnt", label), folder / f"{label}.img"
    if point.exists():
        point = folder / label
    point.mkdir()
    with image.open("wb") as f:
        f.truncate(size)
    try:
        later = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", "100000", "-E", later, "-L", label, str(image)], check=True)
        subprocess.run(["mount", "-o", "loop,noinit_itable", str(image), str(point)], check=True)
        try:
            yield point
        finally:
            subprocess.run(["umount", "-l", str(point)], check=True)
    finally:
        point.rmdir()


@contextmanager
def world(gb: int) -> Iterator[Where]:
    """The demo's world, with two deletions in its trash; its variables are those of this process meanwhile."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="cachetui-pictures-") as name:
        folder = Path(name)
        with drive(folder, "attic", DRIVE) as attic, drive(folder, "models", HOME) as models:
            place = models if gb == FULL_SIZE else folder
            env = build(place / "world", gb=gb, now=time.time(), drive=attic / "models")
            os.environ.update(env)
            os.environ.pop("NO_COLOR", None)
            quiet = {"check": True, "capture_output": True}
            subprocess.run(
                ["cachetui", "rm", "-y", "hf:mlx-community/Qwen3-0.6B-4bit", "ollama:acme/pirate:v1"], **quiet
            )
            subprocess.run(["cachetui", "rm", "-y", "hf:openai/whisper-large-v3-turbo"], **quiet)
            yield Where(dict(os.environ), env["HOME"], env["HOME"], search_roots=load().search_roots, config=load())
    os.environ.clear()
    os.environ.update(before)


def main(names: Sequence[str]) -> None:
    """Build the worlds, draw everything (or what is named), clean up."""
    chosen = [p for p in PICTURES if not names or p.name in names]
    for small, hub in ((False, False), (True, False), (True, True)):
        pictures = [p for p in chosen if (p.small, p.hub) == (small, hub)]
        if pictures and hub:
            fill(HUB)
            HUB.__enter__()
            os.environ["HF_ENDPOINT"] = HUB.endpoint
        if pictures:
            with world(SMALL if small else FULL_SIZE) as where:
                for picture in pictures:
                    print(to_png(asyncio.run(draw(where, picture))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
