"""Hostile names on every screen: nothing reaches the terminal, no action fires, nothing crashes (I11)."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import hostile
import pyte
import pytest
from textual.widgets import Input
from tui_world import NOW, settle, toasts, until

from cachetui.config import Config, Where
from cachetui.jobs.model import Spec
from cachetui.jobs.runner import Settings
from cachetui.tui.app import CachetuiApp
from cachetui.tui.handlers import jobs
from cachetui.tui.jobdesk import JobDesk
from cachetui.tui.screens.archive import ArchiveScreen
from cachetui.tui.screens.ask import AskScreen
from cachetui.tui.screens.choice import ChoiceScreen
from cachetui.tui.screens.jobs import JobsScreen
from cachetui.tui.screens.plan import PlanScreen
from cachetui.tui.screens.transfer import TransferScreen
from cachetui.tui.screens.trash import TrashScreen

WORKER = str(Path(__file__).with_name("ui_worker.py"))


@pytest.fixture
def hostile_home(home: Path) -> Path:
    """A home full of such names."""
    hostile.build(home / ".cache/huggingface/hub", home / ".ollama/models", home / "models")
    return home


def _screen_text(app: CachetuiApp) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def test_every_screen_survives_hostile_names(hostile_home: Path) -> None:
    app = CachetuiApp(Where.current(), clock=lambda: NOW)
    async with app.run_test(size=(150, 50), notifications=True, tooltips=True) as pilot:
        main = await settle(pilot)
        assert len(main.shelf.scan.items if main.shelf.scan else ()) >= 2 * len(hostile.NAMES)
        seen: list[str] = []

        async def look() -> None:
            await pilot.pause()
            seen.append(_screen_text(app))

        await pilot.press("z")
        for position in range(0, len(main.models.rows), 3):
            main.models.move_to(position)
            await pilot.press("l")
            await look()
        for x in range(0, 150, 13):
            await pilot.click(offset=(x, 5 + x % 40))
        for key in ("b", "b", "b", "s", "s", "s", "y", "o", "P", "i", "i"):
            await pilot.press(key)
            await look()
        await settle(pilot)
        await pilot.press("slash")
        for name in hostile.NAMES:
            main.query_one(Input).value = name.replace("\n", "").replace("\r", "")
            await look()
        await pilot.press("escape", "asterisk", "d")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await look()
        await pilot.press("escape", "c", "P")
        await settle(pilot)
        for name in hostile.NAMES[:5:2]:
            row = next(r for r in main.models.rows if r.kind == "item" and r.title.endswith(name.replace("--", "/")))
            main.models.select(row.key)
            await pilot.press("d")
            await until(pilot, lambda: isinstance(app.screen, PlanScreen))
            await look()
            await pilot.press("y")
            await settle(pilot)
            await look()
        await pilot.press("T")
        await until(pilot, lambda: isinstance(app.screen, TrashScreen))
        await look()
        await pilot.press("X")
        await until(pilot, lambda: isinstance(app.screen, AskScreen))
        await look()
        await pilot.press("escape", "escape", "u")
        await settle(pilot)
        await look()
        await pilot.press("ctrl+p")
        await pilot.pause(0.3)
        await look()
        assert app.is_running and app.return_code is None
        everything = "\n".join(seen + toasts(pilot))
        assert hostile.offences(everything) == []
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", everything)
        assert "[@click=app.quit]quit me[" in everything
        assert r"bytes\xff\xfe\x80" in everything


async def test_jobs_and_their_reports_survive_hostile_names(hostile_home: Path, tmp_path: Path) -> None:
    app = CachetuiApp(Where.current(), clock=lambda: NOW)
    app.desk = JobDesk(app._jobs_moved, Settings(command=lambda kind: [sys.executable, WORKER], grace=5.0))
    seen: list[str] = []
    async with app.run_test(size=(150, 50), notifications=True) as pilot:
        main = await settle(pilot)

        async def look() -> None:
            await pilot.pause()
            seen.append(_screen_text(app))

        for n, request in enumerate(hostile.jobs()[::2]):
            request["until"] = str(tmp_path / "go")
            kind = ("verify", "archive")[n % 2]
            spec = Spec(f"{kind}-{n}", kind, f"archive {request['name']}", request, (str(request["name"]),))
            jobs.start(main, spec)
        await until(pilot, lambda: "50 %" in main.job_line.render().plain)
        await look()
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await look()
        await pilot.press("escape", "J")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))
        await look()
        (tmp_path / "go").touch()
        await until(pilot, lambda: not app.desk.active, 120)
        for _ in hostile.NAMES:
            await look()
            await pilot.press("enter")
            await look()
            if not isinstance(app.screen, JobsScreen):
                await pilot.press("escape")
            await pilot.press("k")
        await pilot.click(offset=(60, 20))
        await look()
        assert app.is_running and app.return_code is None
        everything = "\n".join(seen + toasts(pilot))
        assert hostile.offences(everything) == []
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", everything)
        assert "[@click=app.quit]quit me[" in everything
    app.desk.close()


def _one_line(name: str) -> str:
    return name.replace("\n", "").replace("\r", "")


async def test_dialogs_of_archiving_survive_hostile_names(hostile_home: Path) -> None:
    nowhere = hostile_home.parent / "nowhere"
    places = tuple(f"{nowhere}/{name}" for name in hostile.NAMES)
    app = CachetuiApp(replace(Where.current(), config=Config(archives=places)), clock=lambda: NOW)
    seen: list[str] = []
    async with app.run_test(size=(150, 50), notifications=True) as pilot:
        main = await settle(pilot)
        for name in hostile.NAMES[::3]:
            row = next(r for r in main.models.rows if r.kind == "item" and r.title.endswith(name.replace("--", "/")))
            main.models.select(row.key)
            await pilot.press("a")
            await until(pilot, lambda: isinstance(app.screen, ArchiveScreen))
            await pilot.pause()
            seen.append(_screen_text(app))
            app.screen.query_one("#archive-path", Input).value = f"{nowhere}/{_one_line(name)}"
            app.screen.query_one("#archive-path").focus()
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, TransferScreen))
            await pilot.pause()
            seen.append(_screen_text(app))
            await pilot.press("escape", "A")
            await until(pilot, lambda: isinstance(app.screen, TransferScreen))
            await pilot.pause()
            seen.append(_screen_text(app))
            await pilot.press("escape")
        everything = "\n".join(seen + toasts(pilot))
        assert app.is_running
        assert hostile.offences(everything) == []
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", everything)
    app.desk.close()


_RUN = "import sys; from cachetui.config import Where; from cachetui.tui.app import run; sys.exit(run(Where.current()))"


def _drive(keys: Sequence[str], columns: int = 140, lines: int = 45, run: str = _RUN) -> tuple[str, int]:
    """Everything that was written to a real pty while these keys were pressed, and the exit code.

    A key is pressed once the terminal is quiet; `key:text` waits for text on the screen after it.
    """
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 10 * columns, 20 * lines))
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", COLUMNS=str(columns), LINES=str(lines))
        os.execv(sys.executable, [sys.executable, "-c", run])
    output = b""
    screen = pyte.Screen(columns, lines)
    stream = pyte.ByteStream(screen)
    waiting, wanted = list(keys), "quit"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([fd], [], [], 0.15)[0]:
            try:
                chunk = os.read(fd, 1 << 16)
            except OSError:
                break
            output += chunk
            stream.feed(chunk.replace(b"\x1b[>4m", b"").replace(b"\x1b[>1u", b"").replace(b"\x1b[<u", b""))
        elif waiting and wanted in "\n".join(screen.display):
            key, _, wanted = waiting.pop(0).partition(":")
            os.write(fd, key.encode())
    else:
        os.kill(pid, signal.SIGKILL)
        print("\n".join(screen.display))
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return output.decode("utf-8", "replace"), os.waitstatus_to_exitcode(status)


def test_no_escape_of_a_name_reaches_a_real_terminal(hostile_home: Path) -> None:
    count = 3 * len(hostile.NAMES)
    keys = [*"zzjjljljljbGkkksgjj", "d:Move to the trash", f"y:{count - 1} items in", f"u:{count} items in", *"jyP"]
    keys += ["T:Esc back", "\x1b", "?:Acting", "\x1b", "q"]
    output, code = _drive(keys)
    assert code == 0
    assert hostile.offences(output) == []
    assert r"\x1b]52;c;" in re.sub(r"\x1b\[[0-9;]*m", "", output)


def test_no_escape_of_a_name_reaches_a_real_terminal_through_jobs(hostile_home: Path) -> None:
    keys = [*"zzj", "a:Plan it", "\x1b", "*", "v:verify", "J:Jobs", "\r:Esc", *"jjkk", "\x1b", "\x1b", "q"]
    output, code = _drive(keys)
    assert code == 0
    assert hostile.offences(output) == []
    assert r"\x1b]52;c;" in re.sub(r"\x1b\[[0-9;]*m", "", output)
