"""Deleting what lies elsewhere: the link, the archive's copy, a copy that links lead to; by plan and command line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parents[1] / "transfer"))

import second
from transfer_world import ALL, World, content, files_of, world_on

from cachetui import archives
from cachetui.cli import cli
from cachetui.config import Where
from cachetui.plans.executor import execute
from cachetui.plans.model import LINKED_FROM, Plan
from cachetui.plans.removal import prepare
from cachetui.targets import resolve

TAG = "ollama:llama3.2:3b"


@pytest.fixture
def archived(tmp_path: Path, home: Path, where: Where, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world_on(tmp_path, home, where) as made:
        monkeypatch.setenv("CACHETUI_ONLY_BELOW", str(tmp_path))
        outcome = made.do_archive("hf:acme/one", "hf:acme/left", TAG, "ollama:llama3.2:latest", keep_original=False)
        assert outcome.ok, outcome
        yield made


def plan(world: World, *targets: str, root: str | None = None, **how: bool) -> Plan:
    found = world.scan()
    return prepare(found, [s for t in targets for s in resolve(found, t, root)], **how)


def goes(made: Plan) -> dict[str, list[str]]:
    return {i.selection.item.root: [s.path for s in i.steps] for i in made.accepted}


def mounts(made: Plan) -> dict[str, int]:
    return {d.mount: d.frees_when_emptied for d in made.disks}


def test_the_link_goes_and_the_archive_stays_and_that_is_said(archived: World) -> None:
    before = files_of(archived.archive)
    made = plan(archived, "hf:acme/one", TAG)
    assert not made.cautions
    assert goes(made)[str(archived.hub.path)] == ["models--acme--one"]
    assert goes(made)[str(archived.ollama.path)][0].startswith("manifests/")
    assert made.frees_when_emptied <= 8 * 4096
    one, tag = made.notes[-2:]
    assert one == f"hf:acme/one: only the link goes; 350.0 kB stay at {archived.archive}/hub/models--acme--one"
    assert tag.startswith(f"{TAG}: only the link goes; ")
    assert execute(made, accept=ALL).ok
    assert files_of(archived.archive) == before
    assert not os.path.lexists(archived.hub.path / "models--acme--one")
    assert archived.undo().ok and archived.item("hf:acme/one").states == ("archived",)


def test_with_the_archive_both_go_and_what_comes_back_is_told_for_each_disk(archived: World) -> None:
    made = plan(archived, "hf:acme/one", TAG, with_archive=True, permanent=True)
    assert made.cautions == {"permanent"} and not made.notes
    hub, ollama = str(archived.archive / "hub"), str(archived.archive / "ollama")
    assert goes(made)[hub] == ["models--acme--one"] and goes(made)[ollama][0].startswith("manifests/")
    if os.geteuid() == 0:
        here = next(m for m in mounts(made) if m != str(archived.drive))
        assert mounts(made)[str(archived.drive)] >= 350_016 > mounts(made)[here]
    outcome = execute(made, accept=ALL)
    assert outcome.ok and outcome.freed >= 350_016
    assert "hub/models--acme--one" not in {f"hub/{p.name}" for p in (archived.archive / "hub").iterdir()}
    assert content("weights") in {p.read_bytes() for p in (archived.archive / "ollama/blobs").iterdir()}, "shared"
    assert [i.id for i in archived.scan().items if i.id == "hf:acme/one"] == []


def test_a_copy_that_links_lead_to_asks(archived: World) -> None:
    hub = str(archived.archive / "hub")
    made = plan(archived, "hf:acme/one", root=hub)
    assert made.cautions == {LINKED_FROM}
    assert str(archived.hub.path) in made.accepted[0].cautions[0].message
    refused = execute(made)
    assert not refused.ok and (archived.archive / "hub/models--acme--one").exists()
    revision = archived.item("hf:acme/one").revisions[0].commit
    assert LINKED_FROM in plan(archived, f"hf:acme/one@{revision}", root=hub).cautions
    assert execute(made, accept=frozenset({LINKED_FROM})).ok
    assert archived.item("hf:acme/one").states == ("offline",)
    assert archived.undo().ok and archived.item("hf:acme/one").states == ("archived",)


def test_parts_of_what_is_only_a_link_are_refused(archived: World) -> None:
    item = archived.item("hf:acme/one")
    made = plan(archived, f"hf:acme/one@{item.revisions[0].commit}", f"hf:acme/left:{'own.bin'}")
    assert not made.accepted
    assert all("delete single parts of it there" in i.refused for i in made.refused)


def test_of_what_is_offline_only_the_link_goes_and_the_plan_warns(archived: World) -> None:
    if os.geteuid() != 0:
        pytest.skip(second.NOT_ROOT)
    second.unmount(archived.drive)
    made = plan(archived, "hf:acme/one", with_archive=True)
    assert goes(made) == {str(archived.hub.path): ["models--acme--one"]}
    assert "which is not there, with no link to them" in made.notes[-1]
    assert execute(made, accept=ALL).ok
    assert not os.path.lexists(archived.hub.path / "models--acme--one")


# ---- command line


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments, prog_name="cachetui")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_rm_with_archive(archived: World) -> None:
    made = json.loads(run("rm", "hf:acme/one", "--with-archive", "--dry-run", "--json").stdout)["plan"]
    assert sorted(i["root"] for i in made["items"]) == sorted([str(archived.hub.path), str(archived.archive / "hub")])
    assert sum(d["frees_when_emptied"] for d in made["disks"]) == made["frees_when_emptied"]
    shown = run("rm", "hf:acme/left", "--with-archive", "--permanent", "-y")
    assert shown.exit_code == 0, shown.output
    manifest = archives.read(str(archived.archive))
    assert manifest is not None and manifest.at("hub/models--acme--left") is None, "it went for good"
    shown = run("rm", "hf:acme/one", "--with-archive", "-y")
    assert shown.exit_code == 0, shown.output
    manifest = archives.read(str(archived.archive))
    assert manifest is not None and manifest.at("hub/models--acme--one") is not None, "undo brings it back"
    if os.geteuid() == 0:
        assert f" on {archived.drive}\n" in shown.stdout
    assert not (archived.archive / "hub/models--acme--one").exists()


def test_a_filter_alone_leaves_what_lies_in_archives(archived: World) -> None:
    shown = run("rm", "--filter", "name=acme/one", "--dry-run", "--json")
    roots = [i["root"] for i in json.loads(shown.stdout)["plan"]["items"]]
    assert roots == [str(archived.hub.path)] and "1 in archives pass too and are left" in shown.stderr
    hub = str(archived.archive / "hub")
    shown = run("rm", "--filter", "name=acme/one", "--root", hub, "--dry-run", "--json")
    (item,) = json.loads(shown.stdout)["plan"]["items"]
    assert item["root"] == hub and [c["code"] for c in item["cautions"]] == [LINKED_FROM]


def test_rm_of_a_linked_copy_needs_include(archived: World) -> None:
    hub = str(archived.archive / "hub")
    assert run("rm", "hf:acme/one", "--root", hub, "-y").exit_code == 1
    assert (archived.archive / "hub/models--acme--one").exists()
    assert run("rm", "hf:acme/one", "--root", hub, "-y", "--include", "linked-from").exit_code == 0
    assert not (archived.archive / "hub/models--acme--one").exists()


def test_ls_and_show_of_what_is_archived_and_offline(archived: World) -> None:
    listed = json.loads(run("ls", "--json", "--filter", "state=archived").stdout)
    rows = {i["id"]: i for i in listed["items"]}
    assert set(rows) == {"hf:acme/one", "hf:acme/left", TAG, "ollama:llama3.2:latest"}
    one = rows["hf:acme/one"]
    assert (one["size"], one["away"], one["own"]) == (350_016, 350_016, 0)
    assert one["lies_in"] == f"{archived.archive}/hub/models--acme--one"
    assert listed["totals"]["listed"]["size"] == 0
    assert listed["totals"]["listed"]["away"] == sum(i["away"] for i in rows.values())
    assert [r["path"] for r in listed["roots"] if r["archive"]] == [
        f"{archived.archive}/hub", f"{archived.archive}/ollama",
    ]  # fmt: skip
    shown = json.loads(run("show", "hf:acme/one", "--json").stdout)
    assert shown["extra"]["archive"].startswith("in the manifest of archive")
    assert all(f["size"] is not None and not f["problem"] for r in shown["revisions"] for f in r["files"])
    text = run("ls").stdout
    assert "archived" in text and " elsewhere" in text
    if os.geteuid() != 0:
        pytest.skip(second.NOT_ROOT)
    assert f"{archived.drive}: " in text, "the drive of an archive is in the list of disks"
    second.unmount(archived.drive)
    listed = json.loads(run("ls", "--json").stdout)
    assert {i["id"] for i in listed["items"] if i["states"] == ["offline"]} == set(rows)
    (away,) = listed["offline_archives"]
    assert away["items"] == 4 and away["path"] == str(archived.archive) and away["size"] > 350_016
    text = run("ls").stdout
    assert f"offline: {archived.archive} " in text and " in 4 items" in text
    assert "last at" not in run("show", "hf:acme/one").stdout.split("archive ")[0]
