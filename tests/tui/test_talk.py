"""What the prompt pane says and reads, without a screen: fields, figures, advice, completions, protocols."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prompt_world import png

from cachetui.jobs.model import Ended, JobState
from cachetui.tui import pictures
from cachetui.tui.asking import Asking
from cachetui.tui.talk import (
    Options,
    Turn,
    TurnState,
    finish,
    gain,
    in_this_pane,
    lowering,
    seconds,
    turn_lines,
    warmth,
    whole,
)
from cachetui.tui.widgets import graphics


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", (0, None)),
        ("250000", (250_000, None)),
        ("500k", (500_000, None)),
        (" 1.5M ", (1_500_000, None)),
        ("640x480", (0, (640, 480))),
        ("640×480", (0, (640, 480))),
    ],
)
def test_what_lower_to_means(text: str, found: tuple[int, tuple[int, int] | None]) -> None:
    assert lowering(text) == found


@pytest.mark.parametrize("text", ["0", "-5", "k", "640x", "0x10", "big", "nan", "1e999"])
def test_what_lower_to_does_not_mean(text: str) -> None:
    with pytest.raises(ValueError, match="640x480"):
        lowering(text)


def test_numbers_in_fields() -> None:
    assert (whole("1,024", "tokens", 1), warmth(""), warmth("0.7")) == (1024, 0.0, 0.7)
    for wrong in ("", "x", "0", "1.5"):
        with pytest.raises(ValueError, match="tokens"):
            whole(wrong, "tokens", 1)
    for wrong in ("x", "-1", "11", "nan"):
        with pytest.raises(ValueError, match="temperature"):
            warmth(wrong)


def test_times_for_people() -> None:
    assert [seconds(n) for n in (0.0841, 1.0, 89.94, 200)] == ["84 ms", "1.0 s", "89.9 s", "3 min 20 s"]


def test_a_saved_state_is_worth_what_it_leaves_to_read() -> None:
    turn = Turn("What is in this picture?", "boat.png", result={"prompt_tokens": 336})
    assert gain(turn) == 24.0
    assert gain(Turn("a question as long as all the rest" * 9, "boat.png", result={"prompt_tokens": 100})) == 0.0


def test_advice_names_the_fields_of_the_pane() -> None:
    told = in_this_pane("fewer pixels: --max-pixels 200000, --resize 448x448; --bits 4; --device cpu")
    assert told == "fewer pixels: “lower to” 200000, “lower to” 448x448; “weights” 4 bits; “on” cpu"
    assert in_this_pane("`cachetui state save` reads it once") == "Ctrl+S reads it once"


@pytest.mark.parametrize(
    ("ended", "stopped", "state"),
    [
        (Ended(JobState.DONE, {"text": "all of it"}), False, TurnState.DONE),
        (Ended(JobState.DONE, {"text": "all of it"}), True, TurnState.DONE),
        (Ended(JobState.CANCELLED, {"text": "all of it"}), True, TurnState.CANCELLED),
        (Ended(JobState.CANCELLED, None, "the model was freed"), False, TurnState.CANCELLED),
        (Ended(JobState.FAILED, None, "it was killed"), True, TurnState.CANCELLED),
        (Ended(JobState.FAILED, None, "out of memory", "--bits 4"), False, TurnState.FAILED),
    ],
)
def test_how_a_question_ends(ended: Ended, stopped: bool, state: TurnState) -> None:
    turn = Turn("q", answer="all of")
    finish(turn, ended, stopped=stopped)
    assert turn.state is state
    assert turn.answer == ("all of it" if ended.result else "all of")
    shown = "\n".join(line.plain for line in turn_lines(turn, 60, ""))
    assert ("stopped" in shown) == (state is TurnState.CANCELLED)
    assert ("“weights” 4 bits" in shown) == (state is TurnState.FAILED)


def test_an_empty_answer_and_the_limit_are_said() -> None:
    turn = Turn("q", options=Options(max_new_tokens=3))
    finish(turn, Ended(JobState.DONE, {"text": "", "tokens": 3, "finish": "length"}), stopped=False)
    shown = "\n".join(line.plain for line in turn_lines(turn, 60, ""))
    assert "(it said nothing)" in shown and "stopped at 3 tokens" in shown


def test_what_raises_in_the_thread_is_told() -> None:
    def broken(*_: object) -> Ended:
        raise OSError("no more processes")

    asking = Asking(broken)
    asking.start()
    for thread in threading.enumerate():
        if thread.name == "cachetui-job-ask":
            thread.join(10)
    assert asking.ended is not None and "no more processes" in asking.ended.reason


def test_paths_are_completed(home: Path) -> None:
    (home / "Pictures").mkdir()
    png(home / "Pictures" / "boat.png", (1, 2, 3))
    (home / "Pictures" / "notes.txt").touch()
    (home / ".hidden.png").touch()

    def first(typed: str) -> list[str]:
        return list(pictures.completions(typed, str(home), str(home)))

    assert first("Pic") == ["Pictures/"]
    assert first("~/Pictures/b") == ["~/Pictures/boat.png"]
    assert first(f"{home}/Pictures/") == [f"{home}/Pictures/boat.png"]
    assert first("no") == ["noise"] and first("nowhere/x") == []
    assert pictures.resolve("~/a.png", str(home), "/there") == f"{home}/a.png"
    assert pictures.resolve("a.png", str(home), "/there") == "/there/a.png"
    assert [pictures.resolve(t, str(home), "/there") for t in (" ", " noise ")] == ["", "noise"]
    assert pictures.first_folder(str(home), str(home)) == str(home / "Pictures")


@pytest.mark.parametrize(
    ("env", "way"),
    [
        ({"TERM": "xterm-256color"}, ""),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, ""),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "sixel"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "foot", "NO_COLOR": "1"}, ""),
        ({"TERM": "foot", "CACHETUI_PICTURES": "blocks"}, ""),
        ({"TERM": "dumb", "CACHETUI_PICTURES": "sixel"}, "sixel"),
    ],
)
def test_pixels_only_where_the_terminal_is_known(env: dict[str, str], way: str) -> None:
    assert graphics.protocol(env) == way
