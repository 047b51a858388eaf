"""Copying a model to another file system, proven: python tests/bench/archive.py [--markdown]

Ours (read once, hashed beside, written, fsynced, read back with its pages dropped, published) against what a careful
person types: `cp -a`, `sync`, `sha256sum` of the source, and `sha256sum` of the copy with its pages dropped first. Both
in turn in one run, each in processes of its own; the pages of the source are dropped before each (a rarely used model),
and in a second table read before each. As root to an ext4 of its own in an image file, else to /dev/shm.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from run import Row, table

REACH = 0.6
FILES = 4
NAME = "models--acme--big"

_DROP = """
import os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        fd = os.open(os.path.join(folder, name), os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
"""
_OURS = """
import sys
from cachetui.fs import DISK
from cachetui.transfer.copying import copy
from cachetui.transfer.pieces import survey
from cachetui.transfer.staging import open_staging
source, target, name = sys.argv[1:]
with open_staging(DISK, f"{target}/.cachetui-incoming", "bench", {"of": source}) as staging:
    copied = copy(survey(source), staging)
    staging.publish(f"{target}/hub", name)
    staging.discard()
print("proven" if copied.proven else copied.note)
"""


def build(source: Path, size: int) -> None:
    """A repo of four files of random bytes, behind a header as safetensors has it, and a config."""
    blobs = source / "blobs"
    blobs.mkdir(parents=True)
    header = b'{"weight":{"dtype":"BF16","shape":[%d],"data_offsets":[0,%d]}}' % (size // FILES // 2, size // FILES)
    for n in range(FILES):
        with (blobs / f"{n:064x}").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for _ in range(0, size // FILES, 1 << 22):
                file.write(os.urandom(1 << 22))
    (blobs / ("0" * 40)).write_bytes(b'{"model_type": "llama"}')
    snapshot = source / "snapshots" / ("1" * 40)
    snapshot.mkdir(parents=True)
    for n in range(FILES):
        (snapshot / f"model-{n + 1:05}-of-{FILES:05}.safetensors").symlink_to(f"../../blobs/{n:064x}")
    (snapshot / "config.json").symlink_to("../../blobs/" + "0" * 40)


@contextmanager
def another_file_system(base: Path, size: int) -> Iterator[tuple[Path, str]]:
    """A folder on another file system, and what that is."""
    if os.geteuid() == 0 and shutil.which("mkfs.ext4") and shutil.which("mount"):
        image, mount = base / "image", base / "drive"
        mount.mkdir()
        with image.open("wb") as file:
            file.truncate(5 * size // 2)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        done = subprocess.run(["mount", "-o", "loop", str(image), str(mount)], capture_output=True, check=False)
        if done.returncode == 0:
            try:
                yield mount, "ext4 in an image file (loop)"
            finally:
                subprocess.run(["umount", "-l", str(mount)], check=False)
            return
    with tempfile.TemporaryDirectory(prefix="cachetui-bench-", dir="/dev/shm") as memory:
        yield Path(memory), "/dev/shm (memory)"


def by_hand(source: Path, target: Path) -> float:
    """Seconds of the careful recipe."""
    copy = target / NAME
    start = time.perf_counter()
    subprocess.run(["cp", "-a", str(source), str(copy)], check=True)
    subprocess.run(["sync"], check=True)
    _sums(source)
    subprocess.run([sys.executable, "-c", _DROP, str(copy)], check=True)
    _sums(copy)
    return time.perf_counter() - start


def _sums(folder: Path) -> None:
    files = [str(p) for p in sorted((folder / "blobs").iterdir())]
    subprocess.run(["sha256sum", *files], stdout=subprocess.DEVNULL, check=True)


def ours(source: Path, target: Path) -> float:
    """Seconds of our copy, from the start of the interpreter to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", _OURS, str(source), str(target), NAME], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def drop(source: Path) -> None:
    """The source is on its drive only."""
    subprocess.run([sys.executable, "-c", _DROP, str(source)], check=True)


def warm(source: Path) -> None:
    """The source is in memory."""
    for path in (source / "blobs").iterdir():
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 22):
                pass


def clean(target: Path) -> None:
    """The target is empty again, and nobody has anything left to write."""
    for path in target.iterdir():
        if path.name != "lost+found":
            shutil.rmtree(path)
    subprocess.run(["sync"], check=True)
    time.sleep(1)


def measure(source: Path, target: Path, rounds: int, before: Callable[[Path], None]) -> list[Row]:
    """Both in turn, the one that was second being first in the next round."""
    rows = [Row("cp -a, sync, sha256sum of both", []), Row("cachetui, copied and read back", [])]
    both = list(zip(rows, (by_hand, ours), strict=True))
    for _ in range(rounds):
        for row, run in both:
            clean(target)
            before(source)
            row.seconds.append(run(source, target))
        both.reverse()
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=2.0, help="GB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--dir", type=Path, default=None, help="where the source and the image lie; it needs 7 GB")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the drive is unmounted then too
    size = int(options.size * 1e9)
    with tempfile.TemporaryDirectory(prefix="cachetui-bench-", dir=options.dir) as folder:
        base = Path(folder)
        source = base / "source" / NAME
        build(source, size)
        with another_file_system(base, size) as (target, what):
            for state, before in (("not in memory", drop), ("in memory", warm)):
                rows = measure(source, target, options.rounds, before)
                table(f"archiving {options.size:g} GB to {what}, source {state}", rows, options.markdown)
                theirs, mine = rows
                best = min(mine.seconds) / min(theirs.seconds)
                pairs = statistics.median(m / t for m, t in zip(mine.seconds, theirs.seconds, strict=True))
                print(f"\nratio of the best {best:.2f}, of the pairs {pairs:.2f}; to reach: {REACH}", flush=True)


if __name__ == "__main__":
    main()
