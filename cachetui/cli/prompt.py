"""cachetui prompt: ask a model that lies on this machine, with pictures; or ask all of them, to see which work."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from cachetui.cli import common
from cachetui.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cachetui.cli.common import Session
    from cachetui.runnable import Options

NOISE = "noise"
ALL = "all"


@dataclass(frozen=True)
class Ask:
    """What is asked, whoever is asked."""

    text: str
    """Empty: a usual question."""
    images: tuple[str, ...]
    """Absolute paths, or `noise`."""
    system: str
    max_new_tokens: int
    temperature: float
    seed: int
    max_pixels: int
    resize: tuple[int, int] | None

    def request(self, text: str, images: Sequence[str], state: str = "") -> dict[str, object]:
        """For the worker."""
        return {
            "op": "ask", "text": text, "images": list(images), "system": self.system, "state": state,
            "max_new_tokens": self.max_new_tokens, "temperature": self.temperature, "seed": self.seed,
            "max_pixels": self.max_pixels, "resize": list(self.resize) if self.resize else None, "auto_state": False,
        }  # fmt: skip


@dataclass(frozen=True)
class Way:
    """How it is done and shown."""

    options: Options
    root: str | None
    pull: bool
    yes: bool
    binary: bool
    as_json: bool
    verb: str = "prompt"
    """For commands that are proposed."""


def size_of(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """(width, height) of WIDTHxHEIGHT: the callback of --resize."""
    if value is None:
        return None
    width, _, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) < 1 << 16 and 0 < int(height) < 1 << 16):
        raise click.BadParameter(f"{safe(value)} is no size; write 640x480", ctx, param)
    return int(width), int(height)


@common.verb()
@click.argument("words", nargs=-1, metavar='[TARGET]... ["TEXT"]')
@click.option("--model", "models", multiple=True, metavar="TARGET", help="A TARGET too; `all`: --all (repeatable).")
@click.option("--prompt", "text", metavar="TEXT", help="The text; then every word before is a TARGET.")
@click.option("--image", "images", multiple=True, metavar="FILE|noise", help="A picture, or a random one (repeatable).")
@click.option("--mode", type=click.Choice([NOISE]), help="--mode noise: --image noise.")
@click.option("--system", "--system-prompt", "system", default="", metavar="TEXT", help="System prompt.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=128, show_default=True, help="Length of the answer.")
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0: always the likeliest."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of drawn tokens and of --image noise.")
@click.option("--max-pixels", type=click.IntRange(1), help="Make pictures smaller, shape kept, to so many pixels.")
@click.option("--resize", metavar="WxH", callback=size_of, help="Make pictures exactly so large.")
@click.option("--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda, cuda:N, mps.")
@click.option("--dtype", default="auto", show_default=True, help="auto (as stored), float32, bfloat16, float16.")
@click.option("--bits", type=click.Choice(["4", "8"]), help="Quantize while loading.")
@click.option(
    "--state", "--cache", "states", multiple=True, metavar="FILE|DIR", help="Go on from a saved state (repeatable)."
)
@click.option("--all", "every", is_flag=True, help="Ask every model here, one after the other: which ones work?")
@click.option("--pull", is_flag=True, help="Download what is not on disk first, with the plan shown.")
@click.option("-y", "--yes", is_flag=True, help="With --pull: do not ask.")
@click.option("--trust-remote-code", is_flag=True, help="Let the Python code in the named models' repos run.")
@common.root_option
@common.where_options
@common.binary_option
@common.json_option
def prompt(
    words: tuple[str, ...],
    models: tuple[str, ...],
    text: str | None,
    images: tuple[str, ...],
    mode: str | None,
    system: str,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    max_pixels: int | None,
    resize: tuple[int, int] | None,
    device: str,
    dtype: str,
    bits: str | None,
    states: tuple[str, ...],
    every: bool,
    pull: bool,
    yes: bool,
    trust_remote_code: bool,
    root: str | None,
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    binary: bool,
    as_json: bool,
) -> int:
    """Ask a model that is on this machine; the answer streams as it comes.

    Offline, safetensors only, in a process of its own. Without TARGET: the model of the --state, else
    Qwen/Qwen3-VL-2B-Instruct. Several TARGETs, or --all: a row for each model, whether it loads and what it says.
    Several --state, or a folder of them: a row for each. Without a text, on a terminal: a conversation; Ctrl-D ends it.

    \b
    Examples:
      cachetui prompt qwen3 "What is in this picture?" --image photo.jpg
      cachetui prompt hf:org/name-GGUF:name-Q4_K_M.gguf "Why is the sky blue?"
      cachetui prompt ollama:llama3.2:3b
      cachetui prompt "How many people?" --state states/
      cachetui prompt --all --image noise
    """
    from cachetui.cli import prompt_run, prompt_states
    from cachetui.runnable import Options

    if max_pixels and resize:
        raise click.UsageError("--max-pixels or --resize, not both")
    every = every or ALL in models
    models = tuple(m for m in models if m != ALL)
    if every and trust_remote_code:
        raise click.UsageError("--trust-remote-code is for models that are named, not for --all")
    where = common.to_where(cache_dir, search)
    pictures = (*(i if i == NOISE else _picture(where.resolve(i)) for i in images), *([NOISE] if mode else []))
    options = Options(device, dtype, int(bits or 0), trust_remote_code=trust_remote_code)
    must_mean_something(options)
    session = common.begin(where, binary=binary)
    only = common.real_root(session, root)
    targets, said = sort_words(session, words, models, text, alone_is_text=bool(states or models or every))
    if every and targets:
        raise click.UsageError("--all asks every model; leave the names out")
    ask = Ask(said, pictures, system, max_new_tokens, temperature, seed, max_pixels or 0, resize)
    way = Way(options, only, pull, yes, session.binary, as_json)
    if states:
        if len(targets) > 1 or every:
            raise click.UsageError("a saved state belongs to one model: give one TARGET, or none")
        return prompt_states.run(session, ask, way, targets[0] if targets else "", states)
    if every:
        return prompt_run.everything(session, ask, way)
    if len(targets) > 1:
        return prompt_run.several(session, ask, way, targets)
    return prompt_run.one(session, ask, way, targets[0] if targets else "")


def _picture(path: str) -> str:
    if not os.path.isfile(path):
        raise click.UsageError(f"--image: there is no file {safe(path)}")
    return path


def must_mean_something(options: Options) -> None:
    """Refuse a device or dtype that there is not."""
    from cachetui.wanted import BadRequest, Wanted

    try:
        Wanted("", "", device=options.device, dtype=options.dtype, bits=options.bits)
    except BadRequest as e:
        raise click.UsageError(safe(str(e))) from None


def sort_words(
    session: Session, words: Sequence[str], models: Sequence[str], text: str | None, *, alone_is_text: bool
) -> tuple[list[str], str]:
    """(TARGETs, text): the last word is the text, unless --prompt gives it or all words name models.

    `alone_is_text`: what one word is that could be either. A single word with a space in it is a text in any case.
    """
    found = list(words)
    if text is None and found and not _all_targets(session, found, alone_is_text):
        text = found.pop()
    return [*found, *models], text or ""


def _all_targets(session: Session, words: Sequence[str], alone_is_text: bool) -> bool:
    if len(words) == 1:
        return not alone_is_text and not any(c.isspace() for c in words[0].strip())
    from cachetui.memory import catalogue
    from cachetui.targets import TargetError, TargetNotFound, resolve

    def is_target(word: str) -> bool:
        try:
            return bool(resolve(session.scan, word, None, session.where.cwd))
        except TargetNotFound:
            return bool(catalogue.named(word))
        except TargetError:
            return True

    return is_target(words[-1])


def text_of(ask: Ask, *, images: bool, sees: bool) -> str:
    """What is asked: the text, or the usual question. `images`: whether a picture goes with it."""
    from cachetui.runnable import ABOUT_A_PICTURE, WITHOUT_PICTURE

    return ask.text or (ABOUT_A_PICTURE if images and sees else WITHOUT_PICTURE)


def piped_text() -> str:
    """What is written to us, where stdin is no terminal."""
    if sys.stdin.isatty():
        return ""
    return sys.stdin.read().strip()
