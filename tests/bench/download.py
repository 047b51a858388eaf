"""Downloads beside huggingface_hub's own, from one loopback server, in turn: python tests/bench/download.py

Ours hashes everything and makes it durable, theirs does neither. With a limited rate for each connection, as far away
servers have it, and without. Whole processes are timed; the ratio is of medians.
"""

from __future__ import annotations

import argparse
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

TOP = Path(__file__).parents[2]
SERVER = TOP / "tests" / "download" / "server.py"
OURS = """
import json, sys
from cachetui.download import pulling
pulling.pull(json.loads(sys.argv[1]), tell=lambda *_: None, cancelled=lambda: False)
"""
CASES = (
    ("one big file, no limit", 0.0, [1_000_000_000], 5),
    ("four files, no limit", 0.0, [300_000_000] * 4, 20),
    ("1,200 small files, no limit", 0.0, [], 1200),
    ("one big file, 10 MB/s a connection", 10e6, [100_000_000], 5),
    ("two files, 10 MB/s a connection", 10e6, [50_000_000] * 2, 5),
)


def environment(home: Path, endpoint: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "PYTHONPATH", "VIRTUAL_ENV")}
    return kept | {
        "HOME": str(home), "HF_HOME": str(home / "hf"), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }  # fmt: skip


def seconds(command: list[str], env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def ours(home: Path, endpoint: str, commit: str) -> float:
    job = {
        "source": "hub", "target": "hf:acme/bench", "commit": commit, "include": [], "exclude": [], "quant": "",
        "all_formats": True, "cache": str(home / "hf/hub"), "local_dir": "", "engine": "own", "origins": {},
    }  # fmt: skip
    return seconds([sys.executable, "-c", OURS, json.dumps(job)], environment(home, endpoint))


def theirs(home: Path, endpoint: str, commit: str) -> float:
    hf = str(Path(sys.executable).parent / "hf")
    return seconds([hf, "download", "acme/bench", "--revision", commit], environment(home, endpoint))


def once(run: Callable[[Path, str, str], float], endpoint: str, commit: str, folder: Path) -> float:
    home = Path(tempfile.mkdtemp(dir=folder))
    try:
        return run(home, endpoint, commit)
    finally:
        shutil.rmtree(home)
        os.sync()  # what one of them left in memory is not the other's to write


def measure(case: tuple[str, float, list[int], int], rounds: int, folder: Path) -> tuple[str, float, float]:
    name, rate, big, small = case
    command = [sys.executable, str(SERVER), "--rate", str(rate), "--small", str(small), "--big", *map(str, big)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdin is not None
        endpoint, commit = server.stdout.readline().split()
        try:
            took: dict[str, list[float]] = {"ours": [], "theirs": []}
            for _ in range(rounds):
                took["theirs"].append(once(theirs, endpoint, commit, folder))
                took["ours"].append(once(ours, endpoint, commit, folder))
        finally:
            server.stdin.close()
            server.wait(10)
    return name, statistics.median(took["ours"]), statistics.median(took["theirs"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'':<36} {'cachetui':>9} {'hf':>9}   ratio")
        for case in CASES:
            if given.only in case[0]:
                name, mine, other = measure(case, given.rounds, Path(folder))
                print(f"{name:<36} {mine:8.2f}s {other:8.2f}s   {mine / other:.2f}", flush=True)


if __name__ == "__main__":
    main()
