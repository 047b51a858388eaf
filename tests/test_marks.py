"""Pins are promises: kept through damage, failing disks and several writers. The usage log is a help."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cachetui import marks, paths
from cachetui.fs import Fs
from cachetui.ledger import Scan
from cachetui.marks import Marks, MarksError
from cachetui.model import DAMAGED, OK, PINNED, Item, Root, RootScan

T = TypeVar("T")


def item(name: str = "a", root: str = "/r", **changes: Any) -> Item:
    return Item("hf:" + name, "hf", root, "model", name, name, **changes)


def test_nothing_is_pinned_on_a_fresh_machine() -> None:
    assert Marks.load() == Marks()
    assert Marks().apply(item()) == item()


def test_pins_are_kept_and_taken_away() -> None:
    marks.pin([item("a"), item("b")])
    marks.pin([item("b"), item("c", "/other")])
    assert Marks.load().pins == {("/r", "hf:a"), ("/r", "hf:b"), ("/other", "hf:c")}
    after = marks.unpin([item("b"), item("never")])
    assert after.pins == Marks.load().pins == {("/r", "hf:a"), ("/other", "hf:c")}


def test_a_pin_is_a_state_beside_the_others_of_this_root_only() -> None:
    known = marks.pin([item("a")])
    assert known.apply(item("a", states=(OK,))).states == (PINNED,)
    assert known.apply(item("a", states=(DAMAGED,))).states == (DAMAGED, PINNED)
    assert known.apply(item("a", "/other")).states == (OK,)
    root = RootScan(Root("hf", "/r", 1, 2, "default"), (item("a"), item("b")))
    assert [i.states for i in known.apply_scan(Scan((root,))).items] == [(PINNED,), (OK,)]


def test_a_root_whose_name_is_not_utf8_is_remembered() -> None:
    root = os.fsdecode(b"/r\xff")
    marks.pin([item("a", root)])
    assert Marks.load().pins == {(root, "hf:a")}


@pytest.mark.parametrize(
    "content",
    [b"", b"[", b"{}x", b"null", b"42", b'"hf:a"', b"[1]", b'[{"root": "/r"}]', b'[{"root": 1, "id": "x"}]', b"\xff",
     b"[" * 100_000],
)  # fmt: skip
def test_a_damaged_pins_file_is_never_taken_for_no_pins(content: bytes) -> None:
    marks.pin([item("a")])
    paths.pins_file().write_bytes(content)
    for act in (Marks.load, lambda: marks.pin([item("b")]), lambda: marks.unpin([item("b")])):
        with pytest.raises(MarksError, match=str(paths.pins_file())):
            act()
    assert paths.pins_file().read_bytes() == content


def test_an_object_instead_of_a_list_is_damage() -> None:
    paths.pins_file().parent.mkdir(parents=True)
    paths.pins_file().write_text("{}")
    with pytest.raises(MarksError):
        Marks.load()


def test_a_folder_in_its_place_is_said() -> None:
    paths.pins_file().mkdir(parents=True)
    with pytest.raises(MarksError, match=str(paths.pins_file())):
        Marks.load()


class Failing(Fs):
    """The disk, failing at the n-th call that changes it."""

    def __init__(self, at: int, code: int) -> None:
        self.left = at
        self.code = code

    def _call(self, operation: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        self.left -= 1
        if self.left == 0:
            raise OSError(self.code, os.strerror(self.code))
        return super()._call(operation, function, *args, **kwargs)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_wherever_the_disk_fails_the_pins_are_the_old_or_the_new(code: int) -> None:
    marks.pin([item("old")])
    for at in range(1, 50):
        failing = Failing(at, code)
        try:
            marks.pin([item("new")], fs=failing)
        except MarksError as e:
            assert str(paths.pins_file()) in str(e)
            assert Marks.load().pins in ({("/r", "hf:old")}, {("/r", "hf:old"), ("/r", "hf:new")})
            assert [p.name for p in paths.pins_file().parent.iterdir()] == ["pins.json"]
            marks.unpin([item("new")])
        if failing.left > 0:
            break
    else:
        pytest.fail("never ran clean")
    assert at > 4


def test_several_writers_lose_nothing(home: Path) -> None:
    code = (
        "import sys\nfrom cachetui import marks\nfrom cachetui.model import Item\n"
        "for n in range(15):\n    name = f'{sys.argv[1]}-{n}'\n"
        "    marks.pin([Item('hf:' + name, 'hf', '/r', 'model', name, name)])\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(n)]) for n in range(3)]
    assert [p.wait(60) for p in running] == [0, 0, 0]
    assert len(Marks.load().pins) == 45


def test_the_newer_of_atime_and_log_is_last_used() -> None:
    marks.record_use([item("a")], 2000.0)
    marks.record_use([item("a"), item("b")], 1000.0)
    known = Marks.load()
    assert known.apply(item("a", last_used=1500.0)).last_used == 2000.0
    assert known.apply(item("a", last_used=2500.0)).last_used == 2500.0
    assert known.apply(item("b", last_used=None)).last_used == 1000.0
    assert known.apply(item("c", last_used=None)).last_used is None


def test_what_cannot_be_read_of_the_log_is_skipped() -> None:
    marks.record_use([item("a")], 2000.0)
    file = paths.usage_file()
    file.write_bytes(b'\xff\n{"root": "/r"}\n[]\n{"root": "/r", "id": "hf:b", "when": "soon"}\n' + file.read_bytes())
    assert Marks.load().used == {("/r", "hf:a"): 2000.0}


def test_the_log_stays_one_line_an_item() -> None:
    for when in range(20):
        marks.record_use([item("a")], float(when))
    assert [json.loads(line)["when"] for line in paths.usage_file().read_text().splitlines()] == [19.0]
