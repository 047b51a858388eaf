"""What every store promises, held against every store there is. A new store adds its world to WORLDS."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from entry_world import make
from state_world import save

from cachetui import walk
from cachetui.demo.builders import Filler, Hub, OllamaStore, gguf_bytes, local_dir, safetensors_bytes, write
from cachetui.ledger import Scan
from cachetui.model import Item, Root, RootScan, Silent
from cachetui.store import Selection, Store, all_stores, make_root, store_named
from cachetui.targets import resolve
from cachetui.text import decode_target, encode_target

HOSTILE = (
    "a\x1b]0;owned\x07b", "\u202egnp.exe", "z\u200bw", "x\udcff\udcfe", "[@click=app.quit]y[bold]", "two\nlines",
    "back\\slash", "n" * 180, " ", "-rf", "ol:a@b",
)  # fmt: skip
WEIGHTS = safetensors_bytes({"w": ("F32", (5000,))})
GGUF = gguf_bytes({"general.architecture": "llama", "general.file_type": 15}, 9000)
CONFIG = b'{"model_type": "llama", "dtype": "float32"}'


def hub_world(path: Path) -> None:
    hub = Hub(path)
    repo = hub.repo("org/name")
    repo.revision({"config.json": CONFIG, "model.safetensors": WEIGHTS})
    repo.revision({"config.json": CONFIG, "onnx/model.onnx": WEIGHTS + b"2"}, refs=("v2",))
    repo.partial(WEIGHTS[:9000])
    repo.orphan(b"orphan" * 999)
    repo.lock("x")
    for n in ("a", "b"):
        hub.repo(f"{n}/shared").revision({"big.safetensors": WEIGHTS * 5}, shared=("big.safetensors",))
    hub.repo("gone", "dataset").revision({"d.parquet": b"PAR1" * 5000}, real_files=True)
    (path / "models--bad").mkdir()


def home_world(path: Path) -> None:
    write(path / "xet" / "chunk-cache" / "00" / "chunk", bytes(50_000))
    write(path / "assets" / "lib" / "a.json", b"{}")
    write(path / "datasets" / "org___set" / "default" / "0.0.0" / "set-train.arrow", bytes(30_000))
    write(path / "token", b"hf_secret")


def ollama_world(path: Path) -> None:
    store = OllamaStore(path)
    store.model("tiny:latest", {"model": GGUF, "template": b"{{ .Prompt }}", "license": b"MIT"})
    store.model("acme/other:q", {"model": GGUF, "system": b"be kind"}, config={"model_type": "3B"})
    store.model("library/far:v1", {"model": GGUF + b"2"}, host="hf.co")
    store.orphan(GGUF + b"orphan")
    store.partial(Filler(200_000, "pull"), 5000)
    write(path / "blobs" / "sha256-1234567", b"litter")
    write(path / "manifests" / "registry.ollama.ai" / "library" / "stray", b"not a manifest")
    write(path / "other" / "file", bytes(5000))


def folders_world(path: Path) -> None:
    local_dir(path / "downloaded", {"config.json": CONFIG, "model.safetensors": WEIGHTS}, "a" * 40, 1e9)
    write(path / "org" / "name" / "model-Q4_K_M.gguf", GGUF)
    write(path / "org" / "name" / "notes.txt", b"hello")
    write(path / "loose.gguf", GGUF)
    for n in (1, 2):
        write(path / f"split-0000{n}-of-00002.gguf", GGUF + b"%d" % n)
    write(path / "README.md", b"# mine")
    write(path / "archive.tar", bytes(1_200_000))
    write(path / "empty" / "nothing.txt", b"")
    write(path / ".git" / "objects" / "x", bytes(10_000))


def states_world(path: Path) -> None:
    for n, name in enumerate(("photo_cache.pt", "deeper/two.safetensors", "no suffix")):
        save(path / name, tokens=10 + n)
    cut = save(path / "cut.safetensors", tokens=99)
    os.truncate(cut.path, cut.bytes - 5)
    write(path / "weights.safetensors", WEIGHTS)
    write(path / "pickle.pt", b"PK\x03\x04" + bytes(3000))


def quant_world(path: Path) -> None:
    make(path)
    cut = make(path, rank=4)
    os.truncate(f"{cut.path}/model.safetensors", 100)
    Path(make(path, rank=8).path, "cachetui-entry.json").write_text("{}")
    write(path / ("a" * 32), bytes(9000))
    write(path / f"{'b' * 32}.pt", b"\x80\x04" + bytes(9000))
    write(path / ("c" * 32) / "model.safetensors", WEIGHTS)
    write(path / f".cachetui-making-{'d' * 64}" / "model.safetensors", WEIGHTS)
    write(path / "notes" / "readme.txt", b"hello")


WORLDS: dict[str, Callable[[Path], None]] = {
    "hf": hub_world,
    "hf-home": home_world,
    "ollama": ollama_world,
    "dir": folders_world,
    "lmstudio": folders_world,
    "state": states_world,
    "quant": quant_world,
}

STORES = [store.name for store in all_stores()]


def spoil(path: Path) -> None:
    """What no program writes and every scan meets: wherever something may lie, something odd lies."""
    folders = [path, *(p for p in sorted(path.rglob("*")) if p.is_dir() and not p.is_symlink())]
    for number, folder in enumerate(folders):
        os.mkfifo(folder / "pipe")
        (folder / "loop").symlink_to("loop")
        (folder / "out").symlink_to("/etc")
        (folder / "gone.gguf").symlink_to("nowhere")
        (folder / HOSTILE[number % len(HOSTILE)]).write_bytes(b"x" * 5000)
        (folder / (HOSTILE[(number + 3) % len(HOSTILE)] + ".gguf")).write_bytes(b"GGUF" + b"\xff" * 40)
    for name in HOSTILE:
        write(path / f"d{name}" / name / "model.safetensors", WEIGHTS)
    target = next((p for p in sorted(path.rglob("*")) if p.is_file() and not p.is_symlink()), None)
    if target is not None:
        os.link(target, path / "second name.gguf")
    with (path / "sparse.bin").open("wb") as f:
        f.truncate(10**12)


def du(path: Path | str) -> int:
    return int(subprocess.run(["du", "-s", "-B1", path], check=True, capture_output=True).stdout.split()[0])


class World:
    def __init__(self, store: Store, path: Path) -> None:
        root = make_root(store.name, str(path), "test")
        assert root is not None
        self.store, self.path, self.root = store, path, root

    def scan(self, nested: frozenset[tuple[int, int]] = frozenset()) -> RootScan:
        return self.store.scan(self.root, nested, Silent())


@pytest.fixture(
    params=[(name, odd) for name in STORES for odd in (False, True)], ids=lambda p: f"{p[0]}-{'odd' * p[1]}"
)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    name, odd = request.param
    path = tmp_path / "world"
    path.mkdir()
    WORLDS[name](path)
    if odd:
        spoil(path)
    return World(store_named(name), path)


def test_every_store_has_a_world() -> None:
    assert sorted(WORLDS) == sorted(STORES)


def test_the_worlds_hold_something(world: World) -> None:
    scan = world.scan()
    assert scan.complete and len(scan.items) >= 2
    assert scan.root is world.root


def test_blocks_add_up_to_du(world: World) -> None:
    assert world.scan().allocated == du(world.path)


def test_a_root_inside_is_left_to_its_own_scan(world: World) -> None:
    inner = world.path / "zz-inner"
    write(inner / "model.safetensors", WEIGHTS)
    st = inner.stat()
    scan = world.scan(frozenset({(st.st_dev, st.st_ino)}))
    assert scan.nested == ("zz-inner",)
    assert scan.allocated + du(inner) == du(world.path)
    assert not any(b.path.startswith("zz-inner") for item in scan.items for b in item.content)


def test_ids_name_exactly_one_item_and_survive_the_round_trip(world: World) -> None:
    scan = world.scan()
    ids = [item.id for item in scan.items]
    assert len(set(ids)) == len(ids)
    for item in scan.items:
        assert encode_target(decode_target(item.id)) == item.id
        item.id.encode("utf-8")
        found = resolve(Scan((scan,)), item.id)
        assert [s.item.key for s in found] == [item.key]


def test_stubs_are_items_to_come(world: World) -> None:
    scan = world.scan()
    stubs = world.store.stubs(world.root)
    assert {s.id for s in stubs} <= {i.id for i in scan.items}
    by_id = {i.id: i for i in scan.items}
    assert all((s.kind, s.name, s.path) == (by_id[s.id].kind, by_id[s.id].name, by_id[s.id].path) for s in stubs)


def test_items_are_whole(world: World) -> None:
    for item in world.scan().items:
        assert item.states and item.root == world.root.path and item.store == world.store.name
        assert item.size >= 0 and item.allocated >= 0 and item.overhead >= 0
        for revision in item.revisions + item.parts:
            assert len(revision.names) == len(revision.index) == len(set(revision.names))
            assert all(-1 <= at < len(item.content) for at in revision.index)
        for b in item.content:
            assert not b.path.startswith("/") and ".." not in b.path.split("/")


def test_values_are_frozen(world: World) -> None:
    scan = world.scan()
    for value, name in ((scan, "items"), (scan.items[0], "size"), (scan.root, "path")):
        with pytest.raises((FrozenInstanceError, AttributeError)):
            setattr(value, name, None)


class _Stops(Silent):
    def __init__(self, after: int) -> None:
        self.left = after
        self.seen: list[Item] = []

    def sized(self, root: Root, item: Item) -> None:
        self.seen.append(item)

    def cancelled(self) -> bool:
        return len(self.seen) >= self.left


@pytest.mark.parametrize("after", [0, 1, 2])
def test_cancel_keeps_what_is_there(world: World, after: int) -> None:
    whole = {i.id for i in world.scan().items}
    if after >= len(whole):
        pytest.skip("this world ends sooner")
    report = _Stops(after)
    scan = world.store.scan(world.root, frozenset(), report)
    assert not scan.complete
    assert len(scan.items) < len(whole)
    assert {i.id for i in report.seen} <= whole


def test_every_item_is_reported_once(world: World) -> None:
    report = _Stops(10**9)
    scan = world.store.scan(world.root, frozenset(), report)
    assert sorted(i.id for i in report.seen) == sorted(i.id for i in scan.items)


def test_removal_names_what_exists_inside_the_root(world: World) -> None:
    scan = world.scan()
    ledger = Scan((scan,)).ledger
    accepted = 0
    for item in scan.items:
        removal = world.store.removal(Selection(item), ledger, ledger.positions([item]))
        paths = removal.references + removal.content
        assert bool(paths) != bool(removal.refused)
        accepted += not removal.refused
        for path in paths:
            assert os.path.lexists(world.path / path) and path not in ("", ".") and ".." not in path.split("/")
        assert len(set(paths)) == len(paths)
        assert not set(paths) & {b.path for b in removal.stays}
    assert accepted >= 1


def test_what_removal_takes_is_what_the_ledger_counts(world: World) -> None:
    """Removing everything that can be removed, on disk, leaves no byte of content that nobody refused."""
    scan = world.scan()
    ledger = Scan((scan,)).ledger
    everything = ledger.positions(scan.items)
    removals = [(i, world.store.removal(Selection(i), ledger, everything)) for i in scan.items]
    taken = [p for _, r in removals if not r.refused for p in r.references + r.content]
    kept = {b.path for i, r in removals if r.refused for b in i.content} | {
        b.path for _, r in removals for b in r.stays
    }
    for item, removal in removals:
        if not removal.refused:
            for b in item.content:
                covered = any(b.path == p or b.path.startswith(p + "/") for p in taken)
                assert covered or b.path in kept


def test_the_same_without_directory_descriptors(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = world.scan()
    monkeypatch.setattr(walk, "HAS_SCANDIR_FD", False)
    again = world.scan()
    assert again.items == scan.items
    assert (again.other, again.nested, again.blind) == (scan.other, scan.nested, scan.blind)
    assert sorted(p.code for p in again.problems) == sorted(p.code for p in scan.problems)


@pytest.mark.skipif(not hasattr(os, "O_NOATIME"), reason="this system has no O_NOATIME")
def test_scanning_touches_no_time(world: World) -> None:
    def times() -> dict[Path, tuple[int, int]]:
        found = {}
        for folder, _, files in os.walk(world.path):
            for name in files:
                st = (Path(folder) / name).lstat()
                found[Path(folder) / name] = (st.st_atime_ns, st.st_mtime_ns)
        return found

    for folder, _, files in os.walk(world.path):
        for name in files:  # older than their mtime: a plain read would move it even on relatime mounts
            os.utime(Path(folder) / name, (10**9, 2 * 10**9), follow_symlinks=False)
    before = times()
    world.scan()
    world.store.stubs(world.root)
    after = times()
    links = {path for path in before if path.is_symlink()}  # reading a link's text cannot be hidden
    assert {p: t for p, t in after.items() if p not in links} == {p: t for p, t in before.items() if p not in links}


def test_a_root_that_is_gone_or_no_folder_is_a_problem(tmp_path: Path) -> None:
    for store in all_stores():
        path = tmp_path / f"gone-{store.name}"
        path.mkdir()
        root = make_root(store.name, str(path), "test")
        assert root is not None
        assert store.scan(root, frozenset(), Silent()).items == ()
        path.rmdir()
        scan = store.scan(root, frozenset(), Silent())
        assert scan.items == () and scan.problems and store.stubs(root) in ((), [])


def _damage(path: Path, rng: random.Random) -> None:
    """Do one thing to one name in a tree that no program would."""
    names = sorted(p for p in path.rglob("*") if not p.is_symlink())
    if not names:
        return
    victim, other = rng.choice(names), rng.choice(names)
    act = rng.choice(("delete", "empty", "garbage", "link", "loop", "pipe", "folder", "hard", "move", "into"))
    if act in ("hard", "move", "into"):
        if victim.is_file() and act == "hard":
            os.link(victim, other.parent / f"hard{rng.randrange(10**6)}{victim.suffix}")
        elif victim.is_file() and other.parent != victim.parent:
            victim.rename(other.parent / (victim.name if act == "move" else other.name + "x"))
        return
    if act in ("empty", "garbage") and victim.is_file():
        victim.chmod(0o600)
        victim.write_bytes(b"" if act == "empty" else rng.randbytes(rng.randrange(9000)))
        return
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    if act == "link":
        victim.symlink_to(rng.choice((os.path.relpath(other, victim.parent), "/etc", "../..", "nowhere")))
    elif act == "loop":
        victim.symlink_to(victim.name)
    elif act == "pipe":
        os.mkfifo(victim)
    elif act == "folder":
        write(victim / rng.choice(("config.json", "x.gguf", "model_index.json", "y")), WEIGHTS)


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("seed", range(25))
def test_any_damage_is_listed_and_adds_up(name: str, seed: int, tmp_path: Path) -> None:
    rng = random.Random(f"{name}{seed}")
    path = tmp_path / "world"
    path.mkdir()
    WORLDS[name](path)
    for _ in range(rng.randint(1, 12)):
        _damage(path, rng)
    world = World(store_named(name), path)
    scan = world.scan()
    assert scan.complete and scan.allocated == du(path)
    assert {s.id for s in world.store.stubs(world.root)} <= {i.id for i in scan.items}
    test_ids_name_exactly_one_item_and_survive_the_round_trip(world)
    test_items_are_whole(world)
    ledger = Scan((scan,)).ledger
    for item in scan.items:
        removal = world.store.removal(Selection(item), ledger, ledger.positions([item]))
        assert all(os.path.lexists(path / p) for p in removal.references + removal.content)
        assert removal.references or removal.content or removal.refused
