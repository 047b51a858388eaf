"""Asking: every architecture answers, the trained model rightly; what cannot be asked is refused with advice."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from asking import COLOUR_VLM, COLOURS, QUESTION, colour_vlm, loaded_from, picture
from needs import needs

from cachetui.engine.errors import NO_MEMORY, TOO_LONG, UNSUPPORTED, EngineError

torch = needs("torch", reason="needs torch (extra models)")
needs("transformers", reason="needs transformers (extra models)")
pytestmark = pytest.mark.models

from cachetui.engine import chat  # noqa: E402
from cachetui.engine.prompting import Answer, Question, ask, context_limit  # noqa: E402
from cachetui.engine.streaming import Stream  # noqa: E402

TEXT = "what colour is the quick brown fox?"
_loaded: dict[str, Any] = {}


@pytest.fixture
def load(repo: Callable[..., Path]) -> Callable[[str], Any]:
    """A tiny model, loaded once for all tests of a process."""

    def get(kind: str) -> Any:
        if kind not in _loaded:
            _loaded[kind] = loaded_from(repo(kind))
        return _loaded[kind]

    return get


def answers(loaded: Any, text: str = QUESTION, **more: Any) -> list[str]:
    return [ask(loaded, Question(text, [picture(colour)], **more)).text for colour in COLOURS]


RIGHT = [f"the picture is {colour} ." for colour in COLOURS]


@pytest.fixture(scope="module")
def child(repo: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a process of its own says: the colours, then what happens where memory ends."""
    code = f"""
import resource
from cachetui.engine import environment
environment.prepare(offline=True)
from PIL import Image
from cachetui.engine.errors import EngineError
from cachetui.engine.images import open_picture
from cachetui.engine.loading import load
from cachetui.engine.prompting import Question, ask
from cachetui.wanted import Wanted
loaded = load(Wanted({str(COLOUR_VLM)!r}, "colour", device="cpu"))
for colour in {list(COLOURS.values())!r}:
    Image.new("RGB", (40, 40), colour).save("x.png")
    print(ask(loaded, Question({QUESTION!r}, [open_picture("x.png")])).text)
loaded = load(Wanted({str(repo("llama"))!r}, "llama", device="cpu", dtype="float32", attention="eager"))
ask(loaded, Question("hi", max_new_tokens=2))
now = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmSize")) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + (40 << 20), -1))
try:
    ask(loaded, Question("fox" * 650, max_new_tokens=2))
except EngineError as e:
    print(e.code, "|", e.reason, "|", e.advice)
print(ask(loaded, Question("hi", max_new_tokens=2)).tokens)
"""
    folder = tmp_path_factory.mktemp("child")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


# The model that knows something.


def test_it_names_the_colour_of_a_picture() -> None:
    assert answers(colour_vlm()) == RIGHT
    assert answers(colour_vlm(), "describe this picture .") == RIGHT


@pytest.mark.parametrize("bits", [4, 8])
def test_it_still_does_quantized(bits: int) -> None:
    pytest.importorskip("bitsandbytes")
    loaded = colour_vlm(bits=bits, dtype="bfloat16")
    assert loaded.quantization == {4: "nf4", 8: "int8"}[bits]
    assert answers(loaded) == RIGHT


def test_it_still_does_in_sixteen_bits_and_in_two_chunks() -> None:
    loaded = colour_vlm(dtype="bfloat16")
    assert answers(loaded) == RIGHT
    assert [ask(loaded, Question(QUESTION, [picture(c)]), two_chunks=True).text for c in COLOURS] == RIGHT


def test_what_an_answer_tells() -> None:
    pieces: list[str] = []
    answer = ask(colour_vlm(), Question(QUESTION, [picture("blue")]), on_token=pieces.append)
    assert pieces == ["the", " picture", " is", " blue", " ."]
    assert (answer.text, answer.tokens, answer.prompt_tokens) == ("the picture is blue .", 6, 12)
    assert answer.finish == "stop" and 0 < answer.first_token_seconds < answer.seconds
    assert answer.tokens_per_second > 0 and not answer.state_used and answer.reason and not answer.advice
    assert Answer(**json.loads(json.dumps(answer.to_json()))) == answer


def test_in_a_new_process(child: list[str]) -> None:
    assert child[: len(RIGHT)] == RIGHT


def test_several_pictures_are_all_read() -> None:
    both = ask(colour_vlm(), Question(QUESTION, [picture("red"), picture("red")], max_new_tokens=4))
    one = ask(colour_vlm(), Question(QUESTION, [picture("red")], max_new_tokens=4))
    assert both.prompt_tokens == one.prompt_tokens + 4


# Every architecture.


@pytest.mark.parametrize("kind", tiny.WRITING)
def test_every_architecture_answers(kind: str, load: Callable[[str], Any]) -> None:
    loaded = load(kind)
    pictures = [picture("red", (64, 48)), picture("blue", (70, 100))] if kind in tiny.SEEING else []
    for count in range(len(pictures) + 1):
        question = Question(TEXT, pictures[:count], "you are a helpful assistant", 7)
        pieces: list[str] = []
        plain = ask(loaded, question, on_token=pieces.append)
        assert plain.tokens and plain.finish in ("stop", "length")
        assert "".join(pieces) == plain.text
        assert ask(loaded, question, two_chunks=True).text == plain.text
        drawn = [ask(loaded, replace(question, temperature=1.5, seed=seed)).text for seed in (1, 1, 2)]
        assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("kind", tiny.SEEING)
def test_what_is_in_the_picture_reaches_the_model(kind: str, load: Callable[[str], Any]) -> None:
    loaded, found = load(kind), []
    for colour in ("red", "white"):
        e = chat.encode(loaded, system="", pictures=[picture(colour, (64, 48))], text=TEXT)
        with torch.no_grad():
            found.append(loaded.model(input_ids=e.ids, attention_mask=e.mask, **e.extra, **e.pixels).logits[0, -1])
    assert not torch.allclose(found[0], found[1], rtol=1e-3)


@pytest.mark.parametrize("kind", tiny.WRITING)
def test_the_prefix_is_the_same_for_every_text(kind: str, load: Callable[[str], Any]) -> None:
    loaded = load(kind)
    pictures = [picture("red", (64, 48))] if kind in tiny.SEEING else []
    texts = ["what is it?", "What", " x", "\n\ny", "7 birds", "é", "🦊 fox", "?", "the same", "a" * 200]
    found = [chat.encode(loaded, system="be short", pictures=pictures, text=t) for t in texts]
    assert found[0].prefix > 6 + 4 * len(pictures)
    for text, encoded in zip(texts, found, strict=True):
        assert encoded.prefix == found[0].prefix
        head, tail = encoded.ids[0, : encoded.prefix], encoded.ids[0, encoded.prefix :]
        assert torch.equal(head, found[0].ids[0, : encoded.prefix])
        assert tail.tolist() == chat.follow(loaded, system="be short", pictures=len(pictures), text=text)
        assert text.strip() in loaded.tokenizer.decode(tail)


def test_it_asks_as_the_library_does(load: Callable[[str], Any]) -> None:
    """Against apply_chat_template of the processor itself, which puts pictures and text together in one call."""
    for kind in ("qwen3_vl", "llava", "gemma3", "smolvlm"):
        loaded, shown = load(kind), picture("green", (64, 48))
        parts = [{"type": "image", "image": shown.image}, {"type": "text", "text": TEXT}]
        theirs = loaded.processor.apply_chat_template(
            [{"role": "user", "content": parts}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        ours = chat.encode(loaded, system="", pictures=[shown], text=TEXT)
        assert torch.equal(ours.ids, theirs["input_ids"])
        assert torch.equal(ours.pixels["pixel_values"], theirs["pixel_values"])
        assert set(theirs) == {"input_ids", "attention_mask", *ours.pixels, *ours.extra}


@pytest.mark.parametrize("kind", ["llama", "llava"])
@pytest.mark.parametrize("begins", ["", "{{ bos_token }}"])
def test_a_first_token_comes_once(
    kind: str, begins: str, repo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokenizers that put a first token before everything, under templates that do too, or do not."""
    from tokenizers.processors import TemplateProcessing

    loaded = loaded_from(repo(kind))
    first = [("<|endoftext|>", 0)]
    loaded.tokenizer._tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=first)
    owner = loaded.processor or loaded.tokenizer
    monkeypatch.setattr(owner, "chat_template", begins + owner.chat_template)
    content: Any = [{"type": "text", "text": TEXT}] if loaded.processor else TEXT
    theirs = owner.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    theirs = theirs[0] if isinstance(theirs[0], list) else theirs
    ours = chat.encode(loaded, system="", pictures=(), text=TEXT).ids[0].tolist()
    assert ours == theirs and ours.count(0) == (0 if kind == "llama" and not begins else 1)


# Templates.


def test_without_a_template_the_plain_text_goes_on(load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("gpt2")
    monkeypatch.setattr(loaded.tokenizer, "chat_template", None)
    answer = ask(loaded, Question("the quick brown", max_new_tokens=4))
    assert "no chat template" in answer.advice
    assert answer.prompt_tokens == len(loaded.tokenizer("the quick brown")["input_ids"])
    assert chat.render(loaded, system="be short", pictures=0, text="hi").text == "be short\n\nhi"


def test_pictures_without_a_template(load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("llava")
    monkeypatch.setattr(loaded.tokenizer, "chat_template", None)
    monkeypatch.setattr(loaded.processor, "chat_template", None)
    assert chat.render(loaded, system="", pictures=2, text="hi").text == "<image>\n<image>\nhi"
    assert ask(loaded, Question(TEXT, [picture()], max_new_tokens=3)).tokens


def test_a_template_without_a_system_role(load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("llama")
    refuses = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    )
    monkeypatch.setattr(loaded.tokenizer, "chat_template", refuses)
    prompt = chat.render(loaded, system="be short", pictures=0, text="hi")
    assert prompt.text == "<user>be short\n\nhi" and "no system prompt" in prompt.notes[0]
    forgets = "{% for m in messages if m.role == 'user' %}<user>{{ m.content }}{% endfor %}"
    monkeypatch.setattr(loaded.tokenizer, "chat_template", forgets)
    assert chat.render(loaded, system="be short", pictures=0, text="hi").text == "<user>be short\n\nhi"


def test_a_template_that_takes_plain_text_only(load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("llava")
    plain = "{% for m in messages %}{{ m.role + ': ' + m.content }}\n{% endfor %}"
    monkeypatch.setattr(loaded.tokenizer, "chat_template", plain)
    monkeypatch.setattr(loaded.processor, "chat_template", plain)
    assert chat.render(loaded, system="", pictures=1, text="hi").text == "user: <image>\nhi\n"


def test_a_template_that_takes_nothing(load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("llama")
    monkeypatch.setattr(loaded.tokenizer, "chat_template", "{{ raise_exception('never') }}")
    with pytest.raises(EngineError, match="takes no such question") as found:
        ask(loaded, Question("hi"))
    assert "verify" in found.value.advice


# Stopping.


def test_cancelling_between_tokens() -> None:
    pieces: list[str] = []
    event = threading.Event()

    def on_token(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 3:
            event.set()

    answer = ask(colour_vlm(), Question(QUESTION, [picture()]), on_token=on_token, cancelled=event.is_set)
    assert (answer.finish, answer.tokens, answer.text) == ("cancelled", 3, "the picture is")


def test_cancelling_while_the_prompt_is_read(load: Callable[[str], Any]) -> None:
    loaded, asked = load("qwen3_vl"), []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 3

    answer = ask(loaded, Question(TEXT, [picture()]), cancelled=cancelled)
    assert (answer.finish, answer.tokens, answer.text, answer.first_token_seconds) == ("cancelled", 0, "", 0.0)
    assert len(asked) < 6, "it went on after it was stopped"
    assert not any(m._forward_pre_hooks for m in loaded.model.modules()), "nothing stays in the model"
    assert ask(loaded, Question(TEXT, [picture()], max_new_tokens=3)).tokens == 3


def test_it_stops_at_the_tokenizers_end_too(load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("llama")
    plain = ask(loaded, Question(TEXT, max_new_tokens=8))
    ids = loaded.model.generate(
        **loaded.tokenizer(chat.render(loaded, system="", pictures=0, text=TEXT).text, return_tensors="pt"),
        max_new_tokens=8, do_sample=False,
    )[0].tolist()  # fmt: skip
    assert plain.tokens == 8
    monkeypatch.setattr(loaded.tokenizer, "eos_token", loaded.tokenizer.convert_ids_to_tokens(ids[-5]))
    short = ask(loaded, Question(TEXT, max_new_tokens=8))
    assert (short.finish, short.tokens) == ("stop", 4)


def test_drawing_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    ask(colour_vlm(), Question(QUESTION, [picture()], temperature=2.0, seed=9))
    assert torch.equal(before, torch.random.get_rng_state())


# Limits.


def test_a_question_that_is_too_long() -> None:
    limit = context_limit(colour_vlm())
    with pytest.raises(EngineError, match=f"holds {limit}") as found:
        ask(colour_vlm(), Question("what " * 200, [picture()]))
    assert found.value.code == TOO_LONG and "--max-pixels" in found.value.advice


def test_where_the_context_ends_is_said(load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("llama")
    count = chat.encode(loaded, system="", pictures=(), text=TEXT).ids.shape[1]
    monkeypatch.setattr(loaded.model.config, "max_position_embeddings", count + 5)
    answer = ask(loaded, Question(TEXT, max_new_tokens=50))
    assert (answer.finish, answer.tokens) == ("length", 5) and f"= {count + 5}" in answer.advice
    assert not ask(loaded, Question(TEXT, max_new_tokens=5)).advice


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_models_that_write_nothing(kind: str, load: Callable[[str], Any]) -> None:
    with pytest.raises(EngineError, match="writes no text") as found:
        ask(load(kind), Question("hi"))
    assert "verify --load" in found.value.advice


def test_pictures_for_a_model_without_eyes(load: Callable[[str], Any]) -> None:
    with pytest.raises(EngineError, match="takes no pictures") as found:
        ask(load("qwen3"), Question("hi", [picture()]))
    assert found.value.code == UNSUPPORTED and found.value.advice


def test_a_text_that_looks_like_a_picture(load: Callable[[str], Any]) -> None:
    for kind, text in (("llava", "an <image>"), ("qwen3_vl", "<|image_pad|>"), ("gemma3", "<start_of_image>")):
        with pytest.raises(EngineError, match="means a picture"):
            ask(load(kind), Question(text, [picture()]))


def test_out_of_memory_is_advice_and_nothing_stays_held(child: list[str]) -> None:
    """In the process of its own, whose memory ends soon."""
    told, after = child[len(RIGHT) :]
    assert told.startswith(f"{NO_MEMORY} | this machine's memory is full") and "--bits 4" in told
    assert after == "2", "it goes on"


# Streaming.


def test_no_piece_splits_a_character(load: Callable[[str], Any]) -> None:
    tokenizer = load("llama").tokenizer
    text = "naïve 👩‍🚀 日本語 and ﷽ end"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) > len(text), "characters of several tokens"
    pieces: list[str] = []
    stream = Stream(tokenizer, pieces.append)
    stream.put(torch.tensor([[1, 2, 3]]))  # the prompt is not shown
    for n in ids:
        stream.put(torch.tensor([n]))
    stream.end()
    assert "".join(pieces) == text == stream.text
    assert not any("\ufffd" in p for p in pieces)


def test_bytes_that_are_no_character_come_out_in_the_end(load: Callable[[str], Any]) -> None:
    tokenizer = load("llama").tokenizer
    half = tokenizer("é", add_special_tokens=False)["input_ids"][:1]
    pieces: list[str] = []
    stream = Stream(tokenizer, pieces.append)
    for ids in ([[9]], *([n] for n in half * 40)):
        stream.put(torch.tensor(ids))
    assert pieces, "not held for ever"
    stream.end()
    assert stream.text == "\ufffd" * 40


# What a repo or a caller may hold.


def test_what_a_repo_says_about_generating_stays_within_bounds(load: Callable[[str], Any]) -> None:
    """Ways to generate that need another program, model or cache are not taken; penalties are."""
    from transformers import GenerationConfig

    loaded = load("qwen3")
    plain = ask(loaded, Question(TEXT, max_new_tokens=8)).text
    before = loaded.model.generation_config
    nasty: list[dict[str, Any]] = [
        {"penalty_alpha": 0.6, "top_k": 4}, {"dola_layers": "high"}, {"num_beams": 3}, {"max_time": 0.000001},
        {"cache_implementation": "static"}, {"prompt_lookup_num_tokens": 3}, {"max_length": 5},
        {"do_sample": True, "temperature": 9.0, "top_p": 0.1}, {"return_dict_in_generate": True},
        {"guidance_scale": 3.0}, {"stop_strings": ["never to be seen"]},
    ]  # fmt: skip
    try:
        for values in nasty:
            config = loaded.model.generation_config = GenerationConfig(eos_token_id=before.eos_token_id, **values)
            answer = ask(loaded, Question(TEXT, max_new_tokens=8))
            assert (answer.text, answer.tokens) == (plain, 8), values
            assert ask(loaded, Question(TEXT, max_new_tokens=8), two_chunks=True).text == plain, values
            assert loaded.model.generation_config is config
        loaded.model.generation_config = GenerationConfig(eos_token_id=before.eos_token_id, repetition_penalty=9.0)
        assert ask(loaded, Question(TEXT, max_new_tokens=8)).text != plain
    finally:
        loaded.model.generation_config = before


def test_text_that_is_no_text() -> None:
    answer = ask(colour_vlm(), Question("what colour is caf\udce9 ?", [picture("red")], "sy\udcffstem"))
    assert answer.text
    assert Question("caf\udce9 🦊").text == "caf\ufffd 🦊"


def test_what_the_listener_raises_arrives() -> None:
    def broken(_: str) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        ask(colour_vlm(), Question(QUESTION, [picture()]), on_token=broken)


def test_what_a_model_raises_has_a_reason(load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("llama")
    monkeypatch.setattr(loaded.model.model.layers[1], "mlp", torch.nn.Linear(7, 7))
    with pytest.raises(
        EngineError, match=r"llama.* \(LlamaForCausalLM\) fails while it answers: RuntimeError: mat1"
    ) as e:
        ask(loaded, Question(TEXT))
    assert "verify" in e.value.advice and "\n" not in e.value.reason


def test_an_answer_of_no_tokens() -> None:
    with pytest.raises(EngineError, match="no token"):
        ask(colour_vlm(), Question(QUESTION, max_new_tokens=0))
