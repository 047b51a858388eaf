"""Which engine runs a model on disk, and with what; or why none does, and what to type. No torch, nothing is run.

A hub snapshot or a folder with safetensors goes to transformers, an MLX conversion to mlx, a GGUF file to llama.cpp,
an Ollama tag to its server. What lies in an archive is read through its link.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from cachetui import families
from cachetui.config import Where
from cachetui.memory.model import FP32, HALF, INT8, NF4, NF4_DOUBLE, STORED
from cachetui.model import OFFLINE, Item, Revision
from cachetui.model_files import Here, size_of, writes_text
from cachetui.quant_items import BAD
from cachetui.quant_items import STORE as QUANT
from cachetui.quantized_entries.listing import ENTRY, OLDER
from cachetui.state_items import MODEL, STORE
from cachetui.store import Selection
from cachetui.targets import target_of
from cachetui.wanted import Wanted

TRANSFORMERS, GGUF, OLLAMA, MLX = "transformers", "gguf", "ollama", "mlx"
DEFAULT_MODEL = "Qwen/Qwen3-VL-2B-Instruct"
"""Where none is named."""
ABOUT_A_PICTURE, WITHOUT_PICTURE = "Describe this image.", "Say hello in one sentence."
"""What is asked where no text is given."""
_NOT_MODELS = {"dataset": "a dataset", "space": "a space", "kernel": "a kernel"}
_OTHER_PROGRAMS = ("diffusers", "timm")
_RUNTIME = 150_000_000


class NotRunnable(Exception):
    """It cannot be prompted: `str(error)` says why. Both texts may hold outside strings."""

    def __init__(self, reason: str, advice: str = "", code: str = "not-a-model", choices: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        """What to do, with the command to type."""
        self.code = code
        """not-a-model, offline, incomplete, choose-file, remote-code, no-safetensors, adapter, other-program,
        state."""
        self.choices = choices
        """With `choose-file`: the files that could be named, the smallest first."""


@dataclass(frozen=True, slots=True)
class Options:
    """How it is to be loaded, as in `Wanted`."""

    device: str = "auto"
    dtype: str = "auto"
    bits: int = 0
    double_quant: bool = False
    trust_remote_code: bool = False
    attention: str = ""


@dataclass(frozen=True, slots=True)
class Runnable:
    """A model and the engine that runs it."""

    target: str
    engine: str
    """transformers, gguf, ollama, mlx."""
    wanted: Wanted
    """For `ollama` only its name and device mean something, for `gguf` all but bits and dtype."""
    file: str = ""
    """gguf: absolute path of the file, or of the first of its parts."""
    projector: str = ""
    """gguf: absolute path of what turns pictures into tokens; empty where there is none."""
    url: str = ""
    """ollama: of the server."""
    images: bool = False
    """Whether it reads pictures, as far as its files tell."""
    writes: bool = True
    """Whether it writes text, as far as its config tells: encoders do not."""
    sizes: tuple[tuple[str, int], ...] = ()
    """(mode as in memory.model, bytes that it will take, estimated)."""
    about: str = ""
    """In a few words, e.g. `qwen3_vl, bf16`; an outside string."""

    @property
    def name(self) -> str:
        """For people; an outside string."""
        return self.wanted.name

    @property
    def key(self) -> str:
        """The same for what is the same loaded model."""
        telling = [self.engine, self.file, self.projector, self.url, self.wanted.to_json()]
        return hashlib.sha256(json.dumps(telling, sort_keys=True).encode("ascii")).hexdigest()[:16]

    @property
    def memory(self) -> int:
        """Bytes that it will take as it is wanted, estimated; 0: unknown, or taken by another program (ollama)."""
        sizes = dict(self.sizes)
        wanted = self.wanted
        if wanted.bits == 4:
            mode = NF4_DOUBLE if wanted.double_quant else NF4
        else:
            mode = INT8 if wanted.bits == 8 else {"auto": STORED, "float32": FP32}.get(wanted.dtype, HALF)
        return sizes.get(mode, sizes.get(STORED, 0))

    @property
    def saves_states(self) -> bool:
        """Whether what it read can be kept for later questions."""
        return self.engine == TRANSFORMERS

    def chosen(self, device: str = "auto", bits: int = 0) -> Runnable:
        """The same model, loaded so. Raises wanted.BadRequest."""
        return replace(self, wanted=replace(self.wanted, device=device, bits=bits))

    def to_json(self) -> dict[str, Any]:
        """For a request."""
        return {**asdict(self), "wanted": self.wanted.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Runnable:
        """The inverse. Raises KeyError, TypeError, wanted.BadRequest."""
        sizes = tuple((str(mode), int(size)) for mode, size in data["sizes"])
        return cls(**{**data, "wanted": Wanted.from_json(data["wanted"]), "sizes": sizes})


def runnable_of(selection: Selection, options: Options | None = None, where: Where | None = None) -> Runnable:
    """What runs it. Reads config and headers: some milliseconds. Raises NotRunnable, wanted.BadRequest."""
    options = options or Options()
    item, target = selection.item, target_of(selection)
    _must_be_here(item, target)
    if item.store == "ollama":
        return _ollama(item, target, options, where)
    revision = _revision(selection)
    here = Here(item, revision, target)
    if selection.file:
        if not selection.file.endswith(".gguf"):
            raise NotRunnable(
                f"{selection.file} is one file of it", f"cachetui prompt {item.id} runs the model", "choose-file"
            )
        return _gguf(here, selection.file, options)
    if item.kind in _NOT_MODELS:
        raise NotRunnable(f"it is {_NOT_MODELS[item.kind]}, not a model")
    files = here.gguf_files()
    if files and not here.has_safetensors:
        if len(files) > 1:
            raise NotRunnable(
                f"it holds {len(files)} GGUF files",
                "name one of them: " + "  ".join(f"{item.id}:{name}" for name in files),
                "choose-file",
                tuple(sorted(files, key=lambda name: size_of(os.path.join(here.folder, name)))),
            )
        return _gguf(here, files[0], options)
    return _folder(here, options)


def _must_be_here(item: Item, target: str) -> None:
    if OFFLINE in item.states:
        where = dict(item.extra).get("on drive") or dict(item.extra).get("lies in") or "a drive"
        raise NotRunnable(
            f"it lies on {where}, which is not there now",
            f"connect it; `cachetui show {item.id}` tells more",
            "offline",
        )
    if item.store == STORE:
        rows = dict(item.extra)
        raise NotRunnable(f"it is a saved state of {rows.get(MODEL, 'a model')}", rows.get("load it", ""), "state")
    if item.store == QUANT and item.kind != ENTRY:
        made = (
            "an older script made it, and what it holds may be a pickle" if item.kind == OLDER else "it is not finished"
        )
        raise NotRunnable(made, "quantize the model again: cachetui quantize TARGET", "not-loaded")
    if item.store == QUANT and (bad := next((p for p in item.problems if p.code == BAD), None)) is not None:
        raise NotRunnable(f"it is damaged: {bad.message}", bad.hint, "damaged")
    if item.kind in ("orphan", "partial", "litter"):
        raise NotRunnable("there is no model in it", f"cachetui show {item.id} tells what it is")


def _revision(selection: Selection) -> Revision | None:
    """The one that is meant: `main` where none is named, else the newest."""
    item = selection.item
    if selection.revision:
        return next((r for r in item.revisions if r.commit == selection.revision), None)
    if selection.file:
        holding = [r for r in item.revisions if selection.file in r.names]
        named = [r for r in holding if "main" in r.refs] or holding
    else:
        named = [r for r in item.revisions if "main" in r.refs] or list(item.revisions)
    return max(named, key=lambda r: r.last_modified or 0.0, default=None)


def _folder(here: Here, options: Options) -> Runnable:
    """What from_pretrained takes."""
    item, traits = here.item, here.item.traits
    if here.there("adapter_config.json") and not here.there("config.json"):
        base = here.json("adapter_config.json").get("base_model_name_or_path", "its base model")
        raise NotRunnable(f"it is an adapter for {base}, not a model", f"cachetui prompt {base}", "adapter")
    for program in _OTHER_PROGRAMS:
        if program in traits.loads_with and "transformers" not in traits.loads_with:
            raise NotRunnable(f"{program} runs it; it takes no text prompts here", "", "other-program")
    if not traits.formats and not here.config:
        raise NotRunnable("there is no model in it", f"cachetui show {item.id} tells what it is")
    if missing := here.missing():
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise NotRunnable(f"it is not complete: {shown} is missing", here.commands(), "incomplete")
    if "mlx" in traits.formats:
        return _made(here, MLX, options)
    if not here.has_safetensors:
        raise NotRunnable(
            f"its weights are {' and '.join(traits.formats) or 'not here'}; only safetensors are loaded, "
            "because other formats can run code when they are read",
            f"look for a repo with safetensors: cachetui pull {item.id} --include '*.safetensors' --dry-run"
            if item.id.startswith("hf:")
            else "save it with save_pretrained(safe_serialization=True)",
            "no-safetensors",
        )
    family = families.of(here.config)
    if family is not None and family.remote_code and not options.trust_remote_code:
        instead = f", or take {family.successor}: cachetui pull hf:{family.successor}" if family.successor else ""
        raise NotRunnable(
            f"{family.name} needs Python code of its own from the repo, which transformers 5 does not have",
            f"allow it for this model alone: cachetui prompt {here.target} --trust-remote-code{instead}",
            "remote-code",
        )
    return _made(here, TRANSFORMERS, options)


def _made(here: Here, engine: str, options: Options) -> Runnable:
    item = here.item
    commit = here.revision.commit if here.revision is not None else ""
    wanted = Wanted(
        here.folder,
        item.name,
        item.name if item.store == "hf" else "",
        commit,
        options.device,
        options.dtype,
        options.bits,
        options.double_quant,
        (),
        options.trust_remote_code,
        options.attention,
    )
    sees = engine == TRANSFORMERS and ("vision_config" in here.config or families.of(here.config) is not None)
    label = ", ".join(w for w in (item.traits.family, item.traits.quantization, wanted.quantization) if w)
    return Runnable(
        here.target,
        engine,
        wanted,
        images=sees,
        writes=writes_text(here.config),
        sizes=_sizes(item, commit),
        about=label,
    )


def _sizes(item: Item, commit: str) -> tuple[tuple[str, int], ...]:
    from cachetui.memory import NotAModel, estimate, facts_of

    try:
        found = estimate(facts_of(item, commit, thorough=False))
    except (NotAModel, OSError):
        return ()
    return tuple((mode.name, mode.total) for mode in found.modes if not mode.reason)


def _gguf(here: Here, file: str, options: Options) -> Runnable:
    path = os.path.join(here.folder, file)
    if not os.path.isfile(path):
        raise NotRunnable(f"{file} is not there", here.commands(), "incomplete")
    projector = here.projector(file)
    name = here.item.name if len(here.gguf_files()) < 2 else f"{here.item.name}:{file}"
    commit = here.revision.commit if here.revision is not None else ""
    wanted = Wanted(os.path.dirname(path), name, here.item.name, commit, options.device)
    parts = [n for n in here.names if file.partition("-00001-of-")[0] + "-0" in n] if "-00001-of-" in file else [file]
    size = sum(size_of(os.path.join(here.folder, n)) for n in parts) + (size_of(projector) if projector else 0)
    label = ", ".join(w for w in (here.item.traits.family, here.item.traits.quantization) if w)
    return Runnable(
        here.target,
        GGUF,
        wanted,
        path,
        projector,
        images=bool(projector),
        sizes=((STORED, size + _RUNTIME),),
        about=label,
    )


def _ollama(item: Item, target: str, options: Options, where: Where | None) -> Runnable:
    from cachetui.ollama_server import server_url

    env = where.env if where is not None else os.environ
    names = item.revisions[0].names if item.revisions else ()
    if not any(n.partition("#")[0] == "model" for n in names):
        raise NotRunnable("there is no model in it", f"cachetui show {item.id} tells what it is")
    sees = any(n.partition("#")[0] == "projector" for n in names) or _has_eyes(item)
    label = ", ".join(w for w in (item.traits.family, item.traits.quantization) if w)
    wanted = Wanted(item.root, item.name, device=options.device)
    url = server_url(env.get("OLLAMA_HOST", ""))
    return Runnable(target, OLLAMA, wanted, url=url, images=sees, about=f"{label}, run by Ollama's server".lstrip(", "))


def _has_eyes(item: Item) -> bool:
    """Whether the model's own GGUF file holds a vision tower, as Ollama's newer ones do."""
    from cachetui.memory import headers

    revision = item.revisions[0]
    for name, at in zip(revision.names, revision.index, strict=True):
        if name.partition("#")[0] == "model" and at >= 0:
            path = item.content[at].path
            try:
                values, _ = headers.gguf_values(path if os.path.isabs(path) else f"{item.root}/{path}")
            except (OSError, headers.BadHeader):
                continue
            return any(".vision." in key for key in values)
    return False
