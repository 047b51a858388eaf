"""Other programs that make a model: run to their end, or ended with this one."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cachetui.engine.errors import NOT_INSTALLED, UNSUPPORTED, EngineError

_PR_SET_PDEATHSIG = 1
_EVERY = 0.2
"""Seconds between two looks at it."""
_WORDS = 16384


def run(command: Sequence[str], failed: str, look: Callable[[bytes], None]) -> None:
    """Run it to its end; `look` gets its last words again and again, and what it raises ends the program.

    Raises EngineError, `failed` with the reason that the program gave.
    """
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent() if sys.platform.startswith("linux") else None,
            )
        except OSError as e:
            raise EngineError(f"{command[0]} cannot be run: {e.strerror or e}", "", NOT_INSTALLED) from e
        try:
            code = None
            while code is None:
                look(_tail(said))
                try:
                    code = process.wait(_EVERY)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            process.kill()
            process.wait()
            raise
        if code:
            raise EngineError(f"{failed}: {_reason(_tail(said), code)}", "", UNSUPPORTED)


def _die_with_parent() -> Callable[[], object]:
    """What a new process calls so that the kernel ends it with the thread that started it: a killed worker writes on
    otherwise. Found beforehand: between fork and exec nothing may be loaded.
    """
    return partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _reason(said: bytes, code: int) -> str:
    words = [" ".join(line.split()) for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    if words and code > 0:
        return words[-1][:300]
    return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"


def _tail(file: Any) -> bytes:
    end = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), _WORDS, max(0, end - _WORDS))
