"""Invariant I11: no outside string acts on a terminal; I16: a shown id becomes the same bytes again."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachetui.text import decode_target, encode_target, is_lossy, safe, safe_block

# Names as a disk can have them: any bytes but NUL, decoded as the system decodes them.
names = st.binary(max_size=60).filter(lambda b: b"\0" not in b).map(os.fsdecode)
texts = st.one_of(names, st.text(max_size=60))
ALLOWED = {"L", "M", "N", "P", "S"}

BAD = (
    "\x1b]52;c;ZXZpbA==\x07", "\x1b[2J", "\x9b31m", "\u202etxt.exe", "\u2066x\u2069", "a\u200bb", "\ufeff", "\u00ad",
    "\u2028", "\r\n\t", "\x7f", "\U000e0041", "\u3164", "\u2800", "e" + "\u0301" * 40, "\udcff", "\ue000",
)  # fmt: skip


@given(texts)
def test_safe_leaves_nothing_that_acts_reorders_or_hides(text: str) -> None:
    shown = safe(text)
    for char in shown:
        assert unicodedata.category(char)[0] in ALLOWED or char == " ", (text, shown)
        assert unicodedata.bidirectional(char) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    shown.encode("utf-8")


@given(texts)
def test_safe_twice_is_safe_once(text: str) -> None:
    assert safe(safe(text)) == safe(text)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert safe(text) == text


@pytest.mark.parametrize("text", BAD)
def test_known_attacks_become_escapes(text: str) -> None:
    assert "\\" in safe(text)
    assert safe(text).isprintable()


@pytest.mark.parametrize(
    "text", ["naïve", "日本語/モデル", "Ω-7B", "👍", "e\u0301", "[@click=app.quit]x", "[/foo]", "العربية"]
)
def test_ordinary_names_of_the_world_stay_readable(text: str) -> None:
    assert safe(text) == text


def test_stacked_marks_stop_after_two() -> None:
    assert safe("e\u0301\u0302\u0303") == "e\u0301\u0302\\u0303"


@given(texts)
def test_blocks_keep_their_lines(text: str) -> None:
    shown = safe_block(text)
    assert shown.count("\n") == text.count("\n")
    assert all(c == "\n" or unicodedata.category(c)[0] in ALLOWED or c == " " for c in shown)


@given(names)
def test_an_id_names_the_same_bytes_again(name: str) -> None:
    encoded = encode_target(name)
    assert decode_target(encoded) == name
    assert os.fsencode(decode_target(encoded)) == os.fsencode(name)
    encoded.encode("utf-8")


@given(names)
def test_an_id_copied_from_the_screen_names_the_same_bytes_again(name: str) -> None:
    assert decode_target(safe(encode_target(name))) == name


@given(names, names)
def test_two_names_have_two_ids(a: str, b: str) -> None:
    assert (encode_target(a) == encode_target(b)) == (a == b)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_anything_typed_can_be_decoded(text: str) -> None:
    os.fsencode(decode_target(text))


@given(names)
def test_lossy_is_what_utf8_cannot_say(name: str) -> None:
    try:
        os.fsencode(name).decode("utf-8")
        expected = False
    except UnicodeDecodeError:
        expected = True
    assert is_lossy(name) is expected
