"""The program in a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time

import pytest


class Terminal:
    """The program in a pseudo terminal of 80x24."""

    def __init__(self, *args: str, **env: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell starts what runs in its background without it
            os.execvpe(
                sys.executable,
                [sys.executable, "-m", "cachetui", *args],
                {**os.environ, "TERM": "xterm-256color", **env},
            )
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.seen = b""

    def until(self, text: str = "", timeout: float = 30) -> str:
        """Read until `text` is there, or to the end."""
        stop = time.monotonic() + timeout
        while not text or text.encode() not in self.seen:
            if not select.select([self.fd], [], [], max(stop - time.monotonic(), 0))[0]:
                pytest.fail(f"{text!r} did not come: {self.seen!r}")
            try:
                chunk = os.read(self.fd, 65536)
            except OSError:
                chunk = b""
            if not chunk:
                assert not text, f"{text!r} did not come: {self.seen!r}"
                break
            self.seen += chunk
        return self.seen.decode(errors="replace")

    def send(self, text: str) -> None:
        """Type."""
        os.write(self.fd, text.encode())

    def press(self, key: str) -> int:
        """Press a key until the program ends (an interrupt that comes just before it begins to read is not noticed)."""
        for _ in range(60):
            self.send(key)
            while select.select([self.fd], [], [], 0.5)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    return self.wait()
        pytest.fail(f"it goes on: {self.seen!r}")

    def wait(self) -> int:
        """The exit code."""
        self.until()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
