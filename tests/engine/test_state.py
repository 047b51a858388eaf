"""Saved states through real loading code, on every tiny architecture: equal to memory, equal to no state at all."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from needs import needs

from cachetui import states
from cachetui.engine.errors import (
    NO_MEMORY,
    STATE_DAMAGED,
    STATE_MISMATCH,
    STATE_TOO_LARGE,
    TOO_LONG,
    UNSUPPORTED,
    Cancelled,
    EngineError,
)
from cachetui.fs import DISK
from cachetui.states import form
from cachetui.states.identity import Identity
from cachetui.wanted import Wanted

torch = needs("torch", reason="needs torch (extra models)")
needs("transformers", reason="needs transformers (extra models)")
pytestmark = pytest.mark.models

import tiny  # noqa: E402

from cachetui.engine import chat, images, prompting, state, state_file  # noqa: E402
from cachetui.engine.identity import identity  # noqa: E402
from cachetui.engine.loading import Loaded, load  # noqa: E402
from cachetui.engine.prefill import set_rope_deltas  # noqa: E402

Load = Callable[..., Loaded]
SYSTEM = "you are a helpful assistant analyzing an image. the quick brown fox jumps over the lazy dog."
"""Longer than the window of the sliding layers, which is 8."""
ASKED = "how many birds are there in the sky?"
STATEFUL = tuple(name for name in tiny.WRITING if name != "mamba")


@pytest.fixture(scope="session")
def loaded(repo: Callable[..., Path]) -> Load:
    """`loaded(kind, dtype="float32")`: a tiny model in memory, once a session."""
    made: dict[tuple[str, str], Loaded] = {}

    def get(kind: str, dtype: str = "float32") -> Loaded:
        if (kind, dtype) not in made:
            made[kind, dtype] = load(Wanted(str(repo(kind, dtype)), kind, device="cpu", dtype=dtype))
        return made[kind, dtype]

    return get


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[images.Picture]:
    """Two pictures of noise, of different shapes."""
    from PIL import Image

    found = []
    for n, (width, height) in enumerate(((120, 90), (70, 130))):
        path = tmp_path_factory.mktemp("pictures") / f"{n}.png"
        Image.frombytes("RGB", (width, height), random.Random(n).randbytes(width * height * 3)).save(path)
        found.append(images.open_picture(str(path)))
    return found


def shown(model: Loaded, pictures: list[images.Picture]) -> list[images.Picture]:
    return pictures if model.images else []


def answer(model: Loaded, inputs: dict[str, Any]) -> list[int]:
    """Twenty greedy tokens, whatever they are: the model's end of text does not end them."""
    made = model.model.generate(**inputs, do_sample=False, max_new_tokens=20, eos_token_id=None, pad_token_id=3)
    return [int(t) for t in made[0, inputs["input_ids"].shape[1] :]]


def whole(model: Loaded, pictures: list[images.Picture], system: str, text: str) -> list[int]:
    """The answer without a state, the prompt read in one go."""
    e = chat.encode(model, system=system, pictures=pictures, text=text)
    return answer(model, {"input_ids": e.ids, "attention_mask": e.mask, **e.extra, **e.pixels})


def continued(model: Loaded, found: state.State, text: str) -> list[int]:
    """The answer that goes on from a state."""
    done = state.resume(model, found, text)
    set_rope_deltas(model.model, done.rope_deltas)
    e = done.encoded
    return answer(model, {"input_ids": e.ids, "attention_mask": e.mask, **e.extra, "past_key_values": done.cache})


def same(a: state.State, b: state.State) -> bool:
    """Bit for bit, names, shapes and dtypes included."""
    return a.tensors.keys() == b.tensors.keys() and all(
        t.dtype == b.tensors[n].dtype and t.shape == b.tensors[n].shape and raw(t) == raw(b.tensors[n])
        for n, t in a.tensors.items()
    )


def raw(t: Any) -> bytes:
    return bytes(t.contiguous().reshape(-1).view(torch.uint8).numpy()) if t.numel() else b""


@pytest.mark.parametrize("kind", STATEFUL)
def test_a_state_answers_as_the_model_does_without(
    kind: str, loaded: Load, pictures: list[images.Picture], tmp_path: Path
) -> None:
    """fp32: token for token; the state comes from disk, and is asked three times."""
    model = loaded(kind)
    seen = shown(model, pictures)
    made = state.build(model, seen, SYSTEM)
    info = state.save(DISK, made, str(tmp_path / "x.safetensors"))
    assert info.tokens > 40
    found = state.load(info.path, model)
    assert same(made, found)
    first = whole(model, seen, SYSTEM, ASKED)
    other = whole(model, seen, SYSTEM, "red, green or blue?")
    assert len(set(first + other)) > 5 and first != other, "a model that repeats itself proves nothing"
    assert continued(model, found, ASKED) == first
    assert continued(model, found, "red, green or blue?") == other
    assert continued(model, found, ASKED) == first
    assert same(made, found), "a question changed the state"


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("kind", STATEFUL)
def test_in_every_dtype_with_the_same_chunks(
    kind: str, dtype: str, loaded: Load, pictures: list[images.Picture], tmp_path: Path
) -> None:
    model = loaded(kind, dtype)
    seen = shown(model, pictures)
    info = state.save(DISK, state.build(model, seen, SYSTEM), str(tmp_path / "x"))
    found = state.load(info.path, model, verify=True)
    assert {t.dtype for n, t in found.tensors.items() if n.endswith(".keys")} == {getattr(torch, dtype)}
    asked = prompting.Question(ASKED, seen, SYSTEM, max_new_tokens=20)
    plain = prompting.ask(model, asked, two_chunks=True)
    quick = prompting.ask(model, asked, state=found)
    assert (quick.text, quick.tokens, quick.prompt_tokens) == (plain.text, plain.tokens, plain.prompt_tokens)
    assert quick.state_used and not plain.state_used
    assert quick.state_seconds == found.seconds > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_disk_equals_memory_in_every_dtype(dtype: str, loaded: Load, tmp_path: Path) -> None:
    """NaN, infinities and negative zeros included."""
    made = state.build(loaded("llama"), (), SYSTEM)
    odd = torch.tensor([float("nan"), float("inf"), -0.0, 1e-40, 1.5])
    changed = {n: t.to(getattr(torch, dtype)) if t.is_floating_point() else t for n, t in made.tensors.items()}
    for name, t in changed.items():
        if t.is_floating_point():
            t.view(-1)[:5] = odd.to(t.dtype)
            assert "layers" in name
    info = state.save(DISK, replace(made, tensors=changed), str(tmp_path / "x"))
    opened = states.reading.open_state(info.path)
    found = state_file.content(opened, verify=True)
    assert same(replace(made, tensors=changed), replace(made, tensors=found))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", tiny.SEEING)
def test_pictures_alone_and_several(kind: str, count: int, loaded: Load, pictures: list[images.Picture]) -> None:
    model = loaded(kind)
    made = state.build(model, pictures[:count], "")
    assert [i.width for i in made.info.identity.images] == [p.size[0] for p in pictures[:count]]
    assert continued(model, made, ASKED) == whole(model, pictures[:count], "", ASKED)


def test_a_state_without_pictures_on_a_model_that_sees(loaded: Load, pictures: list[images.Picture]) -> None:
    """And positions of the last picture are not taken for its own."""
    model = loaded("qwen3_vl")
    made, seeing = state.build(model, (), SYSTEM), state.build(model, pictures, "")
    plain = whole(model, [], SYSTEM, ASKED)
    continued(model, seeing, ASKED)
    assert continued(model, made, ASKED) == plain
    assert int(seeing.tensors["rope_deltas"]) < 0
    stale = replace(made, tensors=made.tensors | {"rope_deltas": seeing.tensors["rope_deltas"]})
    assert continued(model, stale, ASKED) != plain


@pytest.mark.parametrize(("bits", "name"), [(4, "nf4"), (8, "int8")])
def test_quantized_models_have_states_of_their_own(
    bits: int, name: str, repo: Callable[..., Path], loaded: Load, pictures: list[images.Picture], tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra models)")
    model = load(Wanted(str(repo("llava")), "llava", device="cpu", dtype="float32", bits=bits))
    info = state.save(DISK, state.build(model, pictures, SYSTEM), str(tmp_path / "x"))
    assert info.identity.quantization == name
    asked = prompting.Question(ASKED, pictures, SYSTEM, max_new_tokens=20)
    plain = prompting.ask(model, asked, two_chunks=True)
    assert prompting.ask(model, asked, state=state.load(info.path, model)).text == plain.text
    with pytest.raises(EngineError, match=f"quantization: the state has {name}, here it is none"):
        state.load(info.path, loaded("llava"))


def test_bytes_a_token_are_those_of_the_formula(loaded: Load, pictures: list[images.Picture]) -> None:
    from cachetui.memory.cache import cache_of

    for kind in STATEFUL:
        model = loaded(kind)
        made = state.build(model, shown(model, pictures), SYSTEM)
        held = sum(t.numel() * t.element_size() for n, t in made.tensors.items() if n.startswith("layers."))
        formula = cache_of(json.loads((Path(model.wanted.folder) / "config.json").read_text()))
        assert formula is not None
        assert formula.bytes(made.info.tokens, 4) == held, kind


REFUSED = {
    "mamba": "pure state-space",
    "bert": "writes no text",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_state_is_refused_with_the_reason(kind: str, loaded: Load) -> None:
    with pytest.raises(EngineError, match=REFUSED[kind]) as caught:
        state.build(loaded(kind), (), SYSTEM)
    assert caught.value.code == UNSUPPORTED


OTHER: dict[str, Any] = {
    "repo": "acme/ears", "commit": "d" * 40, "weights": "5" * 64, "architecture": "GPT2LMHeadModel",
    "quantization": "nf4", "dtype": "bfloat16", "attention": "eager", "tokenizer": "6" * 64, "template": "7" * 64,
    "processor": "8" * 64, "libraries": "transformers 5.24", "system": "x", "max_pixels": 7, "resize": (64, 48),
    "images": (states.Image("x.png", "9" * 64, 3, 4),),
}  # fmt: skip


_ALONE = "ask with the text alone: pictures and system prompt are in the state; or save another: cachetui state save"
_LOADED = "load the model as it was then; or save one for the model as it is loaded: cachetui state save"
WAYS = {
    "repo": "ask hf:acme/ears, which it is of; or save one for this model: cachetui state save",
    "dtype": _LOADED, "quantization": _LOADED, "attention": _LOADED,
    "system": _ALONE, "images": _ALONE, "max_pixels": _ALONE, "resize": _ALONE,
}  # fmt: skip
"""Making the same state once more would be refused once more."""


@pytest.mark.parametrize("name", OTHER)
def test_each_field_of_the_identity_changed_once_is_refused(
    name: str, loaded: Load, pictures: list[images.Picture], tmp_path: Path
) -> None:
    assert OTHER.keys() == {f.name for f in fields(Identity)}
    model = loaded("llava")
    made = state.build(model, pictures[:1], SYSTEM)
    other = replace(made.info, identity=replace(made.info.identity, **{name: OTHER[name]}))
    info = state.save(DISK, replace(made, info=other), str(tmp_path / "x"))
    with pytest.raises(EngineError) as caught:
        found = state.load(info.path, model)
        assert name not in states.MODEL_FIELDS
        state.must_match(found.info, identity(model, pictures[:1], SYSTEM))
    assert caught.value.code == STATE_MISMATCH
    assert f"; {name.replace('_', '-')}: the state has" in caught.value.reason
    assert WAYS.get(name, "save it again: cachetui state save ") in caught.value.advice


def test_another_training_quantization_template_or_picture_is_another_identity(
    repo: Callable[..., Path], tmp_path: Path, pictures: list[images.Picture]
) -> None:
    """Not only the names in the file: the real things are changed."""
    base = load(Wanted(str(repo("llava")), "llava", device="cpu"))
    seen = [replace(pictures[0], size=(10, 10))]
    before = identity(base, pictures[:1], SYSTEM)

    def fields_of(other: Identity) -> set[str]:
        return {d.field for d in states.mismatch(before, other)}

    again = tiny.build("llava", tmp_path / "again", seed=1)
    assert fields_of(identity(load(Wanted(str(again), "x", device="cpu")), pictures[:1], SYSTEM)) == {"weights"}
    wide = load(Wanted(str(repo("llava")), "llava", device="cpu", dtype="bfloat16", attention="eager"))
    assert fields_of(identity(wide, pictures[:1], SYSTEM)) == {"dtype", "attention"}
    assert fields_of(identity(base, seen, SYSTEM)) == fields_of(identity(base, pictures[1:], SYSTEM)) == {"images"}
    assert fields_of(identity(base, pictures[:1], "")) == {"system"}
    assert fields_of(identity(base, pictures[:1], SYSTEM, max_pixels=5)) == {"max_pixels"}
    (again / "chat_template.jinja").write_text((again / "chat_template.jinja").read_text() + " ")
    said = json.loads((again / "preprocessor_config.json").read_text())
    (again / "preprocessor_config.json").write_text(json.dumps(said | {"image_mean": [0.1, 0.2, 0.3]}))
    found = fields_of(identity(load(Wanted(str(again), "x", device="cpu")), pictures[:1], SYSTEM))
    assert found == {"weights", "template", "processor"}
    at_commit = replace(base, wanted=replace(base.wanted, repo="a/b", commit="e" * 40))
    assert fields_of(identity(at_commit, pictures[:1], SYSTEM)) == {"repo", "commit", "weights"}


def test_a_flipped_byte_of_data_is_seen_on_first_use_and_on_verify(
    loaded: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded("llama")
    info = state.save(DISK, state.build(model, (), SYSTEM), str(tmp_path / "x"))
    hashed: list[str] = []
    real = state_file.damage
    monkeypatch.setattr(state_file, "damage", lambda opened, digest: hashed.append(digest) or real(opened, digest))
    state.load(info.path, model)
    state.load(info.path, model)
    assert len(hashed) == 1, "once is enough while the file stays as it is"
    state.load(info.path, model, verify=True)
    assert len(hashed) == 2
    data = bytearray(Path(info.path).read_bytes())
    data[-5] ^= 8
    Path(info.path).write_bytes(data)
    for verify in (False, True):
        with pytest.raises(EngineError, match="sha256") as caught:
            state.load(info.path, model, verify=verify)
        assert caught.value.code == STATE_DAMAGED


def rewritten(found: state.State, path: Path, change: Callable[[dict[str, form.Raw]], Any], **told: Any) -> str:
    """A file that is sealed well and says something else than the model would."""
    rows = {n: form.Raw(n, state._name_of(t.dtype), tuple(t.shape), raw(t)) for n, t in found.tensors.items()}
    change(rows)
    return states.write(replace(found.info, path=str(path), **told), list(rows.values())).path


def without(name: str) -> Callable[[dict[str, form.Raw]], Any]:
    return lambda rows: rows.pop(name)


def shaped(name: str, *shape: int) -> Callable[[dict[str, form.Raw]], Any]:
    return lambda rows: rows.__setitem__(name, replace(rows[name], shape=shape))


def typed(name: str, dtype: str) -> Callable[[dict[str, form.Raw]], Any]:
    return lambda rows: rows.__setitem__(name, replace(rows[name], dtype=dtype))


def filled(name: str, value: int) -> Callable[[dict[str, form.Raw]], Any]:
    def change(rows: dict[str, form.Raw]) -> None:
        data = bytearray(rows[name].data)
        data[8:16] = value.to_bytes(8, "little", signed=True)
        rows[name] = replace(rows[name], data=bytes(data))

    return change


def added(name: str) -> Callable[[dict[str, form.Raw]], Any]:
    return lambda rows: rows.__setitem__(name, form.Raw(name, "U8", (1 << 20,), bytes(1 << 20)))


CRAFTED: dict[str, tuple[str, Callable[[dict[str, form.Raw]], Any], str]] = {
    "a layer's keys are missing": ("llama", without("layers.1.keys"), "layers.1.keys is missing"),
    "ids are missing": ("llama", without("input_ids"), "input_ids is missing"),
    "a running state is missing": ("qwen3_next", without("layers.0.recurrent_states.0"), "recurrent_states.0 is"),
    "all running states": (
        "qwen3_next",
        lambda rows: [rows.pop(n) for n in list(rows) if n.startswith("layers.0.")],
        "layers.0.conv_states.0 is missing",
    ),
    "heads and tokens changed places": ("llama", shaped("layers.0.keys", 1, 68, 2, 16), "has the shape"),
    "heads and sizes changed places": ("llama", shaped("layers.0.values", 1, 16, 68, 2), "does not make"),
    "two rows": ("llama", shaped("layers.0.keys", 2, 1, 68, 16), "has the shape"),
    "fewer dimensions": ("llama", shaped("layers.0.keys", 68 * 32), "has the shape"),
    "ids in a column": ("llama", shaped("input_ids", 68, 1), "not one row"),
    "a token beyond the vocabulary": ("llama", filled("input_ids", 1 << 40), "none of the 320"),
    "a negative token": ("llama", filled("input_ids", -5), "none of the 320"),
    "a mask with holes": ("llama", filled("attention_mask", 0), "leaves tokens out"),
    "types that are none": ("qwen3_vl", filled("extra.mm_token_type_ids", 1 << 50), "impossible numbers"),
    "positions in fractions": ("qwen3_vl", typed("rope_deltas", "F64"), "not one number"),
    "something that belongs to nothing": ("llama", added("bomb"), "belongs to nothing"),
    "an extra that belongs to nothing": ("llama", added("extra.bomb"), "belongs to nothing"),
}  # fmt: skip


@pytest.mark.parametrize("what", CRAFTED)
def test_what_a_well_sealed_file_claims_is_compared_with_the_model(
    what: str, loaded: Load, pictures: list[images.Picture], tmp_path: Path
) -> None:
    kind, change, words = CRAFTED[what]
    model = loaded(kind)
    made = state.build(model, shown(model, pictures), SYSTEM)
    assert made.info.tokens == 68 or kind != "llama"
    assert state.load(rewritten(made, tmp_path / "good", lambda rows: None), model)
    with pytest.raises(EngineError, match=words) as caught:
        state.load(rewritten(made, tmp_path / "bad", change), model)
    assert caught.value.code == STATE_DAMAGED


def test_other_layers_and_impossible_counts_are_refused(loaded: Load, tmp_path: Path) -> None:
    model = loaded("gemma3_text")
    made = state.build(model, (), SYSTEM)
    layers = made.info.layers
    for told in (
        {"layers": layers[:2]},
        {"layers": (*layers[:2], replace(layers[2], kind="DynamicSlidingWindowLayer"))},
        {"layers": (replace(layers[0], kind="os.system"), *layers[1:])},
        {"layers": (replace(layers[0], seen=7), *layers[1:])},
        {"tokens": made.info.tokens - 1},
    ):
        with pytest.raises(EngineError) as caught:
            state.load(rewritten(made, tmp_path / "bad", lambda rows: None, **told), model)
        assert caught.value.code == STATE_DAMAGED
    with pytest.raises(EngineError) as caught:
        state.load(rewritten(made, tmp_path / "bad", lambda rows: None, tokens=100_000), model)
    assert caught.value.code == TOO_LONG


def test_a_state_larger_than_memory_is_refused_before_it_is_read(
    loaded: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    model = loaded("llama")
    info = state.save(DISK, state.build(model, (), SYSTEM), str(tmp_path / "x"))
    little = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(EngineError, match="1,000 are free") as caught:
        state.load(info.path, model)
    assert caught.value.code == STATE_TOO_LARGE
    assert "--max-pixels" in caught.value.advice


def test_a_real_pickle_is_never_opened(loaded: Load, tmp_path: Path) -> None:
    """torch.load of it would say so."""
    path = tmp_path / "photo_cache.pt"

    class Trap:
        def __reduce__(self) -> Any:
            return (sys.exit, ("unpickled",))

    for old in (True, False):
        torch.save({"past_key_values": Trap()}, path, _use_new_zipfile_serialization=not old)
        with pytest.raises(EngineError, match="never unpickled") as caught:
            state.load(str(path), loaded("llama"))
        assert caught.value.code == UNSUPPORTED
        assert f"cachetui state save --image PICTURE --output {path}" in caught.value.advice
    torch.nn.Linear(2, 2)  # weights are no state either
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(EngineError, match="no saved state"):
        state.load(str(path), loaded("llama"))


def test_a_prefix_that_leaves_no_room_is_refused(loaded: Load) -> None:
    with pytest.raises(EngineError, match="holds 2,048") as caught:
        state.build(loaded("llama"), (), "the quick brown fox " * 600)
    assert caught.value.code == TOO_LONG


def test_building_can_be_stopped(loaded: Load, pictures: list[images.Picture]) -> None:
    model = loaded("llava")
    with pytest.raises(Cancelled):
        state.build(model, pictures, SYSTEM, cancelled=lambda: True)
    assert continued(model, state.build(model, pictures, SYSTEM), ASKED) == whole(model, pictures, SYSTEM, ASKED)


def test_a_text_that_means_a_picture_is_refused(loaded: Load, pictures: list[images.Picture]) -> None:
    made = state.build(loaded("qwen3_vl"), pictures, "")
    for text in ("<|image_pad|>", "and <|video_pad|>?"):
        with pytest.raises(EngineError, match="means a picture"):
            state.resume(loaded("qwen3_vl"), made, text)


def test_out_of_memory_is_advice(
    loaded: Load, pictures: list[images.Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is real; that the machine is full is not."""
    model = loaded("llava")
    info = state.save(DISK, state.build(model, pictures, SYSTEM), str(tmp_path / "x"))

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(EngineError) as caught:
        state.load(info.path, model)
    assert caught.value.code == STATE_TOO_LARGE
    monkeypatch.undo()
    monkeypatch.setattr(model.model.lm_head, "forward", full)
    with pytest.raises(EngineError) as caught:
        state.build(model, pictures, SYSTEM)
    assert caught.value.code == NO_MEMORY
    assert "--max-pixels" in caught.value.advice
