"""The model that names colours, asked from saved states: by name of a state alone, in a new process, quantized."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from asking import COLOUR_VLM, COLOURS, QUESTION, colour_vlm, picture
from needs import needs

needs("torch", reason="needs torch (extra models)")
needs("transformers", reason="needs transformers (extra models)")
pytestmark = pytest.mark.models

from cachetui.engine import prompting, state  # noqa: E402
from cachetui.fs import DISK  # noqa: E402

RIGHT = {colour: f"the picture is {colour} ." for colour in COLOURS}
_NEW_PROCESS = """
import json, sys
from cachetui.engine import environment
environment.prepare(True)
from cachetui.engine import loading, prompting, state
from cachetui.wanted import Wanted
folder, bits, question, *paths = sys.argv[1:]
loaded = loading.load(Wanted(folder, "colours", device="cpu", bits=int(bits)))
asked = prompting.Question(question)
print(json.dumps([prompting.ask(loaded, asked, state=state.load(p, loaded)).text for p in paths]))
"""


def saved(folder: Path, **more: int) -> dict[str, str]:
    """A state of a plain picture of every colour: colour -> path."""
    loaded = colour_vlm(**more)
    return {
        colour: state.save(DISK, state.build(loaded, [picture(colour)], ""), str(folder / f"{colour}_cache.pt")).path
        for colour in COLOURS
    }


@pytest.mark.parametrize("bits", [0, 4])
def test_it_names_the_colours_from_states(bits: int, tmp_path: Path) -> None:
    if bits:
        pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra models)")
    loaded = colour_vlm(bits=bits)
    for colour, path in saved(tmp_path, bits=bits).items():
        assert prompting.ask(loaded, prompting.Question(QUESTION), state=state.load(path, loaded)).text == RIGHT[colour]


def test_it_does_in_a_new_process(tmp_path: Path) -> None:
    paths = saved(tmp_path)
    command = [sys.executable, "-c", _NEW_PROCESS, str(COLOUR_VLM), "0", QUESTION, *paths.values()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [RIGHT[colour] for colour in paths]


def test_two_pictures_at_once_are_another_state_than_each(tmp_path: Path) -> None:
    loaded = colour_vlm(bits=0)
    both = state.build(loaded, [picture("red"), picture("blue")], "")
    assert both.info.identity.key != state.build(loaded, [picture("blue"), picture("red")], "").info.identity.key
