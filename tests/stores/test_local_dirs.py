"""Plain folders, projects' caches, and where downloaded folders came from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given, settings
from hypothesis import strategies as st

from cachetui.config import Config, Where
from cachetui.demo.builders import LFS_THRESHOLD, Hub, OllamaStore, gguf_bytes, local_dir, safetensors_bytes, write
from cachetui.ledger import Scan
from cachetui.model import Item, RootScan, Silent
from cachetui.projects import env_value, project_caches
from cachetui.provenance import downloads, match_provenance
from cachetui.scan import find_roots, scan
from cachetui.store import Removal, Selection, make_root, store_named

STORE = store_named("dir")
WEIGHTS = safetensors_bytes({"w": ("F32", (LFS_THRESHOLD,))})
SMALL = safetensors_bytes({"w": ("F16", (4,))})
GGUF = gguf_bytes({"general.architecture": "llama", "general.file_type": 15})
CONFIG = b'{"model_type": "bert", "dtype": "float32"}'


def read(path: Path) -> RootScan:
    root = make_root("dir", str(path), "test")
    assert root is not None
    return STORE.scan(root, frozenset(), Silent())


def items(path: Path) -> dict[str, Item]:
    return {i.path: i for i in read(path).items}


def removal(scan: RootScan, item: Item, revision: str = "", file: str = "") -> Removal:
    return STORE.removal(Selection(item, revision, file), Scan((scan,)).ledger, set())


def roots(where: Where) -> list[tuple[str, str, str, str]]:
    found, problems = find_roots(where)
    assert not problems
    return [(r.store, os.path.relpath(r.path, where.home), r.origin, r.group) for r in found]


def at(home: Path, *cache_dirs: str, search: tuple[str, ...] = (), **env: str) -> Where:
    return Where(
        {"HF_HOME": str(home / "no"), "CACHETUI_ONLY_BELOW": str(home.parent), **env},
        str(home),
        str(home),
        cache_dirs,
        search,
    )


def test_folders_files_and_groups_of_shards(tmp_path: Path) -> None:
    write(tmp_path / "bert" / "config.json", CONFIG)
    write(tmp_path / "bert" / "model.safetensors", SMALL)
    write(tmp_path / "bert" / "onnx" / "model.onnx", b"x")
    write(tmp_path / "org" / "name" / "a.gguf", GGUF)
    write(tmp_path / "sd" / "model_index.json", b'{"_class_name": "Pipe"}')
    write(tmp_path / "sd" / "unet" / "m.safetensors", SMALL)
    write(tmp_path / "loose.Q4_0.gguf", b"GGUF")
    write(tmp_path / "net.pth", b"pickle")
    for n in (1, 2, 3):
        write(tmp_path / f"big-0000{n}-of-00003.gguf", GGUF)
    write(tmp_path / "README.md", b"# hi")
    write(tmp_path / "papers" / "a.pdf", b"pdf")
    found = items(tmp_path)
    assert {p: i.kind for p, i in found.items()} == {
        "bert": "folder", "org/name": "folder", "sd": "folder", "loose.Q4_0.gguf": "file", "net.pth": "file",
        "big-00001-of-00003.gguf": "file",
    }  # fmt: skip
    assert found["bert"].id == f"dir:{tmp_path}/bert" and found["bert"].name == "bert"
    assert found["bert"].revisions[0].names == ("config.json", "model.safetensors", "onnx/model.onnx")
    assert (found["bert"].traits.family, found["bert"].traits.formats) == ("bert", ("safetensors", "onnx"))
    assert found["sd"].traits.loads_with == ("diffusers",)
    assert found["loose.Q4_0.gguf"].traits.quantization == "Q4_0"
    assert found["big-00001-of-00003.gguf"].file_count == 3 and len(found["big-00001-of-00003.gguf"].blobs) == 3


def test_what_is_no_model_is_shown_when_large_and_never_removed(tmp_path: Path) -> None:
    write(tmp_path / "video.mkv", bytes(2_000_000))
    write(tmp_path / ".git" / "objects" / "pack", bytes(2_000_000))
    write(tmp_path / ".cachetui-trash-0" / "x", bytes(2_000_000))
    write(tmp_path / "small.txt", b"x")
    scan = read(tmp_path)
    assert {i.path: i.kind for i in scan.items} == {"video.mkv": "unknown", ".git": "unknown"}
    for item in scan.items:
        assert removal(scan, item).refused
    assert scan.other > 2_000_000, "our own trash is a number"


def test_a_root_that_is_one_model_itself(tmp_path: Path) -> None:
    write(tmp_path / "config.json", CONFIG)
    write(tmp_path / "model.safetensors", SMALL)
    write(tmp_path / "loras" / "a.safetensors", SMALL)
    scan = read(tmp_path)
    assert {i.path for i in scan.items} == {"", "loras"}
    item = next(i for i in scan.items if not i.path)
    assert item.id == f"dir:{tmp_path}" and item.traits.family == "bert"
    assert removal(scan, item).references == ("config.json", "model.safetensors")


def test_removal_of_a_folder_a_file_and_what_is_partial(tmp_path: Path) -> None:
    folder = local_dir(tmp_path / "m", {"config.json": CONFIG, "sub/model.safetensors": SMALL}, "a" * 40, 2e9)
    write(folder / ".cache" / "huggingface" / "download" / "x.abc.incomplete", b"half")
    scan = read(tmp_path)
    (item,) = scan.items
    assert item.states == ("partial",) and item.parts[0].commit == "~partial"
    assert removal(scan, item).references == ("m",)
    assert removal(scan, item, file="sub/model.safetensors").references == ("m/sub/model.safetensors",)
    assert removal(scan, item, "~partial").references == ("m/.cache/huggingface/download/x.abc.incomplete",)
    assert removal(scan, item, "a" * 40).references == ("m",)
    assert removal(scan, item, file="nope").refused


def test_a_cache_inside_of_a_model_is_not_taken_along(tmp_path: Path) -> None:
    write(tmp_path / "m" / "config.json", CONFIG)
    inner = tmp_path / "m" / "model_cache"
    write(inner / "x.gguf", GGUF)
    st = inner.stat()
    root = make_root("dir", str(tmp_path), "test")
    assert root is not None
    scan = STORE.scan(root, frozenset({(st.st_dev, st.st_ino)}), Silent())
    assert scan.nested == ("m/model_cache",) and removal(scan, scan.items[0]).refused


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside / "model.safetensors", SMALL)
    root = tmp_path / "root"
    write(root / "m" / "config.json", CONFIG)
    (root / "m" / "model.safetensors").symlink_to(outside / "model.safetensors")
    (root / "m" / "gone.bin").symlink_to("nowhere")
    (root / "m" / "again.json").symlink_to("config.json")
    (root / "away").symlink_to(outside)
    scan = read(root)
    (item,) = scan.items
    assert item.size == len(CONFIG)
    assert sorted((p.code, os.path.basename(p.path)) for p in item.problems) == [
        ("broken-link", "gone.bin"), ("link-outside", "model.safetensors"),
    ]  # fmt: skip
    assert [(p.code, os.path.basename(p.path)) for p in scan.problems] == [("link-outside", "away")]


def test_default_roots(home: Path) -> None:
    assert roots(at(home)) == []
    write(home / "models" / "x.gguf", GGUF)
    write(home / "mine" / "x.gguf", GGUF)
    assert roots(at(home)) == [("dir", "models", "default", "")]
    assert roots(at(home, CUSTOM_MODEL_DIR="~/mine")) == [("dir", "mine", "CUSTOM_MODEL_DIR", "")]


def test_given_folders_go_to_the_store_whose_layout_they_have(home: Path) -> None:
    Hub(home / "a").repo("org/name").revision({"config.json": CONFIG})
    Hub(home / "b" / "hub").repo("org/name").revision({"config.json": CONFIG})
    OllamaStore(home / "c")
    write(home / "d" / "x.gguf", GGUF)
    where = at(home, "a", "b", "c", "d", "missing", "./d", "~/d")
    assert roots(where) == [
        ("hf", "a", "--cache-dir", ""), ("hf", "b/hub", "--cache-dir", ""), ("ollama", "c", "--cache-dir", ""),
        ("dir", "d", "--cache-dir", ""),
    ]  # fmt: skip
    configured = Where(where.env, where.home, where.cwd, ("d",), config=Config(cache_dirs=("d",)))
    assert roots(configured) == [("dir", "d", "config", "")]


def test_a_hub_cache_inside_of_a_folder_is_a_root_of_its_own(home: Path) -> None:
    write(home / "models" / "x.gguf", GGUF)
    Hub(home / "models" / "cache").repo("org/a").revision({"config.json": CONFIG})
    Hub(home / "models" / "hf" / "hub").repo("org/b").revision({"config.json": CONFIG})
    where = at(home)
    assert [r[:2] for r in roots(where)] == [("dir", "models"), ("hf", "models/cache"), ("hf", "models/hf/hub")]
    found = scan(where)
    assert sorted(i.id for i in found.items) == [f"dir:{home}/models/x.gguf", "hf:org/a", "hf:org/b"]
    (folder,) = [r for r in found.roots if r.root.store == "dir"]
    assert sorted(folder.nested) == ["cache", "hf/hub"]


def test_another_layout_deep_inside_is_not_taken_for_models(tmp_path: Path) -> None:
    big = safetensors_bytes({"w": ("F32", (300_000,))})
    Hub(tmp_path / "a" / "b" / "cache").repo("org/a").revision({"config.json": CONFIG, "model.safetensors": big})
    OllamaStore(tmp_path / "a" / "c").model("x:latest", {"model": big})
    scan = read(tmp_path)
    assert {i.path: i.kind for i in scan.items} == {"a/b/cache": "unknown", "a/c": "unknown"}
    assert [p.code for p in scan.problems] == ["other-layout", "other-layout"]
    root = make_root("dir", str(tmp_path), "test")
    assert root is not None and list(STORE.stubs(root)) == []


def test_project_caches(home: Path) -> None:
    work = home / "work"
    Hub(work / "one" / "model_cache").repo("org/a").revision({"config.json": CONFIG})
    write(work / "two" / ".mlx_cache" / "x" / "weights.npz", b"PK")
    Hub(work / "three" / "weights" / "hub").repo("org/b").revision({"config.json": CONFIG})
    write(work / "three" / ".env.local", b"export HF_CACHE_DIR='./weights' # where\n")
    write(work / "four" / ".env", b'HF_CACHE_DIR="${HOME}/elsewhere"\n')
    write(home / "elsewhere" / "x.gguf", GGUF)
    for skipped in ("node_modules", ".git", "venv", "site-packages", ".cache", "__pycache__"):
        write(work / skipped / "model_cache" / "x.gguf", GGUF)
    write(work / "named" / "pyvenv.cfg", b"")
    write(work / "named" / "sub" / "model_cache" / "x.gguf", GGUF)
    found = roots(at(home, search=("~/work",), HOME=str(home)))
    assert sorted(found) == [
        ("dir", "elsewhere", f".env of {work}/four", "Projects"),
        ("dir", "work/two/.mlx_cache", f"project {work}/two", "Projects"),
        ("hf", "work/one/model_cache", f"project {work}/one", "Projects"),
        ("hf", "work/three/weights/hub", f".env.local of {work}/three", "Projects"),
    ]


def test_a_tilde_in_env_is_noted_and_both_meanings_are_looked_at(home: Path) -> None:
    project = home / "work" / "p"
    write(project / ".env", b"HF_CACHE_DIR=~/cache\n")
    write(project / "~" / "cache" / "a.gguf", GGUF)
    write(home / "cache" / "b.gguf", GGUF)
    found, _ = find_roots(at(home, search=("work",)))
    assert {os.path.relpath(r.path, home) for r in found} == {"work/p/~/cache", "cache"}
    for root in found:
        assert [p.code for p in root.problems] == ["tilde-in-env"] and "${HOME}/cache" in root.problems[0].hint


def test_search_never_leaves_and_never_loops(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = home / "work"
    write(home / "away" / "model_cache" / "x.gguf", GGUF)
    work.mkdir()
    (work / "loop").symlink_to(".")
    (work / "out").symlink_to(home / "away")
    os.mkfifo(work / ".env")
    (work / ".env.x").symlink_to("/etc/passwd")
    write(work / ".env.big", b"HF_CACHE_DIR=\0\n" + b"x" * 100_000)
    write(work / ".env.self", b"HF_CACHE_DIR=.\n")
    deep = work.joinpath(*["d"] * 40)
    write(deep / "model_cache" / "x.gguf", GGUF)
    write(home / "more" / "p" / "model_cache" / "x.gguf", GGUF)
    found = list(project_caches(at(home, search=("more", "more/p", "more"))))
    assert [c.path for c in found] == [f"{home}/more/p/model_cache"], "each folder is entered once"
    before = dict(os.environ)
    assert list(project_caches(at(home, search=("work", "missing", "work")))) == []
    assert dict(os.environ) == before


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="HF_CACHE_DIR=ab/~ \n\"'#$\\\t{}\r", max_size=60), st.booleans())
def test_env_values_are_python_dotenv_s(text: str, plain: bool) -> None:
    import io

    if plain:
        text = f"X=1\nHF_CACHE_DIR={text}"
    assert env_value(text, "HF_CACHE_DIR") == dotenv_values(stream=io.StringIO(text), interpolate=False).get(
        "HF_CACHE_DIR"
    )


def test_a_download_carries_its_commit_and_is_matched_to_its_repo(home: Path) -> None:
    files = {"config.json": CONFIG, "model.safetensors": WEIGHTS}
    hub = Hub(home / "no" / "hub")
    commit = hub.repo("org/right").revision(files)
    hub.repo("org/wrong").revision({"config.json": CONFIG, "model.safetensors": WEIGHTS + b"2"})
    local_dir(home / "models" / "copy", files, commit, 4e9)
    found = scan(at(home))
    (item,) = [i for i in found.items if i.store == "dir"]
    assert item.revisions[0].commit == commit and item.extra == (
        ("downloaded from commit", commit),
        ("copy of", f"hf:org/right@{commit}"),
    )
    assert match_provenance(found) == {item.key: f"hf:org/right@{commit}"}


def test_small_files_prove_nothing_without_the_commit(home: Path) -> None:
    hub = Hub(home / "no" / "hub")
    files = {"config.json": CONFIG, "model.safetensors": WEIGHTS}
    commit = hub.repo("org/a").revision(files, shared=("model.safetensors",))
    local_dir(home / "models" / "other", {"config.json": CONFIG, "model.safetensors": SMALL}, "b" * 40, 4e9)
    assert match_provenance(scan(at(home))) == {}
    local_dir(home / "models" / "same", files, commit, 4e9)
    assert list(match_provenance(scan(at(home))).values()) == [f"hf:org/a@{commit}"]


def test_a_file_that_was_changed_since_is_no_proof(home: Path) -> None:
    commit = Hub(home / "no" / "hub").repo("org/a").revision({"model.safetensors": WEIGHTS})
    local_dir(home / "models" / "edited", {"model.safetensors": WEIGHTS}, commit, 1e9)
    assert match_provenance(scan(at(home))) == {}


def test_a_download_is_matched_to_ollama_by_sha256(home: Path) -> None:
    gguf = gguf_bytes({"general.architecture": "llama"}, LFS_THRESHOLD)
    OllamaStore(home / ".ollama" / "models").model("tiny:latest", {"model": gguf})
    local_dir(home / "models" / "gguf", {"x.gguf": gguf}, "c" * 40, 4e9)
    assert list(match_provenance(scan(at(home))).values()) == ["ollama:tiny:latest"]


@pytest.mark.parametrize("record", [b"", b"a\nb\nc\n", b"\xff" * 90, b"a" * 40 + b"\n../../x\n1\n", b"a" * 40])
def test_records_that_are_none(tmp_path: Path, record: bytes) -> None:
    write(tmp_path / "x.gguf", GGUF)
    write(tmp_path / ".cache" / "huggingface" / "download" / "x.gguf.metadata", record)
    assert downloads(str(tmp_path), ["x.gguf", "../x.gguf"]) == {}
