"""state save, ls, show, verify, rm, as people and scripts use them. Only what loads a model needs torch."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
from cli_terminal import Terminal
from cli_world import Run
from state_world import COMMIT, save

from cachetui import state_folders, states
from cachetui.demo.builders import Hub, OllamaStore, gguf_bytes, local_dir, safetensors_bytes, write

MODEL = Path(__file__).parents[1] / "data" / "colour_vlm"
NAME = "acme/colour"
CONFIG = b'{"model_type": "llama"}'
WEIGHTS = safetensors_bytes({"w": ("F32", (500,))})


@pytest.fixture
def kept(home: Path) -> Path:
    """A folder of the user's with two states; one of them is of a model that is here, at another commit."""
    Hub(home / ".cache/huggingface/hub").repo("org/name").revision(
        {"config.json": CONFIG, "model.safetensors": WEIGHTS}
    )
    folder = home / "caches"
    save(folder / "a_cache.pt", images=("/pictures/a.png",), tokens=20)
    save(folder / "b.safetensors", repo="other/model", images=("b.png",), created=1.6e9)
    write(folder / "holiday.jpg", bytes(5000))
    state_folders.remember(str(folder))
    return folder


def test_ls_lists_the_newest_first(kept: Path, run: Run) -> None:
    lines = run("state", "ls").out.splitlines()
    assert lines[0].split() == ["STATE", "MODEL", "TOKENS", "SIZE", "PICTURES", "AGE", "NOTE"]
    assert lines[1].startswith("state:a_cache.pt") and "hf:org/name@a1a1a1a" in lines[1] and "a.png 64x48" in lines[1]
    assert "stale-state" in lines[1] and lines[2].startswith("state:b.safetensors")
    assert run("state", "list", "-q").out.split() == ["state:a_cache.pt", "state:b.safetensors"]
    assert run("state", "ls", "hf:org/name", "-q").out.split() == ["state:a_cache.pt"]
    assert run("state", "ls", "b.safetensors", "-q").out.split() == ["state:b.safetensors"]
    assert run("state", "ls", "-f", "problem=stale-state", "-q").out.split() == ["state:a_cache.pt"]
    assert set(run("ls", "--store", "state", "-q").out.split()) == {"state:a_cache.pt", "state:b.safetensors"}


def test_ls_keeps_to_80_columns_and_names_are_told_apart(kept: Path, home: Path, run: Run) -> None:
    save(kept / "holiday-Qwen3-VL-2B-Instruct-a0406acd.safetensors", images=("/pictures/holiday.jpg",))
    (home / "cut.pt").write_bytes((kept / "a_cache.pt").read_bytes()[:-1])
    state_folders.remember(str(home))
    shown = [line for line in Terminal("state", "ls", NO_COLOR="1").until().splitlines() if line]
    assert shown[0].split() == ["STATE", "TOKENS", "SIZE", "PICTURES", "AGE", "NOTE"]
    assert max(map(len, shown)) <= 80 and len(shown) == 6, shown
    assert any(line.startswith("state:holiday") for line in shown)
    assert run("state", "ls").out.splitlines()[0].split()[1] == "MODEL"


def test_ls_as_json(kept: Path, run: Run) -> None:
    first, second = run("state", "ls", "--json").data["states"]
    assert (first["id"], first["model"], first["commit"]) == ("state:a_cache.pt", "hf:org/name", COMMIT)
    assert (first["tokens"], first["images"], first["path"]) == (20, "a.png 64x48", str(kept / "a_cache.pt"))
    assert second["made"].startswith("2020-09-13") and first["problems"][0]["code"] == "stale-state"


def test_nothing_is_listed_kindly(run: Run) -> None:
    assert "cachetui state save --image FILE" in run("state", "ls").err


def test_show_tells_what_it_is_of(kept: Path, run: Run) -> None:
    shown = run("state", "show", "a_cache.pt").out
    for text in (
        "belongs to      hf:org/name",
        "tokens          20",
        "a.png 64x48",
        "problems",
        "nothing here can go on",
    ):
        assert text in shown, text
    data = run("state", "show", str(kept / "a_cache.pt"), "--json").data
    assert data["extra"]["tokens"] == "20" and data["store"] == "state"


def test_show_of_a_file_that_lies_anywhere(home: Path, run: Run) -> None:
    save(home / "elsewhere.pt", repo="org/x")
    assert "belongs to  org/x\n" in run("state", "show", "elsewhere.pt").out
    assert run("state", "show", "elsewhere.pt", "--json").data["identity"]["repo"] == "org/x"
    (home / "real.pt").write_bytes(b"PK\x03\x04" + bytes(900))
    err = run("state", "show", "real.pt", code=1).err
    assert "never unpickled\nmake it again with: cachetui state save --image PICTURE --output" in err
    assert "no such file" in run("state", "show", "nothing.pt", code=1).err


def test_verify_and_one_byte(kept: Path, home: Path, run: Run) -> None:
    assert "2 intact" in run("state", "verify").out
    with (kept / "b.safetensors").open("r+b") as f:
        f.seek(-3, os.SEEK_END)
        f.write(b"\xee")
    out = run("state", "verify", code=1).out
    assert "1 intact, 1 damaged" in out and "save it again: cachetui state save hf:other/model --image b.png" in out
    assert run("state", "verify", "a_cache.pt").out.startswith("intact")
    strange = home / "strange"
    strange.write_bytes((kept / "b.safetensors").read_bytes())
    data = run("state", "verify", "strange", "--json", code=1).data["states"]
    assert [d["outcome"] for d in data] == ["damaged"]
    verdicts = run("verify", "--store", "state", "--json", code=1).data["verdicts"]
    assert {v["id"]: v["outcome"] for v in verdicts} == {
        "state:a_cache.pt": "intact", "state:b.safetensors": "damaged",
    }  # fmt: skip


def test_foreign_files_are_verified_by_what_they_carry(home: Path, run: Run) -> None:
    """The checksums of a zip need no unpickling."""
    with zipfile.ZipFile(home / "old.pt", "w") as file:
        file.writestr("old/data.pkl", b"\x80\x02." + bytes(900))
    whole = (home / "old.pt").read_bytes()
    (home / "flipped.pt").write_bytes(whole.replace(bytes(500), bytes(499) + b"\x01"))
    (home / "plain.pt").write_bytes(b"\x80\x02}q\x00.")
    save(home / "x.pt", repo="org/x")
    (home / "cut.pt").write_bytes((home / "x.pt").read_bytes()[:-1])
    data = run("state", "verify", "old.pt", "flipped.pt", "plain.pt", "cut.pt", "x.pt", "--json", code=1).data["states"]
    assert [d["outcome"] for d in data] == ["no state", "no state", "no state", "damaged", "intact"]
    assert data[0]["reason"].endswith("never unpickled; by its own checksums it is whole")
    assert data[1]["reason"].endswith("by its own checksums old/data.pkl in it is damaged")
    for name in ("old.pt", "plain.pt", "cut.pt"):
        out = run("state", "verify", name, code=1).out
        assert f"cachetui state save --image PICTURE --output {home / name}" in out, out


def test_rm_is_a_plan_and_is_undone(kept: Path, run: Run) -> None:
    before = (kept / "a_cache.pt").read_bytes()
    plan = run("state", "rm", "a_cache.pt", "--dry-run", "--json").data["plan"]
    assert [i["target"] for i in plan["items"]] == ["state:a_cache.pt"] and (kept / "a_cache.pt").exists()
    assert "Deleted: state:a_cache.pt" in run("state", "rm", "a_cache.pt", "-y").out
    assert sorted(os.listdir(kept)) == ["b.safetensors", "holiday.jpg"]
    assert "Back: state:a_cache.pt" in run("undo", "-y").out
    assert (kept / "a_cache.pt").read_bytes() == before
    run("state", "rm", "--filter", "size>1", "-y")
    assert os.listdir(kept) == ["holiday.jpg"]
    assert [i["store"] for i in run("ls", "--json").data["items"]] == ["hf"]


def test_hostile_names_reach_no_terminal(home: Path, run: Run) -> None:
    folder = home / "x\x1b[31my"
    name = "\x1b]52;c;eA==\x07\u202egp.\udcffpt"
    info = save(folder / name, images=("\x1b[2Jcat\n.png",), system="\x1b]0;owned\x07", repo="a/\x1b[5mb")
    state_folders.remember(str(folder))
    for what in ("ls", "verify", "ls --json", "ls -q"):
        run("state", *what.split())
    target = run("state", "ls", "-q").out.strip()
    run("state", "show", target)
    run("state", "show", target, "--json")
    run("state", "rm", target, "--dry-run")
    (home / "z").write_bytes(Path(info.path).read_bytes())
    run("state", "show", "z")
    run("state", "show", "z", "--json")
    run("state", "verify", "z")
    run("state", "rm", target, "-y")
    assert os.listdir(folder) == []


def test_other_verbs_say_what_it_is(kept: Path, run: Run) -> None:
    assert "it is a saved state: estimate hf:org/name" in run("estimate", "state:a_cache.pt", code=1).err
    for name in ("state:b.safetensors", "b.safetensors"):
        assert "other/model" in run("prompt", "What is it?", "--state", name, code=1).err
    assert "no such file" in run("prompt", "What is it?", "--state", "c.safetensors", code=1).err
    assert "state_folders" in run("info", "--json").data["paths"]


def test_rm_takes_states_alone(kept: Path, run: Run) -> None:
    assert "no saved state: cachetui rm hf:org/name" in run("state", "rm", "hf:org/name", "-y", code=1).err
    assert "name what to delete" in run("state", "rm", code=2).err


@pytest.mark.parametrize("args", [(), ("save",), ("ls",), ("show",), ("verify",), ("rm",)])
def test_help_has_examples(run: Run, args: tuple[str, ...]) -> None:
    out = run("state", *args, "--help").out
    assert "Examples:" in out
    if args == ("save",):
        assert "CACHETUI_STATES" in out and "state_dir" in out and "--max-pixels" in out


def hub(home: Path, name: str = NAME) -> None:
    files = {p.name: p.read_bytes() for p in MODEL.iterdir() if p.is_file()}
    Hub(home / ".cache/huggingface/hub").repo(name).revision(files)


def test_what_is_not_on_disk_is_offered(home: Path, run: Run) -> None:
    write(home / "p.png", b"x")
    err = run("state", "save", "--image", "p.png", code=1).err
    assert "cachetui state save hf:Qwen/Qwen3-VL-2B-Instruct --pull" in err
    assert "no picture nope.png" in run("state", "save", NAME, "--image", "nope.png", code=1).err
    assert "640x480" in run("state", "save", NAME, "--resize", "big", code=2).err
    assert "not both" in run("state", "save", NAME, "--model", "x", code=2).err
    hub(home)
    two = run("state", "save", NAME, "--image", "noise", "--image", "p.png", "-o", "one.pt", code=1)
    assert "--output DIR/, or --together" in two.err


def test_pictures_for_what_takes_none_are_refused_before_anything_loads(kept: Path, home: Path, run: Run) -> None:
    write(home / "p.png", b"x")
    err = run("state", "save", "org/name", "--image", "p.png", code=1).err
    assert err == "Error: org/name takes no pictures: --image needs a vision-language model\n"
    files = {"config.json": b'{"model_type": "mamba"}', "model.safetensors": WEIGHTS}
    Hub(home / ".cache/huggingface/hub").repo("org/mamba").revision(files)
    told = run("state", "save", "org/mamba", "--dry-run").out.splitlines()
    assert told[1] == f"  the system prompt: to {home}/.local/share/cachetui/states/"  # no numbers to count from


def test_only_what_transformers_runs_has_states(home: Path, run: Run) -> None:
    gguf = gguf_bytes({"general.architecture": "llama"}, 9000)
    OllamaStore(home / ".ollama/models").model("tiny:latest", {"model": gguf})
    assert "only models that transformers runs" in run("state", "save", "ollama:tiny", code=1).err


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("taken.pt", "it is a zip as torch.save writes it"),
        ("photo.jpg", "photo.jpg is there already"),
        ("link.pt", "is a link"),
        (".cache/huggingface/hub/x.pt", "is part of Hugging Face hub"),
        ("models/tiny/x.pt", "is the folder of the model"),
        ("models/.hidden/x.pt", "is not looked at"),
    ],
)
def test_nothing_but_a_state_is_replaced_and_none_lies_among_other_files(
    home: Path, run: Run, output: str, why: str
) -> None:
    hub(home)
    local_dir(home / "models/tiny", {"config.json": CONFIG, "model.safetensors": WEIGHTS}, "a" * 40, 1e9)
    write(home / "taken.pt", b"PK\x03\x04" + bytes(900))
    write(home / "photo.jpg", b"\xff\xd8\xff" + bytes(900))
    (home / "link.pt").symlink_to("photo.jpg")
    before = {p: p.read_bytes() for p in home.rglob("*") if p.is_file()}
    answer = run("state", "save", NAME, "--output", output, "--json", "-y", code=1)
    (row,) = answer.data["states"]
    assert why in row["reason"] and not row["saved"]
    assert {p: p.read_bytes() for p in before} == before and not (home / "models/.hidden").exists()


def test_a_state_of_something_else_is_asked_for(home: Path, run: Run) -> None:
    hub(home)
    save(home / "x.pt", repo="other/model")
    before = (home / "x.pt").read_bytes()
    assert "add -y" in run("state", "save", NAME, "-o", "x.pt", code=2).err
    assert (home / "x.pt").read_bytes() == before


@pytest.fixture
def pictures(home: Path) -> Path:
    """Red, green and blue, and one that is none."""
    pytest.importorskip("torch")
    image = pytest.importorskip("PIL.Image")
    for colour in ("red", "green", "blue"):
        image.new("RGB", (64, 64), colour).save(home / f"{colour}.png")
    write(home / "broken.png", b"no picture")
    hub(home)
    return home


@pytest.mark.models
def test_predicted_before_anything_is_loaded(pictures: Path, run: Run) -> None:
    answer = run("state", "save", NAME, "--image", "red.png", "--image", "broken.png", "--dry-run", "--json", code=1)
    first, second = answer.data["states"]
    assert first["predicted"]["tokens"] > 4 and first["predicted"]["bytes"] > 1000 and not first["saved"]
    assert "broken.png" in second["reason"]
    small = run("state", "save", NAME, "--image", "red.png", "--resize", "4x4", "--dry_run")
    assert "red.png: about" in small.out and not list(pictures.rglob("*.safetensors.new"))
    assert run("state", "ls", "-q").out == ""


@pytest.mark.models
def test_saved_listed_verified_asked_and_deleted(pictures: Path, run: Run) -> None:
    answer = run(
        "state", "save", "--model", NAME, "--image", "red.png", "--image", "blue.png", "--image", "broken.png",
        "--output", "caches/", "--system_prompt", "", "--device", "cpu", "--json", code=1,
    )  # fmt: skip
    red, blue, broken = answer.data["states"]
    assert red["saved"] and blue["saved"] and "broken.png" in broken["reason"]
    assert Path(red["path"]).parent == pictures / "caches" and red["bytes"] == Path(red["path"]).stat().st_size
    assert states.check(red["path"]) is None and states.read(red["path"]).tokens == red["tokens"]
    assert state_folders.known() == (str(pictures / "caches"),)
    exact = run("state", "save", NAME, "--image", "green.png", "--output", "photo_cache.pt", "--device", "cpu")
    assert "photo_cache.pt: written at that path; its content is safetensors, no pickle" in exact.err
    assert (pictures / "photo_cache.pt").read_bytes()[8:24] == b'{"__metadata__":'
    listed = run("state", "ls", NAME, "--json").data["states"]
    assert {s["images"] for s in listed} == {"red.png 64x64", "blue.png 64x64", "green.png 64x64"}
    assert all(not s["problems"] for s in listed)
    assert "3 intact" in run("state", "verify").out
    asked = run("prompt", "What colour is it?", "--state", "caches/", "--state", "photo_cache.pt", "--json").data
    said = json.dumps(asked)
    assert [colour in said for colour in ("red", "blue", "green")] == [True] * 3
    with Path(red["path"]).open("r+b") as f:
        f.seek(-2, os.SEEK_END)
        f.write(b"\x99")
    assert "1 damaged" in run("state", "verify", code=1).out
    run("state", "rm", red["path"], "photo_cache.pt", "-y")
    assert len(run("state", "ls", "-q").out.split()) == 1
    run("undo", "-y")
    assert len(run("state", "ls", "-q").out.split()) >= 2
