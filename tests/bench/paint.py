"""What a person waits for: the first screenful of names, and a UI that answers while a million entries are read."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_HERE = Path(__file__).parent
_LIMIT = 60.0

_STALL = """
import asyncio, json, sys, time
from cachetui.config import Where
from cachetui.tui.app import CachetuiApp

async def main():
    app = CachetuiApp(Where.current())
    gaps = []
    async def beat():
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.004)
            now = time.perf_counter()
            gaps.append(now - last - 0.004)
            last = now
    async with app.run_test(size=(120, 40)) as pilot:
        task = asyncio.create_task(beat())
        keys = ["down", "down", "pagedown", "up", "end", "home"]
        n = 0
        while app.screen.shelf.reading:
            await pilot.press(keys[n % len(keys)])
            await asyncio.sleep(0.03)
            n += 1
        for _ in range(20):
            await asyncio.sleep(0.05)
        task.cancel()
        print(json.dumps([max(gaps), app.screen.shelf.count]))
asyncio.run(main())
"""


def until(command: Sequence[str], marker: bytes, env: Mapping[str, str]) -> float:
    """Seconds from exec in a pty of 120 x 40 until `marker` was written."""
    start = time.perf_counter()
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        os.execvpe(command[0], list(command), {**env, "TERM": "xterm-256color", "COLORTERM": "truecolor"})
    seen = b""
    try:
        while marker not in seen:
            ready, _, _ = select.select([fd], [], [], _LIMIT)
            if not ready:
                raise TimeoutError(f"{marker!r} did not appear")
            seen += os.read(fd, 1 << 16)
        return time.perf_counter() - start
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)


def bare(env: Mapping[str, str]) -> float:
    """First paint of the yardstick: its footer is there."""
    return until([sys.executable, str(_HERE / "bare.py")], b"quit", env)


def ours(env: Mapping[str, str]) -> float:
    """First paint of cachetui: names of repos are there."""
    return until([str(Path(sys.executable).parent / "cachetui")], b"model-0", env)


def stall(env: Mapping[str, str]) -> tuple[float, int]:
    """The longest the event loop did not answer while everything was read and keys were pressed; items shown."""
    done = subprocess.run([sys.executable, "-c", _STALL], env=dict(env), capture_output=True, text=True, check=True)
    gap, count = json.loads(done.stdout.splitlines()[-1])
    return float(gap), int(count)
