"""The file of a state: what is written is read, no byte changes unseen, nothing in it is believed or unpickled."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from states_world import IDENTITY, OTHER, TOKENS, changed, info, make, reseal, tensors

from cachetui import states
from cachetui.states import Identity, StateError, form
from cachetui.states.errors import DAMAGED, MISSING, NOT_A_STATE, PICKLE, VERSION
from cachetui.states.folder import commit_of, weights_digest


@pytest.fixture
def path(home: Path) -> Path:
    found = home / "photo_cache.pt"
    make(found)
    return found


def refused(path: Path | str) -> StateError:
    with pytest.raises(StateError) as caught:
        states.read(str(path))
    return caught.value


def test_what_is_written_is_read(path: Path) -> None:
    found = states.read(str(path))
    assert found == make(path)
    assert (found.identity, found.tokens, found.bytes, found.model) == (
        IDENTITY,
        TOKENS,
        path.stat().st_size,
        "hf:acme/eyes",
    )
    assert states.check(str(path)) is None
    assert path.stat().st_mode & 0o777 == 0o600
    assert states.is_start(path.read_bytes()[: states.start_length()])
    assert json.loads(json.dumps(found.to_json()))["key"] == IDENTITY.key
    assert os.listdir(path.parent) == [path.name]


def test_any_safetensors_library_reads_it(path: Path) -> None:
    library = pytest.importorskip("safetensors", reason="needs safetensors (extra models)")
    found = dict(library.deserialize(path.read_bytes()))
    assert {n: (bytes(t["data"]), tuple(t["shape"]), t["dtype"]) for n, t in found.items()} == {
        t.name: (t.data, t.shape, t.dtype) for t in tensors()
    }


def test_every_flipped_byte_is_seen(path: Path) -> None:
    """In the header when it is read, in the data when it is verified."""
    raw = path.read_bytes()
    data_at = 8 + int.from_bytes(raw[:8], "little")
    for at in range(len(raw)):
        bad = bytearray(raw)
        bad[at] ^= 1 << at % 8
        path.write_bytes(bad)
        if at < data_at:
            refused(path)
        else:
            assert states.read(str(path)).tokens == TOKENS
        assert states.check(str(path)), at


def test_every_cut_is_seen(path: Path) -> None:
    raw = path.read_bytes()
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        refused(path)
        assert states.check(str(path)), length
    path.write_bytes(raw + b"\0")
    assert "more than it knows" in refused(path).reason


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors", "x.json", "x"])
def test_the_content_decides_not_the_suffix(home: Path, name: str) -> None:
    make(home / name)
    assert states.read(str(home / name)).identity == IDENTITY
    (home / name).write_bytes(pickle.dumps({"past_key_values": [1, 2]}))
    found = refused(home / name)
    assert found.code == PICKLE
    assert "never unpickled" in found.reason
    assert f"cachetui state save --image PICTURE --output {home / name}" in found.advice


def torch_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
    return out.getvalue()


def safetensors(header: Any, data: bytes = b"") -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


FOREIGN: dict[str, tuple[Callable[[], bytes], str]] = {
    "torch zip": (torch_zip, PICKLE),
    "pickle": (lambda: pickle.dumps([1] * 100, protocol=2), PICKLE),
    "weights": (lambda: safetensors({"w": {"dtype": "I8", "shape": [1], "data_offsets": [0, 1]}}, b"1"), NOT_A_STATE),
    "weights of torch": (lambda: safetensors({"__metadata__": {"format": "pt"}}), NOT_A_STATE),
    "gguf": (lambda: b"GGUF" + bytes(60), NOT_A_STATE),
    "picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(60), NOT_A_STATE),
    "text": (lambda: b"hello, this is a text of some length", NOT_A_STATE),
    "json": (lambda: b'{"a": 1, "b": 2, "c": 3}', NOT_A_STATE),
    "nothing": (lambda: b"", NOT_A_STATE),
    "zeros": (lambda: bytes(4096), NOT_A_STATE),
    "deep": (lambda: struct.pack("<Q", 200_007) + b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"} ", DAMAGED),
    "no object": (lambda: struct.pack("<Q", 8) + b"{1,2,3} ", DAMAGED),
    "huge header": (lambda: struct.pack("<Q", 1 << 40) + b'{"a' + bytes(60), NOT_A_STATE),
    "other version": (lambda: safetensors({"__metadata__": {"cachetui.state": "9"}}), VERSION),
    "without a seal": (lambda: safetensors({"__metadata__": {"cachetui.state": "1", "cachetui.info": "{}"}}), DAMAGED),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_named(home: Path, kind: str) -> None:
    made, code = FOREIGN[kind]
    (home / "x").write_bytes(made())
    found = refused(home / "x")
    assert found.code == code, found.reason
    assert states.check(str(home / "x")) == found.reason


def test_what_is_no_file_is_said(home: Path) -> None:
    assert refused(home / "none").code == MISSING
    assert refused(home).code == NOT_A_STATE
    os.mkfifo(home / "pipe")
    assert refused(home / "pipe").code == NOT_A_STATE
    assert refused(f"{home}/a\0b").code == "unreadable"


def test_a_header_larger_than_any_is_not_read(home: Path) -> None:
    """A sparse file of a terabyte costs nothing."""
    with (home / "x").open("wb") as f:
        f.write(struct.pack("<Q", 1 << 39) + b'{"__metadata__":{"cachetui.state":"1"')
        f.truncate(1 << 40)
    assert "no state has one of more" in refused(home / "x").reason


def put(name: str, value: Any) -> Callable[[Any, Any], None]:
    return lambda header, told: header["layers.0.keys"].__setitem__(name, value)


def tell(name: str, value: Any) -> Callable[[Any, Any], None]:
    return lambda header, told: told.__setitem__(name, value)


def who(name: str, value: Any) -> Callable[[Any, Any], None]:
    return lambda header, told: told["identity"].__setitem__(name, value)


HOSTILE: dict[str, Callable[[Any, Any], Any]] = {
    "a name that no file could have": who("system", "\ud800"),
    "shape of 2**120": put("shape", [1 << 40, 1 << 40, 1 << 40]),
    "negative shape": put("shape", [-1, -2, 5, 4]),
    "float shape": put("shape", [1.0, 2, 5, 4]),
    "true shape": put("shape", [True, 2, 5, 4]),
    "another shape": put("shape", [1, 2, 5, 5]),
    "many dimensions": put("shape", [1] * 1000 + [40]),
    "no dtype": put("dtype", "OBJECT"),
    "dtype is a list": put("dtype", []),
    "offsets overlap": put("data_offsets", [0, 80]),
    "offsets beyond": put("data_offsets", [1 << 49, (1 << 49) + 80]),
    "offsets backwards": put("data_offsets", [160, 80]),
    "one offset": put("data_offsets", [0]),
    "one more key": put("pickled", "yes"),
    "a missing tensor": lambda header, told: header.pop("layers.0.keys") and None,
    "a tensor that is text": lambda header, told: header.__setitem__("layers.0.keys", "x"),
    "no tokens": tell("tokens", 0),
    "2**60 tokens": tell("tokens", 1 << 60),
    "tokens are text": tell("tokens", "5"),
    "layers are text": tell("layers", "many"),
    "a layer of three": tell("layers", [["DynamicLayer", 5, 6]]),
    "a million layers": tell("layers", [["DynamicLayer", 5]] * 10_000),
    "created in the year 10**9": tell("created", 1e300),
    "created is no number": tell("created", float("nan")),
    "identity is a list": tell("identity", []),
    "no repo": who("repo", None),
    "a picture of 2**32 pixels": who("images", [{"name": "x", "sha256": "", "width": 65536, "height": 65536}]),
    "a picture of nothing": who("images", [{"name": "x", "sha256": "", "width": 0, "height": 1}]),
    "10000 pictures": who("images", [{"name": "x", "sha256": "", "width": 1, "height": 1}] * 10_000),
    "a system prompt of 2 MB": who("system", "x" * (2 << 20)),
    "resize to text": who("resize", ["a", "b"]),
    "resize to one number": who("resize", [5]),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_in_a_well_sealed_file_is_believed(path: Path, what: str) -> None:
    """Whoever can compute a seal can write anything."""
    reseal(path, HOSTILE[what])
    assert refused(path).code == DAMAGED


def test_the_helper_seals_as_the_program_does(path: Path) -> None:
    """Else the test above would pass for nothing."""
    reseal(path, tell("device", "cuda:1"))
    assert states.read(str(path)).device == "cuda:1"
    assert states.check(str(path)) is None
    reseal(path, tell("device", "cuda:2"), again=False)
    assert "not what was written" in refused(path).reason


def test_names_that_stand_twice_are_refused(path: Path) -> None:
    raw = path.read_bytes()
    at = raw.index(b'"layers.0.keys"')
    path.write_bytes(raw[:at] + b'"layers.1.keys"' + raw[at + 15 :])
    assert "twice" in refused(path).reason


def test_every_field_of_the_identity_is_told_apart() -> None:
    assert OTHER.keys() == {f.name for f in fields(Identity)}
    assert states.mismatch(IDENTITY, IDENTITY) == ()
    for name, value in OTHER.items():
        other = changed(**{name: value})
        (found,) = states.mismatch(IDENTITY, other)
        assert found.field == name
        assert str(found).startswith(name.replace("_", "-") + ": ")
        assert other.key != IDENTITY.key
        assert bool(states.mismatch(IDENTITY, other, states.MODEL_FIELDS)) == (name in states.MODEL_FIELDS)
        assert Identity.from_json(json.loads(json.dumps(other.to_json()))) == other
    assert set(OTHER) - set(states.MODEL_FIELDS) == {"system", "images", "max_pixels", "resize"}


def test_the_name_of_a_picture_does_not_matter_its_size_does() -> None:
    image = IDENTITY.images[0]
    renamed = changed(images=(states.Image("other.jpg", image.sha256, image.width, image.height),))
    assert states.mismatch(IDENTITY, renamed) == ()
    assert renamed.key == IDENTITY.key
    smaller = changed(images=(states.Image(image.name, image.sha256, 320, 240),))
    assert "320x240" in str(states.mismatch(IDENTITY, smaller)[0])
    assert states.mismatch(IDENTITY, changed(images=(image, image)))[0].field == "images"


def test_names_that_are_no_utf8_survive(home: Path) -> None:
    name = os.fsdecode(b"photo-\xff.jpg")
    identity = changed(images=(states.Image(name, "a" * 64, 3, 4),), system="caf\u00e9 \U0001f600")
    assert make(home / name, identity=identity).identity == identity
    assert identity.key


def test_a_link_is_written_through_and_a_folder_is_not_replaced(home: Path) -> None:
    (home / "far").mkdir()
    (home / "link").symlink_to("far/real")
    made = make(home / "link")
    assert (home / "link").is_symlink()
    assert made.path == str(home / "link")
    assert states.read(str(home / "far/real")).identity == IDENTITY
    with pytest.raises(OSError):
        states.write(info(home / "far"), tensors())
    assert sorted(os.listdir(home)) == ["far", "link"]
    with pytest.raises(FileNotFoundError):
        states.write(info(home / "none/x"), tensors())


def test_the_longest_name_can_be_written(home: Path) -> None:
    name = "x" * 255
    assert make(home / name).path == str(home / name)
    assert os.listdir(home) == [name]


def test_a_state_without_data_is_one(home: Path) -> None:
    """Layers that share another's cache keep nothing."""
    empty = form.Raw("layers.0.keys", "F32", (1, 2, 0, 4), b"")
    states.write(info(home / "x"), [*tensors()[:2], empty])
    assert states.check(str(home / "x")) is None


def weights(folder: Path, numbers: list[int]) -> str:
    """One tensor of so many bytes."""
    raw = json.dumps({"w": {"dtype": "U8", "shape": [len(numbers)], "data_offsets": [0, len(numbers)]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(numbers))
    return weights_digest(str(folder))


def test_another_training_is_another_model_wherever_it_lies(home: Path) -> None:
    folders = [home / name for name in ("a", "b", "other numbers", "fewer")]
    for folder in folders:
        folder.mkdir()
        assert weights_digest(str(folder)) == ""
    one, copy = (weights(folder, [1] * 9000) for folder in folders[:2])
    assert one == copy
    assert weights(folders[2], [2] * 9000) != one
    assert weights(folders[3], [1] * 8999) != one
    (folders[1] / "model-2.safetensors").write_bytes(b"")
    assert weights_digest(str(folders[1])) != one
    assert commit_of(f"/x/models--a--b/snapshots/{'a1' * 20}/") == "a1" * 20
    assert commit_of(f"/x/{'a1' * 20}") == ""
