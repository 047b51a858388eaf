"""What a picture and a system prompt come to before anything is loaded. Reads two small files: for a thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cachetui.runnable import Runnable
    from cachetui.tui.pictures import Shown
    from cachetui.tui.talk import Options


@dataclass(frozen=True, slots=True)
class Predicted:
    """What is read before the question, and what a saved state of it takes."""

    picture_tokens: int
    tokens: int
    """Of picture, system prompt and template together; the text in it is counted by a rule of thumb."""
    bytes: int
    exact: bool
    """Whether the tokens of the picture are."""


def predict(runnable: Runnable, shown: Shown | None, options: Options) -> Predicted | None:
    """None for engines whose configuration is not read here. Never raises for what files hold."""
    from cachetui.state_saving import expected

    if not runnable.saves_states:
        return None
    folder, bits = runnable.wanted.folder, options.bits
    without = expected(folder, [], options.system, bits=bits)
    if shown is None:
        return Predicted(0, without.tokens, without.bytes, True)
    found = expected(folder, [shown.size], options.system, bits=bits)
    return Predicted(max(found.tokens - without.tokens, 0), found.tokens, found.bytes, found.exact)
