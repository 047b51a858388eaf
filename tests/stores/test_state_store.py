"""Saved states as a store: found by content, in folders whose other content is nobody's business."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from second import second
from state_world import COMMIT, REPO, save

from cachetui import paths, state_folders, verify
from cachetui.config import Config, ConfigError, Where, load
from cachetui.demo.builders import Hub, local_dir, safetensors_bytes, write
from cachetui.filters import compile_filter
from cachetui.ledger import Scan
from cachetui.marks import Marks, pin
from cachetui.model import ARCHIVED, DAMAGED, OFFLINE, PARTIAL, PINNED, Item
from cachetui.plans.executor import execute
from cachetui.plans.places import candidates
from cachetui.plans.removal import prepare
from cachetui.plans.trash import entries, restore
from cachetui.scan import find_roots, rescan, scan
from cachetui.state_models import STALE
from cachetui.states import check, form
from cachetui.store import Selection, store_named
from cachetui.targets import TargetNotFound, resolve
from cachetui.transfer import archiving, moving, restoring
from cachetui.tui.feed import Batch, figures_of
from cachetui.tui.rows import View, build
from cachetui.tui.shelf import Shelf

sys.path.insert(0, str(Path(__file__).parents[1] / "plans"))

from plans_world import FAULTS, FaultyFs, Killed

STORE = store_named("state")
WEIGHTS = safetensors_bytes({"w": ("F32", (500,))})
CONFIG = b'{"model_type": "llama"}'
PICKLE = b"\x80\x04\x95" + bytes(900)


@pytest.fixture
def mine(home: Path) -> Path:
    """A folder of the user's with two states among other things."""
    folder = home / "work" / "photos"
    save(folder / "a_cache.pt", images=("a.png",), tokens=20)
    save(folder / "b.state", images=("b.png", "c.png"), tokens=30)
    write(folder / "holiday.jpg", b"\xff\xd8\xff" + bytes(50_000))
    write(folder / "model.safetensors", WEIGHTS)
    write(folder / "real_cache.pt", PICKLE)
    write(folder / "below" / "letter.txt", b"dear")
    save(folder / "below" / "deeper.pt")
    (folder / "gone").symlink_to("/nowhere/at/all")
    os.mkfifo(folder / "pipe")
    state_folders.remember(str(folder))
    return folder


def states(where: Where) -> Scan:
    return scan(where, stores=["state"])


def snapshot(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_mode)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.is_symlink()
    }


def problems(item: Item) -> list[str]:
    return [p.code for p in item.problems]


def only(found: Scan) -> Item:
    (item,) = found.items
    return item


def test_in_a_folder_of_the_users_only_states_are_items_and_counted(mine: Path, where: Where) -> None:
    (root,) = states(where).roots
    assert [i.id for i in root.items] == ["state:a_cache.pt", "state:b.state"]
    assert root.root.ours_only and root.other == 0 and not root.problems and not root.nested
    assert root.size == sum((mine / n).stat().st_size for n in ("a_cache.pt", "b.state"))
    assert root.allocated == sum((mine / n).stat().st_blocks * 512 for n in ("a_cache.pt", "b.state"))
    assert {s.id for s in STORE.stubs(root.root)} == {i.id for i in root.items}


def test_what_a_header_says_is_shown(mine: Path, where: Where) -> None:
    a, b = states(where).items
    rows = dict(b.extra)
    assert (rows["belongs to"], rows["at commit"], rows["tokens"]) == (f"hf:{REPO}", COMMIT, "30")
    assert rows["pictures"] == "b.png 64x48, c.png 64x48" and rows["system"].startswith("You are")
    assert (a.traits.family, a.traits.quantization, a.last_modified) == ("qwen3_vl", "bfloat16", 1.7e9)
    again = f"cachetui state save hf:{REPO} --image b.png --image c.png --together --output {mine}/b.state"
    assert rows["made with"] == again


def test_reading_leaves_every_access_time(mine: Path, where: Where) -> None:
    for path in mine.iterdir():
        os.utime(path, (10**9, 2 * 10**9), follow_symlinks=False)
    found = states(where)
    for item in found.items:
        STORE.expected(item)
    files = [p for p in mine.iterdir() if not p.is_symlink() and p.name != "below"]
    assert len(files) == 6 and {p.stat().st_atime for p in files} == {1e9}


def test_a_folder_of_very_many_files_is_looked_at_by_name(
    mine: Path, where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachetui.state_items.MANY", 3)
    assert [i.id for i in states(where).items] == ["state:a_cache.pt"]


def test_the_default_folder_is_ours_alone(home: Path, where: Where) -> None:
    folder = paths.states_dir()
    save(folder / "one.safetensors")
    write(folder / "junk", bytes(9000))
    (root,) = states(where).roots
    assert (root.root.path, root.root.origin, root.root.ours_only) == (str(folder), "default", False)
    assert only(states(where)).name == "one" and root.other > 9000


def test_environment_then_configuration_name_the_default_folder(home: Path, where: Where) -> None:
    configured = replace(where, config=Config(state_dir="~/kept"))
    both = replace(configured, env={**where.env, state_folders.VARIABLE: "~/elsewhere"})
    assert state_folders.default(where).ours
    assert state_folders.default(configured).path == str(home / "kept")
    assert state_folders.default(both).path == str(home / "elsewhere")
    save(home / "elsewhere" / "x.pt")
    save(home / "kept" / "never")
    save(paths.states_dir() / "y.safetensors")
    assert {i.id for i in states(both).items} == {"state:x.pt", "state:y.safetensors"}


def test_the_configured_folder_must_be_text(home: Path) -> None:
    write(paths.config_file(), b'state_dir = ["a"]\n')
    with pytest.raises(ConfigError, match="state_dir must be a folder"):
        load()
    write(paths.config_file(), b'state_dir = "~/s"\n')
    assert load().state_dir == "~/s"


def test_folders_are_remembered_once_and_forgotten_when_gone(home: Path, where: Where) -> None:
    first, odd = home / "a", home / "b\udcff\n"
    for folder in (first, odd):
        folder.mkdir()
        assert state_folders.note(str(folder), where) == ""
    assert not state_folders.remember(str(first))
    assert state_folders.known() == (str(first), str(odd))
    first.rmdir()
    state_folders.remember(str(odd))
    assert state_folders.known() == (str(odd),)


def test_a_folder_whose_drive_is_away_is_not_gone(home: Path) -> None:
    here = home / "here"
    here.mkdir()
    rows = [{"folder": f"{home}/drive/states", "device": os.stat(home).st_dev + 1}]
    write(paths.state_folders_file(), json.dumps(rows).encode())
    state_folders.remember(str(here))
    assert state_folders.known() == (f"{home}/drive/states", str(here))


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'[1, {}, {"folder": 3}]', b"[" * 99_999, b'[{"folder": "x", "device": 1}]']
)
def test_a_list_of_folders_that_is_no_list_is_none(home: Path, where: Where, text: bytes) -> None:
    write(paths.state_folders_file(), text)
    assert state_folders.known() == () and states(where).items == ()
    home.joinpath("n").mkdir()
    assert state_folders.remember(str(home / "n")) and state_folders.known() == (str(home / "n"),)


@pytest.mark.parametrize("fault", FAULTS)
def test_remembering_is_all_or_nothing(home: Path, fault: str) -> None:
    old, new = home / "old", home / "new"
    old.mkdir()
    new.mkdir()
    state_folders.remember(str(old))
    for at in range(1, 30):
        fs = FaultyFs(at, fault)
        try:
            state_folders.remember(str(new), fs=fs)
        except (OSError, Killed):
            pass
        assert state_folders.known() in ((str(old),), (str(old), str(new)))
        if not fs.hit:
            break
        rows = [{"folder": str(old), "device": os.stat(old).st_dev}]
        write(paths.state_folders_file(), json.dumps(rows).encode())
    assert state_folders.known() == (str(old), str(new)) and at > 4
    assert [p.name for p in paths.state_folders_file().parent.iterdir()] == ["state_folders.json"]


def test_states_among_folders_of_models_hide_no_model(home: Path, where: Where) -> None:
    models = home / "models"
    write(models / "tiny" / "config.json", CONFIG)
    write(models / "tiny" / "model.safetensors", WEIGHTS)
    write(models / "caches" / "lora.bin", WEIGHTS)
    save(models / "top_cache.pt")
    save(models / "states" / "one")
    save(models / "states" / "two.safetensors")
    save(models / "caches" / "among.pt")
    for folder in (models, models / "states"):
        state_folders.remember(str(folder))
    assert [r.store for r in find_roots(where)[0]] == ["dir"]
    found = scan(where)
    kinds = {i.id: (i.store, i.kind) for i in found.items}
    assert kinds == {
        f"dir:{models}/tiny": ("dir", "folder"),
        f"dir:{models}/caches": ("dir", "folder"),
        "state:top_cache.pt": ("state", "state"),
        "state:states/one": ("state", "state"),
        "state:states/two.safetensors": ("state", "state"),
    }
    assert {s.id for s in store_named("dir").stubs(found.roots[0].root)} == set(kinds)
    (selection,) = resolve(found, "state:states/one")
    assert execute(prepare(found, [selection])).ok
    assert not (models / "states" / "one").exists() and (models / "states" / "two.safetensors").exists()


def test_a_folder_inside_another_store_hides_nothing_of_that(home: Path, where: Where) -> None:
    assets = home / ".cache" / "huggingface" / "assets"
    write(assets / "lib" / "a.json", bytes(9000))
    before = {r.root.path: r.allocated for r in scan(where, stores=["hf-home"]).roots}
    state_folders.remember(str(assets / "lib"))
    found = scan(where)
    assert {r.root.path: r.allocated for r in found.roots if r.root.store == "hf-home"} == before
    assert [r.nested for r in found.roots if r.root.store == "hf-home"] == [()] and before


def damage(path: Path, at: int, byte: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    data[at] = data[at] ^ 0x55 if byte is None else byte
    path.write_bytes(data)


def verdict(where: Where, full: bool = False) -> tuple[str, list[str]]:
    found = states(where)
    (one,) = verify.check(found, found.items, full=full)
    return one.outcome, [f.code for f in one.findings]


def test_verify_compares_every_byte(home: Path, where: Where) -> None:
    path = paths.states_dir() / "x.safetensors"
    info = save(path)
    assert verdict(where) == ("intact", [])
    good = path.read_bytes()
    with path.open("rb") as f:
        data_at = form.read_header(f.fileno()).data_at
    for at in (data_at, len(good) - 1, (data_at + len(good)) // 2):
        damage(path, at)
        assert check(str(path)) is not None
        assert verdict(where) == ("damaged", ["hash"])
        path.write_bytes(good)
    found = states(where)
    damage(path, data_at)
    (one,) = verify.check(found, found.items)
    assert one.findings[0].offer.startswith("delete it and save it again: cachetui state save hf:org/name")
    path.write_bytes(good)
    assert info.bytes == len(good) and verdict(where) == ("intact", [])


@pytest.mark.parametrize("how", ["header", "cut", "empty data", "long", "length"])
def test_what_is_damaged_is_still_an_item_and_says_so(home: Path, where: Where, how: str) -> None:
    path = paths.states_dir() / "x.safetensors"
    save(path)
    good = path.read_bytes()
    if how == "header":
        damage(path, good.index(b'"org/name') if b'"org/name' in good else good.index(b"org/name"))
    elif how == "length":
        damage(path, 2)
    else:
        path.write_bytes({"cut": good[:-5], "empty data": good[:200], "long": good + b"x"}[how])
    item = only(states(where))
    assert DAMAGED in item.states and problems(item) == ["damaged-state"] and item.size == path.stat().st_size
    assert verdict(where) == ("damaged", ["damaged-state"])
    assert execute(prepare(states(where), [Selection(item)])).ok and not path.exists()


def test_a_newer_format_is_not_damage(home: Path, where: Where) -> None:
    path = paths.states_dir() / "x.safetensors"
    save(path)
    path.write_bytes(path.read_bytes().replace(b'"cachetui.state":"1"', b'"cachetui.state":"9"'))
    assert problems(only(states(where))) == ["state-version"]
    assert verdict(where) == ("cannot-tell", ["state-version"])


def test_what_a_killed_save_left_is_an_item_too(mine: Path, where: Where) -> None:
    data = (mine / "a_cache.pt").read_bytes()
    (mine / ".cachetui-0123456789abcdef.new").write_bytes(data[:900])
    left = states(where).items[0]
    assert PARTIAL in left.states and problems(left) == ["partial"]
    assert execute(prepare(states(where), [Selection(left)])).ok


def test_a_strangers_header_cannot_harm(home: Path, where: Where) -> None:
    path = home / "states" / "\x1b]0;x\x07.pt"
    save(path, images=("\x1b[2J\u202e.png",), system="\x1b]52;c;x\x07", created=9e10, model="x" * 2000, repo="")
    save(home / "states" / "old", created=-5.0)
    state_folders.remember(str(home / "states"))
    shown, old = states(where).items
    assert (
        shown.last_modified == 9e10
        and dict(shown.extra)["made"].startswith("4821")
        and old.last_modified is not None
        and old.last_modified > 1e9
    )
    shown.id.encode()


def hub_model(where: Where, *more: bytes) -> tuple[Hub, list[str]]:
    hub = Hub(Path(where.home) / ".cache/huggingface/hub")
    repo = hub.repo(REPO)
    commits = [repo.revision({"config.json": CONFIG, "model.safetensors": WEIGHTS})]
    commits += [repo.revision({"config.json": CONFIG, "model.safetensors": WEIGHTS + m}) for m in more]
    return hub, commits


def test_a_state_of_another_commit_is_stale_and_says_what_makes_it_anew(home: Path, where: Where) -> None:
    _, (first,) = hub_model(where)
    save(paths.states_dir() / "x.safetensors", commit=first, images=("my cat.png",))
    assert problems(only(states(where))) == []
    assert [problems(i) for i in scan(where).items if i.store == "state"] == [[]]
    _, (_, second_) = hub_model(where, b"2")
    (item,) = (i for i in scan(where).items if i.store == "state")
    (problem,) = item.problems
    assert problem.code == STALE and first[:7] in problem.message and second_[:7] in problem.message
    assert "still here" in problem.message
    assert problem.hint.startswith(f"cachetui state save hf:{REPO} --image 'my cat.png' --output ")
    passing = compile_filter(f"problem={STALE}", scan(where).ledger)
    assert passing(item)


def test_a_state_knows_the_folder_that_its_model_is(home: Path, where: Where) -> None:
    folder = home / "models" / "mine"
    local_dir(folder, {"config.json": CONFIG, "model.safetensors": WEIGHTS}, "a" * 40, 1e9)
    save(paths.states_dir() / "x", repo="", commit="", model=str(folder))
    (item,) = (i for i in scan(where).items if i.store == "state")
    assert dict(item.extra)["belongs to"] == f"dir:{folder}" and problems(item) == []


def test_names_and_paths_are_targets(mine: Path, where: Where, home: Path) -> None:
    save(home / "other" / "a_cache.pt")
    state_folders.remember(str(home / "other"))
    found = states(where)
    for text in ("state:b.state", "b.state", str(mine / "b.state")):
        assert [s.item.path for s in resolve(found, text, None, str(mine))] == ["b.state"]
    assert {s.item.root for s in resolve(found, "state:a_cache.pt")} == {str(mine), str(home / "other")}
    with pytest.raises(TargetNotFound):
        resolve(found, str(mine / "holiday.jpg"))


def test_deleting_touches_nothing_else_and_is_undone(mine: Path, where: Where) -> None:
    before = snapshot(mine)
    found = states(where)
    plan = prepare(found, [Selection(i) for i in found.items])
    assert execute(plan).ok
    assert snapshot(mine) == {n: v for n, v in before.items() if n not in ("a_cache.pt", "b.state")}
    after = rescan(found, found.items)
    assert after.items == () and [r.root.path for r in after.roots] == [str(mine)]
    (entry,) = entries([r.root for r in states(where).roots])
    assert restore(entry).ok and snapshot(mine) == before


def test_where_nothing_beside_is_writable_the_trash_lies_inside(mine: Path, where: Where) -> None:
    (root,) = states(where).roots
    places = list(candidates(root.root))
    assert places[0][0] == f"{mine.parent}/.cachetui-trash" and places[-1][0] == f"{mine}/.cachetui-trash"
    write(mine / ".cachetui-trash" / "entries" / "x", b"1")
    assert len(states(where).items) == 2


def test_pins_hold(mine: Path, where: Where) -> None:
    found = states(where)
    pin([found.items[0]])
    marked = Marks.load().apply_scan(found)
    assert PINNED in marked.items[0].states
    plan = prepare(marked, [Selection(i) for i in marked.items], bulk=True)
    assert [bool(i.refused) for i in plan.items] == [True, False]


def test_a_folder_of_the_users_is_not_moved_as_a_whole(mine: Path, where: Where, home: Path) -> None:
    (root,) = states(where).roots
    plan = moving.prepare(where, root.root, str(home / "there"), dry_run=True)
    assert "folder of your own" in plan.refused


def test_an_archived_state_is_read_through_its_link_and_comes_back(mine: Path, where: Where, tmp_path: Path) -> None:
    before = snapshot(mine)
    with second(tmp_path) as drive:
        where = replace(where, env={**where.env, "CACHETUI_AND_BELOW": str(drive)})
        found = scan(where)
        chosen = resolve(found, "state:a_cache.pt")
        plan = archiving.prepare(found, chosen, str(drive / "models"))
        outcome = archiving.execute(plan, accept=frozenset(("young", "network")))
        assert outcome.ok, outcome
        assert (mine / "a_cache.pt").is_symlink() and check(str(mine / "a_cache.pt")) is None
        found = scan(where)
        here = next(i for i in found.items if i.root == str(mine) and i.path == "a_cache.pt")
        there = next(i for i in found.items if i.root == str(drive / "models" / "folders"))
        assert ARCHIVED in here.states and (here.store, there.store) == ("state", "state")
        assert dict(here.extra)["tokens"] == dict(there.extra)["tokens"] == "20"
        assert {v.outcome for v in verify.check(found, [here, there])} == {"intact"}
        back = restoring.prepare(found, [Selection(here)])
        assert restoring.execute(back, accept=frozenset()).ok
        assert snapshot(mine) == before


def test_an_archived_state_among_models_is_one_still(home: Path, where: Where, tmp_path: Path) -> None:
    save(home / "models" / "x.pt", tokens=7)
    with second(tmp_path) as drive:
        where = replace(where, env={**where.env, "CACHETUI_AND_BELOW": str(drive)})
        found = scan(where)
        plan = archiving.prepare(found, resolve(found, "state:x.pt"), str(drive / "models"))
        assert archiving.execute(plan, accept=frozenset(("young", "network"))).ok
        (here,) = (i for i in scan(where).items if i.root == str(home / "models"))
        assert (here.id, here.store, dict(here.extra)["tokens"]) == ("state:x.pt", "state", "7")
        assert ARCHIVED in here.states and execute(prepare(scan(where), [Selection(here)])).ok


def test_a_state_on_a_drive_that_is_away_is_offline(mine: Path, where: Where, tmp_path: Path) -> None:
    with second(tmp_path) as drive:
        where = replace(where, env={**where.env, "CACHETUI_AND_BELOW": str(drive)})
        found = scan(where)
        plan = archiving.prepare(found, resolve(found, "state:a_cache.pt"), str(drive / "models"))
        assert archiving.execute(plan, accept=frozenset(("young", "network"))).ok
        shutil.move(drive / "models", drive / "away")
        found = states(where)
        assert [OFFLINE in i.states for i in found.items] == [True, False]


def titles(where: Where, view: View) -> list[str]:
    shelf, found = Shelf(), scan(where)
    shelf.apply(Batch(scan=found, figures=figures_of(found)))
    rows = build(shelf, view)
    return [f"{'  ' * rows[n].level}{rows[n].title}|{rows[n].note}" for n in range(len(rows))]


def test_states_stand_under_their_model(mine: Path, where: Where, home: Path) -> None:
    _, (commit,) = hub_model(where)
    save(mine / "a_cache.pt", commit=commit, images=("a.png",), tokens=20)
    save(mine / "b.state", repo="other/model", images=("b.png",))
    view = View()
    model = ("item", f"{home}/.cache/huggingface/hub", f"hf:{REPO}")
    closed = titles(where, view)
    assert f"  {REPO}|1 state" in closed and not any("a_cache" in t for t in closed)
    assert f"Saved states|{mine}, 1 below its model" in closed and "  b.state|64 tokens, b.png 64x48" in closed
    view.toggled.add(model)
    opened = titles(where, view)
    assert opened[opened.index(f"  {REPO}|1 state") :][:3] == [
        f"  {REPO}|1 state", f"    {commit[:7]}|main", "    a_cache.pt|20 tokens, a.png 64x48",
    ]  # fmt: skip


def test_a_filter_is_looked_through(mine: Path, where: Where) -> None:
    hub_model(where)
    assert [t.strip() for t in titles(where, View(test=compile_filter("store=state")))][1:] == [
        "b.state|30 tokens, b.png 64x48, c.png 64x48", "a_cache.pt|20 tokens, a.png 64x48",
    ]  # fmt: skip
    both = titles(where, View(test=compile_filter("files>0")))
    assert both[:3] == [
        f"Hugging Face hub|{where.home}/.cache/huggingface/hub", f"  {REPO}|2 states",
        "    b.state|30 tokens, b.png 64x48, c.png 64x48",
    ]  # fmt: skip


def test_a_folder_without_states_takes_no_row(mine: Path, where: Where) -> None:
    found = states(where)
    assert execute(prepare(found, [Selection(i) for i in found.items])).ok
    assert titles(where, View()) == []
