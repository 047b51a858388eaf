"""Speed, shown as ratios measured side by side in one run: python tests/bench/run.py [small medium large]

Everything is run in turn, several rounds, each in a process of its own, caches warm; the median of each is compared.
Times of one machine mean little on another, ratios travel better. `--markdown` prints the table the README shows.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import paint
import trees

BIN = Path(sys.executable).parent
ROUNDS = {"small": 7, "medium": 5, "large": 3}

# What is timed inside the child: the call, not the interpreter's start.
_TIMED = """
import json, os, resource, sys, time
{setup}
start = time.perf_counter()
{call}
took = time.perf_counter() - start
print(json.dumps([took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""
OURS = _TIMED.format(
    setup="""from cachetui.config import Where
from cachetui.scan import scan
from cachetui.store import all_stores
all_stores()
where = Where.current()""",
    call="result = scan(where)",
)
THEIRS = _TIMED.format(setup="from huggingface_hub import scan_cache_dir, constants", call="result = scan_cache_dir()")
RESCAN = _TIMED.format(
    setup="""from cachetui.config import Where
from cachetui.scan import rescan, scan
before = scan(Where.current())
one = [i for i in before.items if i.store == "hf"][:1]""",
    call="result = rescan(before, one)",
)


@dataclass
class Row:
    """One thing measured: seconds and, where it is known, peak bytes."""

    name: str
    seconds: list[float]
    peak: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def environment(hf_home: Path, home: Path) -> dict[str, str]:
    """A process environment in which the measured cache is all there is."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "TERM", "PYTHONPATH", "VIRTUAL_ENV")}
    return kept | {"HF_HOME": str(hf_home), "HOME": str(home), "HF_HUB_OFFLINE": "1", "OLLAMA_HOST": "127.0.0.1:9"}


def inside(code: str, env: dict[str, str]) -> tuple[float, float]:
    """Seconds of the call in a fresh interpreter, and its peak memory."""
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    took, peak = json.loads(done.stdout.splitlines()[-1])
    return float(took), float(peak)


def process(command: Sequence[str], env: dict[str, str]) -> tuple[float, float]:
    """Seconds of a whole process, output thrown away."""
    code = _TIMED.format(
        setup="import subprocess", call="subprocess.run(sys.argv[1:], stdout=-3, stderr=-3, check=True)"
    ).replace("RUSAGE_SELF", "RUSAGE_CHILDREN")
    done = subprocess.run([sys.executable, "-c", code, *command], env=env, capture_output=True, text=True, check=True)
    took, peak = json.loads(done.stdout)
    return float(took), float(peak)


def side_by_side(measures: dict[str, Callable[[], tuple[float, float]]], rounds: int) -> list[Row]:
    """All measures in turn, `rounds` times after one warm-up."""
    rows = {name: Row(name, []) for name in measures}
    for n in range(rounds + 1):
        for name, measure in measures.items():
            took, peak = measure()
            if n:
                rows[name].seconds.append(took)
                rows[name].peak = max(rows[name].peak, peak)
    return list(rows.values())


def scanning(size: str, env: dict[str, str]) -> list[Row]:
    """Reading the cache: ours against the library's and against programs that only add up."""
    hub = f"{env['HF_HOME']}/hub"
    measures: dict[str, Callable[[], tuple[float, float]]] = {
        "scan_cache_dir (huggingface_hub)": lambda: inside(THEIRS, env),
        "cachetui scan": lambda: inside(OURS, env),
        "cachetui re-scan after one deletion": lambda: inside(RESCAN, env),
        "du -s": lambda: process(["du", "-s", hub], env),
    }
    if shutil.which("ncdu"):
        measures["ncdu -o"] = lambda: process(["ncdu", "-0", "-o", "/dev/null", hub], env)
    if shutil.which("gdu"):
        measures["gdu -n"] = lambda: process(["gdu", "-n", "-p", "-c", hub], env)
    return side_by_side(measures, ROUNDS[size])


def listing(size: str, env: dict[str, str]) -> list[Row]:
    """Whole processes that list as JSON."""
    measures: dict[str, Callable[[], tuple[float, float]]] = {
        "hf cache ls --json": lambda: process([str(BIN / "hf"), "cache", "ls", "--json"], env),
        "cachetui ls --json": lambda: process([str(BIN / "cachetui"), "ls", "--json"], env),
    }
    return side_by_side(measures, ROUNDS[size])


def first_paint(size: str, env: dict[str, str]) -> list[Row]:
    """From exec to the first screenful of names in a pty, against the same widgets and stylesheet without data."""
    measures: dict[str, Callable[[], tuple[float, float]]] = {
        "the same screen without data": lambda: (paint.bare(env), 0.0),
        "cachetui": lambda: (paint.ours(env), 0.0),
    }
    return side_by_side(measures, ROUNDS[size] + 2)


def table(title: str, rows: Sequence[Row], markdown: bool) -> None:
    """Print rows with their ratio to the first."""
    base = rows[0].median
    if markdown:
        print(f"\n| {title} | ratio | seconds | peak memory |\n|---|---|---|---|")
    else:
        print(f"\n{title}")
    for row in rows:
        peak = f"{row.peak / 1e6:.0f} MB" if row.peak else ""
        cells = (row.name, f"{row.median / base:.3f}", f"{row.median:.3f}", peak)
        print(f"| {' | '.join(cells)} |" if markdown else "  {:<42} {:>7} {:>9} s {:>9}".format(*cells), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=["small", "medium"], choices=list(trees.SIZES))
    parser.add_argument(
        "--dir", type=Path, default=Path(tempfile.gettempdir()) / "cachetui-bench", help="where trees are kept"
    )
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--only", choices=["scan", "ls", "paint", "stall"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        for size in options.sizes:
            hf_home = trees.tree(size, options.dir)
            env = environment(hf_home, Path(home))
            what = f"{trees.SIZES[size][0]:,} repos, {int((hf_home / '.made').read_text()):,} entries"
            for name, title, measure in (
                ("scan", "reading", scanning),
                ("ls", "listing", listing),
                ("paint", "first screen of names", first_paint),
            ):
                if options.only in (None, name):
                    table(f"{title}: {what}", measure(size, env), options.markdown)
            if options.only in (None, "stall"):
                gap, scanned = paint.stall(env)
                print(
                    f"\nlongest stall of the UI while {scanned:,} items were read: {gap * 1000:.0f} ms ({what})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
