"""`from cachetui import VLM`: a model of this machine (or the Hub) in your own process, with the program's own engine.

    from cachetui import VLM

    vlm = VLM(model_path="Qwen/Qwen3-VL-2B-Instruct", load_in_4bit=True)
    print(vlm.call(text_prompt="What is on the table?", image_input="photo.jpg"))

    for line in ("What is it?", "Which colour?"):               # one loaded model, any number of questions
        print(vlm.call(line, ["left.png", "right.png"]))
    print(vlm.answer.tokens_per_second, vlm.answer.finish)

    vlm = VLM("/models/my-finetune", device="cpu")              # a folder with config.json and safetensors
    vlm.call("Describe it.", Image.open("x.png"), system_prompt="Answer in one word.", max_pixels=200_000)

torch and transformers are imported when a VLM is made, not before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cachetui.config import Where
from cachetui.download.places import hub_place
from cachetui.runnable import DEFAULT_MODEL
from cachetui.wanted import Wanted

if TYPE_CHECKING:
    from cachetui.engine.loading import Loaded
    from cachetui.engine.prompting import Answer


class VLM:
    """One model in memory, asked with text and pictures."""

    answer: Answer | None
    """The last one: its text, tokens, seconds, why it ended, advice."""

    def __init__(
        self,
        model_path: str | os.PathLike[str] = DEFAULT_MODEL,
        cache_dir: str | os.PathLike[str] | None = None,
        load_in_4bit: bool = False,
        load_in_8bit: bool = False,
        *,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        """Load a model; where it is not on this machine yet, download it first, unless HF_HUB_OFFLINE is set.

        `model_path`: a repo of the Hub (`ORG/NAME`), a short name (`qwen3`), or a folder. Of a repo only what loading
        needs is fetched: no second format of the same weights.
        `cache_dir`: a folder that holds `models--*` is used as it is; any other gets `hub/` inside, as HF_HOME would.
        Without one: where every HF library looks (HF_HUB_CACHE, HF_HOME).
        `load_in_4bit` (nf4), `load_in_8bit`: quantized while loading, through bitsandbytes; the vision tower is not.
        `device`: auto, cpu, cuda, cuda:N, mps. `dtype`: auto (as stored), float32, bfloat16, float16.
        `trust_remote_code`: run Python code that the repo brings.

        Raises cachetui.engine.errors.EngineError, whose `advice` says what to do, and huggingface_hub's own errors.
        """
        if load_in_4bit and load_in_8bit:
            raise ValueError("load_in_4bit or load_in_8bit, not both")
        from cachetui.engine import environment

        environment.prepare(offline=False)
        from cachetui.engine import loading

        folder, repo, commit = find(os.fsdecode(model_path), cache_dir, revision)
        bits = 4 if load_in_4bit else 8 if load_in_8bit else 0
        name = repo or os.path.basename(folder.rstrip("/")) or folder
        wanted = Wanted(
            folder, name, repo, commit, device=device, dtype=dtype, bits=bits, trust_remote_code=trust_remote_code
        )
        self.loaded: Loaded = loading.load(wanted)
        """The model itself (`.model`, `.processor`, `.tokenizer`), its device, dtype, class and bytes in memory."""
        self.answer = None

    def call(
        self,
        text_prompt: str,
        image_input: Any = None,
        *,
        system_prompt: str = "",
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        max_pixels: int = 0,
        resize: tuple[int, int] | None = None,
        on_token: Callable[[str], None] | None = None,
    ) -> str:
        """Ask, and return what the model wrote; more about it is in `answer`.

        `image_input`: a path, the bytes of a picture file, a PIL image, "noise", None, or a list of these.
        `temperature` 0 always takes the likeliest token; above it `seed` decides. `max_pixels`, `resize`: lower the
        pictures first. `on_token` gets the text in pieces as it comes.

        Raises cachetui.engine.errors.EngineError: no pictures in this model, too long, out of memory.
        """
        from cachetui.engine import prompting
        from cachetui.engine.images import picture_of

        given: Sequence[Any] = (
            () if image_input is None else image_input if isinstance(image_input, list | tuple) else (image_input,)
        )
        pictures = [picture_of(p, max_pixels=max_pixels, resize=resize, seed=seed) for p in given if p is not None]
        question = prompting.Question(text_prompt, pictures, system_prompt, max_new_tokens, temperature, seed)
        self.answer = prompting.ask(self.loaded, question, on_token=on_token)
        return self.answer.text

    def __repr__(self) -> str:
        wanted = self.loaded.wanted
        return f"VLM({wanted.name!r}, device={str(self.loaded.device)!r}, quantization={self.loaded.quantization!r})"


def find(model: str, cache_dir: str | os.PathLike[str] | None, revision: str | None) -> tuple[str, str, str]:
    """(folder, repo, commit) of what is to be loaded; fetched where it is not there."""
    where = Where(dict(os.environ), os.path.expanduser("~"), os.getcwd())
    folder = where.resolve(model)
    if os.path.isdir(folder):
        return folder, "", ""
    repo = _repo(model)
    cache = hub_place(where, os.fsdecode(cache_dir) if cache_dir is not None else "").path
    folder = _snapshot(repo, cache, revision)
    return folder, repo, os.path.basename(folder)


def _repo(model: str) -> str:
    """The repo that is meant. Raises EngineError where the text names none."""
    from cachetui.download.errors import PullError
    from cachetui.download.spelling import parse_hub
    from cachetui.engine.errors import NO_MODEL, EngineError
    from cachetui.memory import catalogue

    if "/" not in model:
        rows = catalogue.named(model)
        if len(rows) > 1:
            several = ", ".join(r.repo for r in rows)
            raise EngineError(f"{model} can be {several}", "name one of them", NO_MODEL)
        if rows:
            return rows[0].repo
    try:
        return parse_hub(model).repo
    except PullError as e:
        raise EngineError(f"{model} is no folder and no repo", e.advice, NO_MODEL) from None


def _snapshot(repo: str, cache: str, revision: str | None) -> str:
    """The repo's folder, as huggingface_hub's snapshot_download leaves and finds it.

    Raises the library's own errors for what a Hub refuses, EngineError where there is neither a Hub nor a copy.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    from cachetui.alternatives import other_formats

    if constants.is_offline_mode():
        return _copy(repo, cache, revision)
    try:
        # Not list_repo_files: it tries for half a minute where there is no network.
        siblings = HfApi().model_info(repo, revision=revision or constants.DEFAULT_REVISION).siblings or ()
    except HfHubHTTPError as e:
        if e.response is not None and e.response.status_code < 500:
            raise
        return _copy(repo, cache, revision, e)
    except Exception as e:  # of whichever HTTP library: no network
        return _copy(repo, cache, revision, e)
    ignored = [_literal(name) for name in other_formats(s.rfilename for s in siblings)]
    return snapshot_download(repo, revision=revision, cache_dir=cache, ignore_patterns=ignored or None)


def _copy(repo: str, cache: str, revision: str | None, error: Exception | None = None) -> str:
    """What is there already. Whether it is whole is for the loader to see: other formats are missing on purpose."""
    from huggingface_hub import try_to_load_from_cache

    from cachetui.engine.errors import NO_MODEL, EngineError

    found = try_to_load_from_cache(repo, "config.json", cache_dir=cache, revision=revision)
    if isinstance(found, str):
        return os.path.dirname(found)
    why = f"the Hub does not answer ({error})" if error is not None else "HF_HUB_OFFLINE is set"
    advice = "try again with a network" if error is not None else f"cachetui pull hf:{repo}, or unset HF_HUB_OFFLINE"
    raise EngineError(f"{repo} is not in {cache}, and {why}", advice, NO_MODEL) from error


def _literal(name: str) -> str:
    """A pattern of fnmatch that matches this name only."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
