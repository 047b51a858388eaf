"""cachetui rm, undo, trash and history: delete, regret, get back, or free the space."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_shape import HISTORY, PLAN, RESTORE, RM, TRASH, fits
from cli_world import Run, World

from cachetui import paths
from cachetui.demo.builders import Hub

PLAIN, TWO = "hf:org/plain", "hf:org/two"


def du(path: Path) -> int:
    return int(subprocess.run(["du", "-s", "-B1", path], capture_output=True, text=True, check=True).stdout.split()[0])


def picture(world: World) -> dict[str, Any]:
    """Every name below both stores with what it holds; locks of the hub aside."""
    found: dict[str, Any] = {}
    for top in (world.hub.path, world.ollama.path):
        for folder, folders, files in os.walk(top):
            for name in folders + files:
                path = Path(folder) / name
                if path.is_symlink():
                    found[str(path)] = os.readlink(path)
                elif path.is_file():
                    found[str(path)] = path.read_bytes()
                else:
                    found[str(path)] = None
    return found


def ids(run: Run) -> set[str]:
    return set(run("ls", "-q").out.split())


def test_delete_regret_get_back(world: World, run: Run) -> None:
    before = picture(world)
    answer = run("rm", PLAIN, "ollama:llama3.2", "-y")
    assert "Goes to the trash:" in answer.out
    assert not {PLAIN, "ollama:llama3.2:latest"} & ids(run)
    assert run("undo", "-y").out.count("Back: ") == 2  # one for each root
    assert picture(world) == before
    assert "nothing to undo" in run("undo", "-y", code=1).err


def test_a_dry_run_shows_the_plan_and_changes_nothing(world: World, run: Run, home: Path) -> None:
    before, everything = picture(world), set(home.rglob("*"))
    data = run("rm", "hf:org/shared-a", "--dry-run", "--json").data
    fits(data, RM)
    fits(data["plan"], PLAN)
    assert data["outcome"] is None
    assert data["dry_run"] is True
    item = data["plan"]["items"][0]
    assert item["target"] == "hf:org/shared-a"
    assert [s["needed_by"] for s in item["stays"]] == [["hf:org/shared-b"]]
    assert len(data["plan"]["digest"]) == 64
    text = run("rm", "hf:org/shared-a", "--dry-run").out
    assert "needed by hf:org/shared-b" in text
    assert "Comes back when the trash is emptied" in text
    assert picture(world) == before
    assert set(home.rglob("*")) == everything


def test_the_plan_says_what_an_item_and_its_sharer_free_together(world: World, run: Run) -> None:
    data = run("rm", "hf:org/shared-a", "hf:org/shared-b", "--dry-run", "--json").data
    assert data["plan"]["items"][0]["stays"] == []
    assert data["plan"]["frees_when_emptied"] >= 20_000


def test_json_of_a_deletion(world: World, run: Run) -> None:
    data = run("rm", PLAIN, "-y", "--json").data
    fits(data, RM)
    assert data["outcome"]["ok"] is True
    assert data["outcome"]["moved"] == data["plan"]["frees_when_emptied"] > 0
    assert data["outcome"]["freed"] == data["plan"]["frees_now"] == 0
    assert run("trash", "--json").data["entries"][0]["id"] == data["outcome"]["operation"]


def test_a_revision_and_a_file_go_alone(world: World, run: Run) -> None:
    run("rm", f"{TWO}@{world.old[:8]}", "-y")
    shown = run("show", TWO, "--json").data["revisions"]
    assert [r["commit"] for r in shown] == [world.main]
    run("rm", f"{TWO}:q4.gguf", "-y")
    [shown] = run("show", TWO, "--json").data["revisions"]
    assert [f["path"] for f in shown["files"] if f["blob"]] == ["config.json"]
    assert not list(world.hub.repo("org/two").path.glob("snapshots/*/q4.gguf"))


def test_permanent_frees_at_once_and_leaves_nothing_to_undo(world: World, run: Run) -> None:
    data = run("rm", PLAIN, "--permanent", "-y", "--json").data
    assert data["plan"]["permanent"] is True
    assert data["outcome"]["freed"] == data["plan"]["frees_now"] > 0
    assert run("trash", "--json").data["entries"] == []
    assert PLAIN not in ids(run)


def test_a_filter_deletes_all_that_passes_and_pins_protect(world: World, run: Run) -> None:
    run("pin", "hf:org/shared-a")
    answer = run("rm", "--filter", "shared-", "-y")
    assert "Refused:\n  hf:org/shared-a: " in answer.out
    assert "hf:org/shared-a" in ids(run)
    assert "hf:org/shared-b" not in ids(run)


def test_pins_protect_from_several_targets_too_and_that_is_a_failure(world: World, run: Run) -> None:
    run("pin", PLAIN)
    run("rm", PLAIN, TWO, "-y", code=1)
    assert PLAIN in ids(run)
    assert TWO not in ids(run)


def test_targets_with_a_filter_are_only_those_that_pass(world: World, run: Run) -> None:
    run("rm", PLAIN, TWO, "--filter", "format=gguf", "-y")
    assert PLAIN in ids(run)
    assert TWO not in ids(run)


def test_an_underscore_is_a_dash_in_options_and_choices_but_not_in_names(world: World, run: Run) -> None:
    world.hub.repo("org/with_score").revision({"config.json": b"{}"})
    world.age()
    run("rm", "hf:org/with_score", "--dry_run", "--include", "in_use", "--model_cache_dir", str(world.hub.path))
    run("rm", "hf:org/with_score", "-y")
    assert "hf:org/with_score" not in ids(run)
    run("trash", "empty", "--older_than", "0d", "--dry_run")


def test_nothing_passes_is_done(world: World, run: Run) -> None:
    assert "Nothing passes" in run("rm", "--filter", "size>1TB", "-y").err
    fits(run("rm", "--filter", "size>1TB", "-y", "--json").data, RM)


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ((), 2, "--filter"),
        ((PLAIN,), 2, "add -y"),
        ((PLAIN, "--json"), 2, "add -y"),
        (("--filter", "siez>1"), 2, "did you mean"),
        ((PLAIN, "--include", "everything", "-y"), 2, "in-use"),
        (("hf:org/plian", "-y"), 1, PLAIN),
        (("hf:org/two@nope", "-y"), 1, "no revision nope"),
        ((PLAIN, "--root", "/nowhere", "-y"), 1, "/nowhere is no root"),
    ],
)  # fmt: skip
def test_what_is_refused_changes_nothing(world: World, run: Run, args: tuple[str, ...], code: int, says: str) -> None:
    before = picture(world)
    assert says in run("rm", *args, code=code).err
    assert picture(world) == before


def test_one_wrong_target_stops_all(world: World, run: Run) -> None:
    run("rm", PLAIN, "hf:no/such", "-y", code=1)
    assert PLAIN in ids(run)


def test_the_same_target_in_two_roots_needs_a_root(world: World, run: Run, home: Path) -> None:
    mine = home / "mine"
    Hub(mine).repo("org/plain").revision({"config.json": b"{}"})
    where = ("--cache-dir", str(mine))
    answer = run("rm", PLAIN, "--dry-run", *where, code=1)
    assert f"--root {mine}" in answer.err
    assert f"--root {world.hub.path}" in answer.err
    plan = run("rm", PLAIN, "--dry-run", "--json", "--root", str(mine), *where).data["plan"]
    assert [i["root"] for i in plan["items"]] == [str(mine)]


def test_a_young_download_is_not_touched_without_being_asked_for(world: World, run: Run) -> None:
    world.hub.repo("org/two").partial(b"half of it")
    target = f"{TWO}@~partial"
    plan = run("rm", target, "--dry-run", "--json").data["plan"]
    assert plan["cautions"] == ["young"]
    run("rm", target, "-y", code=1)
    assert list(world.hub.repo("org/two").path.glob("blobs/*.incomplete"))
    run("rm", target, "-y", "--include", "young")
    assert not list(world.hub.repo("org/two").path.glob("blobs/*.incomplete"))


def test_the_trash_lists_restores_one_item_and_empties(world: World, run: Run) -> None:
    operation = run("rm", PLAIN, TWO, "-y", "--json").data["outcome"]["operation"]
    data = run("trash", "--json").data
    fits(data, TRASH)
    [entry] = data["entries"]
    numbers = {i["target"]: i["number"] for i in entry["items"]}
    assert set(numbers) == {PLAIN, TWO}
    text = run("trash").out
    assert operation in text
    assert "2 items in the trash" in text
    assert "it has" in run("trash", "restore", operation, "--item", "99", "-y", code=1).err
    restored = run("trash", "restore", operation, "--item", str(numbers[TWO]), "-y", "--json").data
    fits(restored, RESTORE)
    assert TWO in ids(run)
    assert PLAIN not in ids(run)
    used = du(world.hub.path.parent)
    run("trash", "empty", operation, "-y")
    assert du(world.hub.path.parent) < used
    assert run("trash", "--json").data["entries"] == []
    assert "nothing in the trash" in run("undo", operation, "-y", code=1).err


def test_undo_by_the_beginning_of_an_operation(world: World, run: Run) -> None:
    first = run("rm", PLAIN, "-y", "--json").data["outcome"]["operation"]
    second = run("rm", TWO, "-y", "--json").data["outcome"]["operation"]
    assert "the beginning of several" in run("undo", first[:4], "-y", code=1).err
    run("undo", first, "-y")
    assert PLAIN in ids(run)
    assert TWO not in ids(run)
    fits(run("undo", second, "--dry-run", "--json").data, RESTORE)
    assert TWO not in ids(run)


def test_undo_refuses_to_overwrite_and_says_so_beforehand(world: World, run: Run) -> None:
    run("rm", PLAIN, "-y")
    world.hub.repo("org/plain").revision({"config.json": b"{}"})
    data = run("undo", "--dry-run", "--json").data
    assert [r["target"] for r in data["refused"]] == [PLAIN]
    assert "Cannot come back: hf:org/plain" in run("undo", "--dry-run").out
    assert "Not done: hf:org/plain" in run("undo", "-y", code=1).out
    assert len(run("trash", "--json").data["entries"]) == 1


def test_older_than_keeps_what_is_new(world: World, run: Run) -> None:
    run("rm", PLAIN, "-y")
    assert "Nothing to empty" in run("trash", "empty", "--older-than", "30d", "-y").err
    assert "write it like" in run("trash", "empty", "--older-than", "soon", "-y", code=2).err
    assert len(run("trash", "--json").data["entries"]) == 1
    run("trash", "empty", "--older-than", "0d", "-y")
    assert run("trash", "--json").data["entries"] == []


def test_empty_asks_where_it_can_and_refuses_where_not(world: World, run: Run) -> None:
    run("rm", PLAIN, "-y")
    assert "add -y" in run("trash", "empty", code=2).err
    assert "add -y" in run("undo", code=2).err
    run("trash", "empty", "--dry-run")
    assert len(run("trash", "--json").data["entries"]) == 1


def test_history_tells_it_newest_first(world: World, run: Run) -> None:
    assert "Nothing yet" in run("history").out
    run("rm", PLAIN, "-y")
    run("undo", "-y")
    data = run("history", "--json").data
    fits(data, HISTORY)
    assert [(r["verb"], r["targets"]) for r in data["records"]] == [("undo", [PLAIN]), ("delete", [PLAIN])]
    assert len(run("history", "--json", "--limit", "1").data["records"]) == 1
    assert PLAIN in run("history").out


def test_a_killed_deletion_is_put_right_by_the_next_start_which_says_so(world: World, run: Run, spawn: Run) -> None:
    before = picture(world)
    code = (
        "import os\nfrom cachetui.fs import Fs\nfrom cachetui.cli import cli\n"
        "call, seen = Fs._call, []\n"
        "def die(self, operation, function, *args, **kwargs):\n"
        "    result = call(self, operation, function, *args, **kwargs)\n"
        "    if operation == 'rename' and not os.getenv('NEVER'):\n        os._exit(9)\n"
        "    return result\n"
        "Fs._call = die\ncli.main(['rm', 'ollama:llama3.2:3b', 'ollama:llama3.2', '-y'])\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert killed.returncode == 9
    assert "pending: " in run("rm", PLAIN, "--dry-run").err
    assert run("ls", "--json").err.startswith(("reverted: ", "finished: "))
    assert run("ls", "--json").err == ""
    if run("trash", "--json").data["entries"]:
        run("undo", "-y")
    assert picture(world) == before


def test_the_history_is_of_this_user(run: Run) -> None:
    paths.history_file().parent.mkdir(parents=True)
    paths.history_file().write_text("nonsense\n" + json.dumps({"when": 1}) + "\n")
    assert run("history", "--json").data["records"] == []
