"""Where entries go, and whether there is room: said before anything is made."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from cachetui.config import Config, Where
from cachetui.quantized_entries import folders, place
from cachetui.quantized_entries.places import LEAST_MARGIN, room


def test_who_names_the_folder(where: Where, home: Path) -> None:
    default = str(home / ".cache/qwen_quantized")
    assert (place(where).path, place(where).origin) == (default, "default")
    variable = replace(where, env={**where.env, "QWEN_CACHE": "mine"})
    assert (place(variable).path, place(variable).origin, place(variable).given) == (
        str(home / "mine"),
        "QWEN_CACHE",
        "mine",
    )
    configured = replace(variable, config=Config(quant_dir="~/set"))
    assert place(configured).path == str(home / "set")
    assert place(configured, "given").path == str(home / "given")
    assert [p.path for p in folders(configured)] == [str(home / "set"), str(home / "mine"), default]
    same = replace(where, env={**where.env, "QWEN_CACHE": default})
    assert [p.origin for p in folders(same)] == ["QWEN_CACHE"]


def test_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10 * 10**9

    def statvfs(path: str) -> os.statvfs_result:
        assert path == str(tmp_path)  # the nearest folder that is there
        return os.statvfs_result((4096, 1, 0, 0, free // 1, 0, 0, 0, 0, 255))

    real = os.statvfs
    monkeypatch.setattr(os, "statvfs", statvfs)
    target = str(tmp_path / "not/there/yet")
    plenty = room(target, 10**9)
    assert (plenty.free, plenty.margin, plenty.refused, plenty.warning) == (free, LEAST_MARGIN, "", "")
    tight = room(target, free - 3 * LEAST_MARGIN)
    assert tight.refused or "will be left" in tight.warning
    close = room(target, 4 * 10**9)
    assert close.refused == "" and close.warning == ""
    full = room(target, free)
    assert "10.0 GB are needed" in full.refused and "are to stay free" in full.refused
    monkeypatch.setattr(os, "statvfs", lambda _: (_ for _ in ()).throw(OSError()))
    assert room(target, 1).free == -1 and not room(target, 1).refused
    monkeypatch.setattr(os, "statvfs", real)


def test_little_room_is_warned_of_before_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10**9
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((4096, 1, 0, 0, free, 0, 0, 0, 0, 255)))
    states = []
    for needed in range(0, free, 50_000_000):
        found = room(str(tmp_path), needed)
        states.append("refused" if found.refused else "warned" if found.warning else "fine")
    assert sorted(set(states), key=states.index) == ["fine", "warned", "refused"] and states == sorted(
        states, key=["fine", "warned", "refused"].index
    )


def disk(top: Path, number: str, path: str, rotational: str = "0", slaves: tuple[str, ...] = ()) -> None:
    """A block device as /sys shows it."""
    folder = top / "devices" / path
    (folder / "queue").mkdir(parents=True)
    (folder / "queue/rotational").write_text(rotational + "\n")
    (folder / "dev").write_text(number + "\n")
    (top / number).symlink_to(folder)
    for name in slaves:
        (folder / "slaves").mkdir(exist_ok=True)
        (folder / "slaves" / name.rpartition("/")[2]).symlink_to(top / "devices" / name)


def test_what_stands_behind_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cachetui.quantized_entries import storage

    monkeypatch.setattr(storage, "_BLOCKS", tmp_path)
    disk(tmp_path, "259:0", "pci/nvme/nvme0/nvme0n1")
    disk(tmp_path, "8:0", "pci/ata1/sda")
    disk(tmp_path, "8:16", "pci/ata2/sdb", "1")
    disk(tmp_path, "254:0", "virtio/vda", "1")
    (tmp_path / "devices/pci/ata1/sda/sda1").mkdir()
    (tmp_path / "8:1").symlink_to(tmp_path / "devices/pci/ata1/sda/sda1")
    disk(tmp_path, "253:0", "virtual/dm-0", "0", ("pci/nvme/nvme0/nvme0n1",))
    disk(tmp_path, "253:1", "virtual/dm-1", "0", ("pci/nvme/nvme0/nvme0n1", "pci/ata2/sdb"))
    found = {n: storage._solid(n) for n in ("259:0", "8:0", "8:1", "8:16", "254:0", "253:0", "253:1")}
    assert found == {
        "259:0": True, "8:0": True, "8:1": True, "8:16": False, "254:0": False, "253:0": True, "253:1": False,
    }  # fmt: skip
    with pytest.raises(OSError):
        storage._solid("9:9")
