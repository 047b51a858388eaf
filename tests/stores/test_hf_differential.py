"""Our scan of a hub cache against huggingface_hub's own on clean caches, and against du on any."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from cachetui.demo.builders import Hub, HubRepo, write
from cachetui.model import Item, RootScan, Silent
from cachetui.store import make_root, store_named

_PREFIX = {"model": "hf:", "dataset": "hf:datasets/", "space": "hf:spaces/", "kernel": "hf:kernels/"}


def scan(path: Path, nested: frozenset[tuple[int, int]] = frozenset()) -> RootScan:
    """A hub cache as our store reads it."""
    root = make_root("hf", str(path), "test")
    assert root is not None
    return store_named("hf").scan(root, nested, Silent())


def du(path: Path) -> int:
    """Blocks in bytes, as the system counts them."""
    done = subprocess.run(["du", "-s", "-x", "-B1", path], check=False, capture_output=True, text=True)
    return int(done.stdout.split()[0])


def _content(rng: random.Random) -> bytes:
    size = rng.choice((0, 1, 20, 400, 4096, 5000, 70_000))
    return rng.randbytes(min(size, 64)) + bytes(max(0, size - 64))


def _name(rng: random.Random, n: int) -> str:
    folder = rng.choice(("", "", "", "onnx/", "a/b/c/", "text encoder/"))
    stem = rng.choice(("config", "model", "weights.v1", "ünï", "tokenizer"))
    return f"{folder}{stem}{n}{rng.choice(('.json', '', '.gguf'))}"


def _revisions(rng: random.Random, repo: HubRepo, shared: bool) -> None:
    pool = [_content(rng) for _ in range(rng.randint(1, 6))]
    published = [c for c in pool if shared and len(c) > 4000 and rng.random() < 0.7]
    for r in range(rng.randint(1, 3)):
        files = {_name(rng, n): rng.choice(pool) for n in range(rng.randint(1, 7))}
        refs = (
            rng.choice(((), ("main",), ("main", "v1.0"), ("refs/pr/1",), ("refs/pr/2", "feature/x")))
            if r
            else ("main",)
        )
        in_store = [n for n in files if files[n] in published]
        repo.revision(
            files,
            refs=refs,
            commit=f"{rng.getrandbits(160):040x}",
            real_files=not shared and rng.random() < 0.2,
            shared=in_store,
            tree=rng.random() < 0.5,
            no_exist=("adapter_config.json",) if rng.random() < 0.3 else (),
        )


def clean_cache(path: Path, rng: random.Random) -> Hub:
    """A cache as finished downloads leave it."""
    hub = Hub(path)
    shared = rng.random() < 0.5
    for n in range(rng.randint(1, 4)):
        name = rng.choice((f"model{n}", f"org/name{n}", f"org/na-me_{n}.v2"))
        repo = hub.repo(name, rng.choice(("model", "model", "dataset", "space", "kernel")))
        _revisions(rng, repo, shared)
        if rng.random() < 0.5:
            repo.lock("0" * 40)
    return hub


def _ours(item: Item) -> object:
    revisions = {}
    for r in item.revisions:
        files = {}
        for name, n in zip(r.names, r.index, strict=True):
            files[name] = item.content[n].size
        revisions[r.commit] = (frozenset(r.refs), files, r.size, r.last_modified)
    return (item.kind, item.size, item.file_count, item.last_modified, item.last_used, revisions)


def _theirs(repo: object) -> object:
    revisions = {}
    for r in repo.revisions:  # type: ignore[attr-defined]
        files = {f.file_path.relative_to(r.snapshot_path).as_posix(): f.size_on_disk for f in r.files}
        revisions[r.commit_hash] = (r.refs, files, r.size_on_disk, r.last_modified)
    return (
        repo.repo_type, repo.size_on_disk, repo.nb_files, repo.last_modified, repo.last_accessed, revisions,
    )  # type: ignore[attr-defined]  # fmt: skip


@pytest.mark.parametrize("chunk", range(10))
def test_clean_caches_read_as_huggingface_hub_reads_them(tmp_path: Path, chunk: int) -> None:
    for seed in range(chunk * 25, chunk * 25 + 25):
        path = tmp_path / f"hub{seed}"
        clean_cache(path, random.Random(seed))
        theirs = scan_cache_dir(path)
        assert not theirs.warnings
        ours = scan(path)
        expected = {_PREFIX[r.repo_type] + r.repo_id: _theirs(r) for r in theirs.repos}
        found = {i.id: _ours(i) for i in ours.items if i.kind != "orphan"}
        assert found == expected, f"seed {seed}"
        assert ours.size == theirs.size_on_disk, f"seed {seed}"
        assert ours.allocated == du(path), f"seed {seed}"
        assert not ours.blind
        shutil.rmtree(path)


# ---- what a cache can be broken with; each gets the cache and one repo of it


def _files(top: Path) -> list[Path]:
    return sorted(p for p in top.rglob("*") if p.is_symlink() or p.is_file())


def _some(rng: random.Random, top: Path) -> Path | None:
    found = _files(top) if top.is_dir() else []
    return rng.choice(found) if found else None


def _lose_blob(hub: Path, repo: Path, rng: random.Random) -> None:
    if (blob := _some(rng, repo / "blobs")) is not None:
        blob.unlink()


def _lose_snapshots(hub: Path, repo: Path, rng: random.Random) -> None:
    shutil.rmtree(repo / "snapshots", ignore_errors=True)


def _lose_blobs(hub: Path, repo: Path, rng: random.Random) -> None:
    shutil.rmtree(repo / "blobs", ignore_errors=True)


def _bad_ref(hub: Path, repo: Path, rng: random.Random) -> None:
    write(repo / "refs" / "odd", rng.choice((b"", b"\xff\xfe", b"0" * 40, b"x\ny\n", b"main")))


def _fifo(hub: Path, repo: Path, rng: random.Random) -> None:
    folder = rng.choice([p for p in (repo, repo / "refs", repo / "blobs", repo / "snapshots", hub) if p.is_dir()])
    os.mkfifo(folder / f"pipe{rng.random()}")


def _sparse(hub: Path, repo: Path, rng: random.Random) -> None:
    path = rng.choice((repo / "refs" / "huge", repo / "blobs" / "huge", hub / "huge"))
    path.parent.mkdir(exist_ok=True, parents=True)
    with path.open("wb") as f:
        f.write(b"x" * 5000)
        f.truncate(1 << 32)


def _loop(hub: Path, repo: Path, rng: random.Random) -> None:
    for folder in (repo / "blobs", repo / "snapshots", hub):
        if folder.is_dir() and not (folder / "models--loop").is_symlink():
            (folder / "models--loop").symlink_to("models--loop")


def _hard_links(hub: Path, repo: Path, rng: random.Random) -> None:
    copy = hub / f"models--copy--{rng.getrandbits(30)}"
    subprocess.run(["cp", "-al", repo, copy], check=True)


def _more_names(hub: Path, repo: Path, rng: random.Random) -> None:
    source = _some(rng, repo)
    target = rng.choice((repo / "blobs", repo / "refs", repo / "extra", hub, hub / ".locks", hub / ".cachetui-trash"))
    if source is not None and not source.is_symlink() and (target.is_dir() or not target.exists()):
        target.mkdir(exist_ok=True, parents=True)
        os.link(source, target / f"twin{rng.random()}")


def _strangers(hub: Path, repo: Path, rng: random.Random) -> None:
    for path in (
        hub / "notes" / "deep" / "a.bin",
        hub / "b.bin",
        repo / "c.bin",
        repo / "my" / "d.bin",
        hub / "blobs" / "e",
    ):
        write(path, rng.randbytes(rng.randint(0, 9000)))


def _litter(hub: Path, repo: Path, rng: random.Random) -> None:
    for name in (
        f"{'a' * 40}.12345678.incomplete",
        f"tmp_{rng.random()}",
        f"{'b' * 64}.lock",
        f".{'c' * 40}.12345678.new",
    ):
        write(repo / "blobs" / name, rng.randbytes(rng.randint(0, 9000)))


def _odd_links(hub: Path, repo: Path, rng: random.Random) -> None:
    snapshot = repo / "snapshots" / ("e" * 40)
    snapshot.mkdir(parents=True, exist_ok=True)
    other = _some(rng, hub)
    for n, target in enumerate(
        ("/etc/hostname", ".", "..", "nothing", "x" * 200, str(other), "../../../CACHEDIR.TAG", "/")
    ):
        link = snapshot / f"odd{n}"
        if not link.is_symlink():
            link.symlink_to(target)


def _moved_away(hub: Path, repo: Path, rng: random.Random) -> None:
    if repo.is_symlink():
        return
    away = hub.parent / f"away{rng.getrandbits(30)}"
    if rng.random() < 0.7:
        repo.rename(away)
    else:
        shutil.rmtree(repo)
    repo.symlink_to(away)


def _file_for_folder(hub: Path, repo: Path, rng: random.Random) -> None:
    for name in rng.sample(("blobs", "snapshots", "refs", "trees", ".no_exist"), 2):
        shutil.rmtree(repo / name, ignore_errors=True)
        if not (repo / name).exists():
            write(repo / name, b"z" * 5000)


def _odd_names(hub: Path, repo: Path, rng: random.Random) -> None:
    raw = os.fsencode(repo)
    for name in (b"\xff\xfe", b"new\nline", b"\x1b]0;x\x07", b"~orphan", "\u202eabc".encode(), b"n" * 250):
        os.makedirs(raw + b"/snapshots/" + name, exist_ok=True)
        Path(os.fsdecode(raw + b"/snapshots/" + name + b"/" + name)).write_bytes(b"1" * 4097)
    write(hub / "models--\udcff--\n" / "blobs" / "x", b"1" * 5000)


BREAKAGES: list[Callable[[Path, Path, random.Random], None]] = [
    _lose_blob, _lose_snapshots, _lose_blobs, _bad_ref, _fifo, _sparse, _loop, _hard_links, _more_names, _strangers,
    _litter, _odd_links, _moved_away, _file_for_folder, _odd_names,
]  # fmt: skip


def _apparent(hub: Path) -> set[tuple[int, int]]:
    """Every regular file that is content wherever it lies: in a repo's blobs, snapshots, or among strangers."""
    found = set()
    for folder, _, names in os.walk(hub):
        parts = Path(folder).relative_to(hub).parts
        if parts[:1] in ((".locks",), (".cachetui-trash",)) or {"refs", "trees", ".no_exist"} & set(parts[1:2]):
            continue
        for name in names:
            st = os.lstat(Path(folder) / name)
            if stat.S_ISREG(st.st_mode) and st.st_size and (parts or not name.startswith(("CACHEDIR", "twin"))):
                found.add((st.st_dev, st.st_ino))
    return found


@pytest.mark.parametrize("chunk", range(8))
def test_any_cache_adds_up_to_what_du_says(tmp_path: Path, chunk: int) -> None:
    for seed in range(chunk * 20, chunk * 20 + 20):
        rng = random.Random(1000 + seed)
        path = tmp_path / f"w{seed}" / "hub"
        clean_cache(path, rng)
        repos = sorted(p for p in path.iterdir() if "--" in p.name)
        steps = [rng.choice(BREAKAGES) for _ in range(rng.randint(1, 4))]
        for step in steps:
            repo = rng.choice(repos)
            if repo.is_dir() or step is _moved_away:
                with suppress(FileExistsError, NotADirectoryError):  # an earlier step left a file in its way
                    step(path, repo, rng)
        told = f"seed {seed}: {[s.__name__ for s in steps]}"
        ours = scan(path)
        assert ours.complete, told
        assert ours.allocated == du(path), told
        listed = {i.path for i in ours.items}
        present = {p.name for p in path.iterdir() if "--" in p.name}
        assert present <= listed, told
        assert len({i.id for i in ours.items}) == len(ours.items), told
        known = {(b.dev, b.ino) for i in ours.items for b in i.content}
        shared = {
            (b.st_dev, b.st_ino)
            for b in map(os.lstat, (p for p in (path / "blobs").rglob("*") if not p.is_symlink()))
        } if (path / "blobs" / ".huggingface-shared-blobs").exists() else set()  # fmt: skip
        assert _apparent(path) - shared <= known, told
        for item in ours.items:
            for r in (*item.revisions, *item.parts):
                assert len(r.names) == len(r.index), told
                assert all(-1 <= n < len(item.content) for n in r.index), told
        shutil.rmtree(path.parent)


def _library(path: Path) -> str:
    """What scan_cache_dir says in a process of its own: the repos it lists, or how it failed."""
    code = (
        "import sys; from huggingface_hub import scan_cache_dir\n"
        "i = scan_cache_dir(sys.argv[1]); print('repos', len(i.repos), 'warnings', len(i.warnings))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, path], check=False, capture_output=True, text=True, timeout=5
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    return done.stdout.strip() if done.returncode == 0 else "crashes: " + done.stderr.strip().splitlines()[-1]


def _ref(content: bytes) -> Callable[[Path], None]:
    return lambda repo: write(repo / "refs" / "main", content)


def _fifo_ref(repo: Path) -> None:
    os.mkfifo(repo / "refs" / "pipe")


def _broken(repo: Path) -> None:
    next((repo / "blobs").iterdir()).unlink()


def _linked_to_itself(repo: Path) -> None:
    (repo / "snapshots" / "loop").symlink_to("loop")


@pytest.mark.parametrize(
    ("harm", "library", "state"),
    [
        (_ref(b"\xff\xfe\xfd"), "crashes: UnicodeDecodeError", "damaged"),
        (_ref(b"\n"), "repos 1 warnings 1", "damaged"),
        (_fifo_ref, "hangs", "damaged"),
        (_broken, "repos 1 warnings 1", "damaged"),
        (_linked_to_itself, "crashes: OSError", "damaged"),
        (lambda repo: shutil.rmtree(repo / "snapshots"), "repos 1 warnings 1", "damaged"),
        (lambda repo: write(repo / "snapshots" / "file", b"x"), "repos 1 warnings 1", "damaged"),
    ],
    ids=["non-utf8-ref", "empty-ref", "fifo", "broken-link", "link-loop", "no-snapshots", "file-in-snapshots"],
)  # fmt: skip
def test_where_huggingface_hub_drops_or_fails_we_list_everything(
    tmp_path: Path, harm: Callable[[Path], None], library: str, state: str
) -> None:
    hub = Hub(tmp_path / "hub")
    hub.repo("org/fine").revision({"a": b"a" * 5000})
    broken = hub.repo("org/broken")
    broken.revision({"config.json": b"{}", "weights": b"w" * 70_000})
    harm(broken.path)
    assert _library(hub.path).startswith(library)
    ours = scan(hub.path)
    items = {i.id: i for i in ours.items}
    assert items["hf:org/fine"].states == ("ok",)
    assert state in items["hf:org/broken"].states
    assert items["hf:org/broken"].problems
    assert items["hf:org/broken"].size > 0
    assert ours.allocated == du(hub.path)
