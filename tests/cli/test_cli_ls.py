"""cachetui ls: the contract that scripts rely on, and the table for people."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_shape import FILE, LS, REVISION, USER, fits
from cli_world import Run, World

from cachetui import paths
from cachetui.demo.builders import Hub, set_age

IDS = {
    "hf:org/plain", "hf:org/two", "hf:org/shared-a", "hf:org/shared-b", "hf:org/broken", "hf:datasets/org/rows",
    "ollama:llama3.2:latest", "ollama:llama3.2:3b",
}  # fmt: skip


def by_id(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {i["id"]: i for i in data["items"]}


def ids(answer: Any) -> list[str]:
    return [line for line in answer.out.splitlines() if line]


def test_json_has_its_shape_and_everything(world: World, run: Run) -> None:
    data = run("ls", "--json").data
    fits(data, LS)
    items = by_id(data)
    assert set(items) >= IDS
    assert len(items) == 9  # and the orphan layer
    assert items["hf:org/broken"]["states"] == ["damaged"]
    assert items["hf:org/broken"]["problems"][0]["code"]
    assert items["hf:org/plain"]["path"] == str(world.hub.repo("org/plain").path)
    assert items["hf:org/plain"]["states"] == ["ok"]
    assert items["hf:org/plain"]["traits"]["formats"] == ["safetensors"]
    assert {r["store"] for r in data["roots"]} >= {"hf", "ollama"}
    assert data["totals"]["items"] == len(items)


def test_own_shared_and_frees_are_three_numbers(world: World, run: Run) -> None:
    items = by_id(run("ls", "--json").data)
    shared = items["hf:org/shared-a"]
    assert shared["shared"] == 20_000
    assert shared["size"] == shared["own"] + shared["shared"]
    assert shared["frees"] <= shared["allocated"] - 20_000
    plain = items["hf:org/plain"]
    assert plain["shared"] == 0
    assert plain["frees"] == plain["allocated"]


def test_a_roots_allocated_is_what_du_says(world: World, run: Run) -> None:
    for root in run("ls", "--json").data["roots"]:
        nested = [f"--exclude={root['path']}/{n}" for n in root["nested"]]
        du = subprocess.run(["du", "-s", "-B1", *nested, root["path"]], capture_output=True, text=True, check=True)
        assert root["allocated"] == int(du.stdout.split()[0])


def test_the_id_shown_is_a_target(world: World, run: Run) -> None:
    for item in run("ls", "--json").data["items"]:
        shown = run("show", item["id"], "--root", item["root"], "--json").data
        assert shown["id"] == item["id"]


def test_list_is_ls(world: World, run: Run) -> None:
    assert ids(run("list", "-q")) == ids(run("ls", "-q"))


@pytest.mark.parametrize(
    ("options", "first"),
    [
        (["--sort", "size"], ["ollama:llama3.2:3b", "ollama:llama3.2:latest", "hf:org/shared-a", "hf:org/shared-b"]),
        (["--sort", "name:asc"], ["ollama:llama3.2:3b", "ollama:llama3.2:latest", "hf:org/broken", "hf:org/plain"]),
        (["--sort", "size:asc"], ["hf:org/broken"]),
        (["--sort", "own"], ["hf:org/two"]),
    ],
)
def test_sorts(world: World, run: Run, options: list[str], first: list[str]) -> None:
    assert ids(run("ls", "-q", *options))[: len(first)] == first


def test_last_used_newest_first_and_the_other_way(world: World, run: Run) -> None:
    set_age(world.hub.repo("org/two").path, 2, time.time())
    set_age(world.hub.repo("org/plain").path, 300, time.time())
    assert ids(run("ls", "-q", "--sort", "last-used", "--limit", "1")) == ["hf:org/two"]
    assert ids(run("ls", "-q", "--sort", "accessed:asc", "--limit", "1")) == ["hf:org/plain"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["type=dataset"], {"hf:datasets/org/rows"}),
        (["state=damaged"], {"hf:org/broken"}),
        (["store=ollama", "type=model"], {"ollama:llama3.2:3b", "ollama:llama3.2:latest"}),
        (["store=ollama type=model size>1kB name~3b"], {"ollama:llama3.2:3b"}),
        (["shared>10kB", "store=hf"], {"hf:org/shared-a", "hf:org/shared-b"}),
        (["shared-"], {"hf:org/shared-a", "hf:org/shared-b"}),
        (["size>1TB"], set()),
    ],
)
def test_filters(world: World, run: Run, filters: list[str], expected: set[str]) -> None:
    options = [o for f in filters for o in ("--filter", f)]
    assert set(ids(run("ls", "-q", *options))) == expected
    data = run("ls", "--json", *options).data
    assert set(by_id(data)) == expected
    assert data["totals"]["items"] == 9
    assert data["totals"]["listed"]["items"] == len(expected)


def test_what_several_free_together_is_more_than_each_alone(world: World, run: Run) -> None:
    data = run("ls", "--json", "--filter", "shared-").data
    assert data["totals"]["listed"]["frees"] > sum(i["frees"] for i in data["items"]) + 20_000 - 1


def test_store_and_root_choose(world: World, run: Run) -> None:
    root = str(world.ollama.path)
    assert ids(run("ls", "-q", "--store", "ollama")) == ids(run("ls", "-q", "--root", root))
    assert ids(run("ls", "-q", "--store", "hf", "--root", root)) == []
    assert root in run("ls", "--root", "/nowhere", code=1).err
    assert "hf" in run("ls", "--store", "nope", code=2).err


def test_revisions_and_files(world: World, run: Run) -> None:
    data = run("ls", "--json", "--revisions").data
    two = by_id(data)["hf:org/two"]
    fits(two["revisions"], [REVISION])
    assert {r["commit"]: r["refs"] for r in two["revisions"]} == {world.main: ["main"], world.old: []}
    assert "files" not in two["revisions"][0]
    files = by_id(run("ls", "--json", "--files").data)["hf:org/two"]["revisions"]
    fits(files, [{**REVISION, "files": [FILE]}])
    assert {f["path"] for r in files for f in r["files"]} == {"config.json", "q4.gguf", "q8.gguf"}
    lines = run("ls", "--files").out
    assert f"@{world.main} main" in lines
    assert "    q8.gguf" in lines


def test_a_filter_on_revisions_keeps_those_that_pass(world: World, run: Run) -> None:
    options = ("--revisions", "--filter", "refs=main", "--filter", "name~two")
    data = run("ls", "--json", *options).data
    assert [r["commit"] for i in data["items"] for r in i["revisions"]] == [world.main]
    assert ids(run("ls", "-q", *options)) == [f"hf:org/two@{world.main}"]
    assert f"hf:org/two@{world.main}:q4.gguf" in ids(run("ls", "-q", "--files", "--filter", "two"))


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Another process that has a file open; its pid."""
    code = f"f = open({str(path)!r}, 'rb'); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        yield reader.pid
        reader.communicate(b"\n")


def test_in_use_names_the_process_and_is_remembered(world: World, run: Run) -> None:
    with opened(next((world.hub.repo("org/two").path / "blobs").iterdir())) as pid:
        items = by_id(run("ls", "--json", "--in-use").data)
        fits(items["hf:org/two"]["in_use"], [USER])
        assert pid in [u["pid"] for u in items["hf:org/two"]["in_use"]]
        assert items["hf:org/two"]["states"] == ["in-use"]
        assert items["hf:org/plain"]["in_use"] == []
        plan = run("rm", "hf:org/two", "hf:org/plain", "--dry-run", "--json").data["plan"]
        two, plain = plan["items"]
        assert pid in [u["pid"] for u in two["in_use"]] and [c["code"] for c in two["cautions"]] == ["in-use"]
        assert plain["in_use"] == []
        assert f"({pid})" in run("ls", "--in-use").out
    assert "in_use" not in by_id(run("ls", "--json").data)["hf:org/two"]
    assert '"hf:org/two"' in paths.usage_file().read_text()
    assert ids(run("ls", "-q", "--filter", "accessed<1h")) == ["hf:org/two"]


def test_a_usage_log_that_cannot_be_written_does_not_fail_the_listing(world: World, run: Run) -> None:
    paths.usage_file().parent.parent.mkdir(parents=True, exist_ok=True)
    paths.usage_file().parent.write_text("a file where a folder should be")
    with opened(next((world.hub.repo("org/two").path / "blobs").iterdir())) as pid:
        assert f"({pid})" in run("ls", "--in-use").out


def test_problems_say_what_and_what_to_do(world: World, run: Run) -> None:
    text = run("ls", "--problems").out
    assert "hf:org/broken: " in text
    assert str(world.hub.path) in text


def test_the_last_lines_are_the_total_and_each_disk(world: World, run: Run) -> None:
    lines = run("ls").out.splitlines()
    assert lines[-2].startswith("9 items, ")
    assert " free of " in lines[-1]
    assert run("ls", "--limit", "2").out.splitlines()[-2].startswith("2 items, ")
    assert " of 9 items, " in run("ls", "--limit", "2").out


def test_a_pipe_gets_whole_ids(world: World, run: Run, home: Path) -> None:
    long = "org/" + "x" * 90
    world.hub.repo(long).revision({"config.json": b"{}"})
    assert f"hf:{long} " in run("ls").out


def test_binary_sizes(world: World, run: Run) -> None:
    assert "KiB" in run("ls", "--binary").out
    assert "KiB" not in run("ls").out
    paths.config_file().parent.mkdir(parents=True)
    paths.config_file().write_text("binary_units = true\n")
    assert "KiB" in run("ls").out


def test_an_empty_machine_says_where_it_looked_and_what_to_do(run: Run) -> None:
    answer = run("ls")
    assert answer.out.startswith("0 items")
    assert "cachetui demo" in answer.err
    data = run("ls", "--json").data
    fits(data, LS)
    assert data["items"] == []


@pytest.mark.parametrize("option", ["--cache-dir", "--model-cache-dir", "--cache_dir", "--model_cache_dir"])
def test_a_cache_dir_by_any_name_is_one_more_root(world: World, run: Run, home: Path, option: str) -> None:
    Hub(home / "mine").repo("org/here").revision({"config.json": b"{}"})
    Hub(home / "other/hub").repo("org/there").revision({"config.json": b"{}"})
    answer = run("ls", "--json", option, "mine", option, str(home / "other"))
    assert {"hf:org/here", "hf:org/there", "hf:org/plain"} <= set(by_id(answer.data))
    assert f"mine is {home / 'mine'}" in answer.err


def test_a_cache_dir_that_is_missing_or_empty_is_said(run: Run, home: Path) -> None:
    assert f"there is no folder {home / 'gone'}" in run("ls", "--cache-dir", "gone").err
    (home / "empty").mkdir()
    assert f"HF_HUB_CACHE={home / 'empty'}" in run("ls", "--cache-dir", "empty").err


def test_a_variable_that_only_old_programs_obey_is_said(
    world: World, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Hub(home / "old").repo("org/here").revision({"config.json": b"{}"})
    monkeypatch.setenv("TRANSFORMERS_CACHE", str(home / "old"))
    answer = run("ls", "--json")
    assert "transformers 5 ignores this variable" in answer.err
    assert "hf:org/here" in by_id(answer.data)
    monkeypatch.setenv("TRANSFORMERS_CACHE", str(world.hub.path))
    assert run("ls", "--json").err == ""


def test_the_same_id_in_two_roots_is_told_apart(world: World, run: Run, home: Path) -> None:
    Hub(home / "mine").repo("org/plain").revision({"config.json": b"{}"})
    text = run("ls", "--cache-dir", str(home / "mine")).out
    assert "ROOT" in text.splitlines()[0]
    assert str(home / "mine") in text


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--sort", "colour"], "last-used"),
        (["--sort", "size:up"], ":asc"),
        (["--filter", "siez>1GB"], "did you mean 'size'"),
        (["--filter", "size>"], "not finished"),
        (["--limit", "-1"], "--limit"),
        (["--nope"], "--nope"),
        (["extra"], "extra"),
    ],
)
def test_usage_errors_are_2_and_say_what_is_allowed(world: World, run: Run, args: list[str], says: str) -> None:
    assert says in run("ls", *args, code=2).err


def test_a_bad_configuration_is_1_and_a_bad_pins_file_is_said(world: World, run: Run) -> None:
    paths.config_file().parent.mkdir(parents=True)
    paths.config_file().write_text("binary_units = 3\n")
    assert str(paths.config_file()) in run("ls", code=1).err
    paths.config_file().unlink()
    paths.pins_file().parent.mkdir(parents=True, exist_ok=True)
    paths.pins_file().write_text("{")
    listed = run("ls", "--json")
    assert str(paths.pins_file()) in listed.err
    assert all("pinned" in item["states"] for item in listed.data["items"])
