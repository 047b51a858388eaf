"""A copying process that is killed with SIGKILL at any moment, several times in a row, ends in an equal copy."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from copy_world import HEADER, KEY, run, value

from cachetui.transfer.staging import leftovers

_CHILD = """
import json, sys
from cachetui.fs import DISK
from cachetui.transfer.copying import copy
from cachetui.transfer.pieces import survey
from cachetui.transfer.staging import open_staging

class Told:
    def advance(self, phase, done, total, name):
        print(done, flush=True)

source, target, key, header = sys.argv[1:]
with open_staging(DISK, f"{target}/incoming", key, json.loads(header)) as staging:
    print("0", flush=True)
    print(json.dumps(copy(survey(source), staging, progress=Told()).written), "written", flush=True)
"""


def test_killed_again_and_again(tmp_path: Path) -> None:
    dice = random.Random(7)
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    for n in range(3):
        (source / f"big{n}").write_bytes(os.urandom(40_000_000))
    for n in range(300):
        (source / f"sub/{n}").write_bytes(os.urandom(3000))
    before = value(source)
    for _ in range(4):
        _killed(source, target, dice.randrange(1, 40))
        assert value(source) == before
        assert leftovers(str(target / "incoming")) in (((KEY, HEADER),), ((KEY, {}),), ())
    copied = run(source, target)
    assert value(target / "out/item") == before
    assert copied.written < copied.bytes, "the killed ones were not for nothing"


def _killed(source: Path, target: Path, hundredths: int) -> None:
    """Start a copy, and kill it when it has reported and some hundredths of a second are over."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(source), str(target), KEY, json.dumps(HEADER)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    try:
        child.wait(hundredths / 100)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.wait()
    child.stdout.close()
