"""cachetui show, pin, unpin, info and demo."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from cli_shape import INFO, PINS, SHOW, fits
from cli_world import Run, World

from cachetui import __version__, paths
from cachetui.demo.builders import Hub


def test_show_has_its_shape_and_tells_who_shares(world: World, run: Run) -> None:
    data = run("show", "hf:org/shared-a", "--json").data
    fits(data, SHOW)
    assert data["target"] == "hf:org/shared-a"
    assert data["shared_with"] == [{"id": "hf:org/shared-b", "root": str(world.hub.path), "size": data["shared"]}]
    [revision] = data["revisions"]
    files = {f["path"]: f for f in revision["files"]}
    assert files["model.bin"]["size"] == 20_000
    assert files["model.bin"]["blob"].startswith("blobs/")
    assert revision["refs"] == ["main"]


@pytest.mark.parametrize("target", ["hf:org/broken", "hf:org/two", "hf:datasets/org/rows", "ollama:llama3.2:3b"])
def test_every_kind_has_the_shape(world: World, run: Run, target: str) -> None:
    data = run("show", target, "--json").data
    fits(data, SHOW)
    assert target in run("show", target).out


def test_what_is_missing_is_marked(world: World, run: Run) -> None:
    data = run("show", "hf:org/broken", "--json").data
    bad = [f for r in data["revisions"] for f in r["files"] if f["problem"]]
    assert [f["path"] for f in bad] == ["model.bin"]
    assert bad[0]["blob"] is None
    text = run("show", "hf:org/broken").out
    assert "damaged" in text
    assert "problems" in text


def test_a_revision_or_a_file_shows_only_that(world: World, run: Run) -> None:
    data = run("show", f"hf:org/two@{world.old[:7]}", "--json").data
    assert data["target"] == f"hf:org/two@{world.old}"
    assert [r["commit"] for r in data["revisions"]] == [world.old]
    data = run("show", "hf:org/two:q4.gguf", "--json").data
    assert [[f["path"] for f in r["files"]] for r in data["revisions"]] == [["q4.gguf"]]


@pytest.mark.parametrize("spelling", ["model/org/two", "org/two", "hf://org/two", "hf:ORG/Two", "PATH", "RELATIVE"])
def test_spellings(world: World, run: Run, spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.hub.path)
    target = {"PATH": str(world.hub.repo("org/two").path), "RELATIVE": "./models--org--two"}.get(spelling, spelling)
    assert run("show", target, "--json").data["id"] == "hf:org/two"


def test_long_lists_are_cut_for_people_only(world: World, run: Run) -> None:
    world.hub.repo("org/many").revision({f"f{n:03}": b"%d" % n for n in range(60)})
    assert "and 20 files more" in run("show", "hf:org/many").out
    assert "f059" in run("show", "hf:org/many", "--files").out
    assert len(run("show", "hf:org/many", "--json").data["revisions"][0]["files"]) == 60


def test_nothing_of_that_name_is_1_and_offers_what_is_near(world: World, run: Run) -> None:
    answer = run("show", "hf:org/tow", code=1)
    assert answer.out == ""
    assert "hf:org/two" in answer.err
    run("show", code=2)


def test_pin_and_unpin(world: World, run: Run) -> None:
    data = run("pin", "hf:org/two", "--json").data
    fits(data, PINS)
    assert data["changed"] == 1
    assert run("ls", "-q", "--filter", "state=pinned").out.split() == ["hf:org/two"]
    shown = run("show", "hf:org/two", "--json").data
    assert (shown["pinned"], shown["states"]) == (True, ["pinned"])
    assert "already pinned" in run("pin", "hf:org/two", "hf:org/two").out
    assert "would be not pinned" in run("unpin", "hf:org/two", "--dry-run").out
    assert run("ls", "-q", "--filter", "state=pinned").out.split() == ["hf:org/two"]
    run("unpin", "hf:org/two", "-y")
    assert run("ls", "-q", "--filter", "state=pinned").out == ""


def test_a_pin_is_for_whole_items_that_exist(world: World, run: Run) -> None:
    assert "whole item" in run("pin", f"hf:org/two@{world.main}", code=1).err
    run("pin", "hf:org/two", "hf:no/such", code=1)
    assert not paths.pins_file().exists()
    run("pin", code=2)


def test_pins_that_cannot_be_read_stop_everything_that_could_delete(world: World, run: Run) -> None:
    run("pin", "hf:org/two")
    paths.pins_file().write_text('[{"root": "/x"')
    for args in (["rm", "hf:org/two", "-y"], ["pin", "hf:org/plain"], ["unpin", "hf:org/two"]):
        assert str(paths.pins_file()) in run(*args, code=1).err
    # Not even what was never pinned goes: what was protected is not known.
    run("rm", "hf:org/plain", "-y", code=1)
    run("rm", "--filter", "size>=0", "-y")
    assert world.hub.repo("org/plain").path.is_dir()
    shown = run("show", "hf:org/two", "--json")
    assert "pinned" in shown.data["states"] and str(paths.pins_file()) in shown.err
    assert world.hub.repo("org/two").path.is_dir()
    assert paths.pins_file().read_text() == '[{"root": "/x"'


def test_info_names_every_path(world: World, run: Run) -> None:
    data = run("info", "--json").data
    fits(data, INFO)
    assert data["version"] == __version__
    assert {r["path"] for r in data["roots"]} >= {str(world.hub.path), str(world.ollama.path)}
    assert data["paths"]["pins"]["path"] == str(paths.pins_file())
    run("rm", "hf:org/plain", "-y")
    assert run("info", "--json").data["trash"]
    text = run("info").out
    for path in (paths.config_file(), paths.history_file(), world.hub.path):
        assert str(path) in text


def test_demo_builds_a_world_to_use(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = home / "elsewhere"
    Hub(elsewhere).repo("real/model").revision({"config.json": b"{}"})
    (home / "models").mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(elsewhere))
    monkeypatch.setenv("CUSTOM_MODEL_DIR", str(home / "models"))
    lines = run("demo", "--build", "new world").out.splitlines()
    assert {"unset HF_HUB_CACHE", "unset CUSTOM_MODEL_DIR"} <= set(lines)
    exports = [line for line in lines if not line.startswith("unset ")]
    env = dict(shlex.split(line)[1].split("=", 1) for line in exports)
    assert all(line.startswith("export ") for line in exports)
    monkeypatch.delenv("CUSTOM_MODEL_DIR")
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("LLAMA_CACHE", str(elsewhere))
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    data = run("ls", "--json").data
    assert len(data["items"]) > 15
    assert all(r["path"].startswith(str(home / "new world")) for r in data["roots"])
    assert run("ls", "-q", "--filter", "state=pinned").out.split() == ["hf:meta-llama/Llama-3.2-3B-Instruct"]


def test_demo_does_not_build_over_anything(run: Run, home: Path) -> None:
    (home / "mine").mkdir()
    (home / "mine/file").write_text("x")
    assert "not empty" in run("demo", "--build", "mine", code=1).err
    assert os.listdir(home / "mine") == ["file"]
    data = run("demo", "--build", "fresh", "--json").data
    assert data["env"]["HOME"].startswith(str(home / "fresh"))


@pytest.mark.parametrize("args", [(), ("demo",)])
def test_the_user_interface_needs_a_terminal(run: Run, args: tuple[str, ...]) -> None:
    assert "needs a terminal" in run(*args, code=2).err
