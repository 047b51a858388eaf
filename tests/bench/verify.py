"""Verifying against `sha256sum` of the same files, in one run: python tests/bench/verify.py [--size 2GB] [--rounds 3]

Ratios are of whole times: ours is `verify.check` in a fresh interpreter with an empty memory, and the whole program
`cachetui verify --no-nice`; theirs is one `sha256sum` of all files. Warm: all in memory before. Cold: pages dropped
before each (posix_fadvise; as root also /proc/sys/vm/drop_caches), the order changing from round to round.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cachetui.demo.builders import Hub
from cachetui.units import parse_size, size

_CHECK = """
import json, sys, time
from cachetui.config import Where
from cachetui.scan import scan
from cachetui import verify
found = scan(Where.current())
start = time.perf_counter()
verdicts = list(verify.check(found, found.items))
print(json.dumps([time.perf_counter() - start, [v.outcome for v in verdicts], sum(v.read for v in verdicts)]))
"""


def build(home: Path, total: int, files: int) -> list[Path]:
    """A hub cache of one repo with so many files of weights; returns their blobs."""
    made = Hub(home / ".cache/huggingface/hub").repo("bench/model")
    snapshot = made.path / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (made.path / "blobs").mkdir()
    (made.path / "refs").mkdir()
    (made.path / "refs/main").write_text("a" * 40)
    blobs = []
    for n in range(files):
        part = made.path / "blobs" / f"part{n}"
        digest = hashlib.sha256()
        with part.open("wb") as f:
            left = total // files
            while left:
                block = os.urandom(min(left, 1 << 20))
                digest.update(block)
                f.write(block)
                left -= len(block)
            os.fsync(f.fileno())
        blob = part.rename(part.with_name(digest.hexdigest()))
        (snapshot / f"model-{n:05}.safetensors").symlink_to(f"../../blobs/{blob.name}")
        blobs.append(blob)
    return blobs


def drop(blobs: list[Path]) -> None:
    """Forget the pages of these files."""
    for blob in blobs:
        with blob.open("rb") as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if os.geteuid() == 0:
        try:
            Path("/proc/sys/vm/drop_caches").write_text("1")
        except OSError:
            pass


def warm(blobs: list[Path]) -> None:
    """Have the pages of these files in memory."""
    for blob in blobs:
        with blob.open("rb", buffering=0) as f:
            while f.read(1 << 20):
                pass


def measure(home: Path, blobs: list[Path]) -> dict[str, Callable[[], float]]:
    """What is timed, by name: seconds."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "PYTHONPATH", "VIRTUAL_ENV")}
    places = {"HOME": str(home), "HF_HOME": str(home / ".cache/huggingface"), "OLLAMA_HOST": "127.0.0.1:9"}
    env = kept | places | {"CACHETUI_ONLY_BELOW": str(home)}

    def forget() -> None:
        shutil.rmtree(home / ".cache/cachetui", ignore_errors=True)

    def check() -> float:
        forget()
        done = subprocess.run([sys.executable, "-c", _CHECK], env=env, capture_output=True, text=True, check=True)
        took, outcomes, read = json.loads(done.stdout)
        assert outcomes == ["intact"], outcomes
        assert read == sum(b.stat().st_size for b in blobs)
        return float(took)

    def program() -> float:
        forget()
        command = [sys.executable, "-m", "cachetui", "verify", "--no-nice"]
        start = time.perf_counter()
        subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start

    def again() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cachetui", "verify"], env=env, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start

    def sha256sum() -> float:
        start = time.perf_counter()
        subprocess.run(["sha256sum", *map(str, blobs)], stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start

    return {"sha256sum": sha256sum, "check": check, "cachetui verify": program, "cachetui verify again": again}


def main() -> None:
    """Build, time in turn, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="2GB")
    parser.add_argument("--files", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default=None, help="where to build (a disk, not memory)")
    options = parser.parse_args()
    for files in options.files:
        with tempfile.TemporaryDirectory(dir=options.dir) as folder:
            blobs = build(Path(folder), parse_size(options.size), files)
            for state, prepare in (("warm", warm), ("cold", drop)):
                table(f"{files} files, {options.size}, {state}", Path(folder), blobs, prepare, options.rounds)


def table(title: str, home: Path, blobs: list[Path], prepare: Callable[[list[Path]], None], rounds: int) -> None:
    """One state, all measures in turn."""
    measures = measure(home, blobs)
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    for n in range(rounds):
        names = list(measures)
        for name in names[:3][:: -1 if n % 2 else 1] + names[3:]:
            prepare(blobs)
            seconds[name].append(measures[name]())
    base = statistics.median(seconds["sha256sum"])
    total = sum(b.stat().st_size for b in blobs)
    print(title)
    for name, took in seconds.items():
        median = statistics.median(took)
        print(f"  {name:22} {median:7.2f} s  {median / base:5.2f}  {size(int(total / median))}/s")


if __name__ == "__main__":
    main()
