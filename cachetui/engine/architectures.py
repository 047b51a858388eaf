"""Which class loads a model: what config.json says, what transformers knows, and who must be trusted for the rest.

Follows models/auto/modeling_auto.py of transformers 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cachetui import families
from cachetui.engine import repository
from cachetui.engine.errors import DAMAGED, REMOTE_CODE, UNKNOWN_ARCHITECTURE, EngineError
from cachetui.engine.repository import Repository
from cachetui.memory.weights import is_vision


def read_config(repo: Repository) -> Any:
    """AutoConfig's object. Raises EngineError: remote code, an architecture nobody knows, a damaged config."""
    import transformers

    wanted = repo.wanted
    kind = repo.config.get("model_type")
    native = isinstance(kind, str) and kind in transformers.CONFIG_MAPPING
    if not native and not (wanted.trust_remote_code and families.brings_code(repo.config)):
        raise _foreign(repo, transformers.__version__)
    try:
        return transformers.AutoConfig.from_pretrained(
            repo.path, trust_remote_code=wanted.trust_remote_code, local_files_only=True
        )
    except Exception as e:
        text = " ".join(str(e).split())[:300]
        if not native:
            raise remote_failed(repo, text) from e
        reason = f"{wanted.name}: config.json is not what {kind} needs: {text}"
        raise EngineError(reason, repository.fetch_again(wanted), DAMAGED) from e


def _foreign(repo: Repository, version: str) -> EngineError:
    """Why transformers alone cannot load it."""
    name, kind = repo.wanted.name, repo.config.get("model_type")
    family = families.of(repo.config)
    successor = family.successor if family is not None else ""
    instead = f"; {successor} is of the same line and needs none" if successor else ""
    if families.brings_code(repo.config):
        reason = f"{name} ({kind}) needs Python code from its own repo, which may do anything on this machine"
        return EngineError(reason, f"--trust-remote-code allows it for this model{instead}", REMOTE_CODE)
    if family is not None:
        reason = f"{name} ({kind}) needs Python code from its own repo, and this folder has none"
        return EngineError(reason, f"take {successor}" if successor else "", REMOTE_CODE)
    reason = f"transformers {version} does not know the architecture {kind}"
    return EngineError(reason, "pip install -U transformers, if it is newer than that", UNKNOWN_ARCHITECTURE)


def remote_failed(repo: Repository, text: str) -> EngineError:
    """What to say when a repo's own code raised `text`."""
    family = families.of(repo.config)
    way = f"take {family.successor}" if family is not None and family.successor else ""
    return EngineError(f"the code in {repo.wanted.name} does not work here: {text}", way, REMOTE_CODE)


@dataclass(frozen=True, slots=True)
class Kind:
    """The class that loads it, and what it is for."""

    loader: Any
    """An Auto class or a class of its own: `from_pretrained`."""
    made: Any
    """The class of the model; None for remote code."""
    sees: bool
    writes: bool


def class_of(repo: Repository, config: Any) -> Kind:
    """The class for a model: pictures and text, text, else what config.json names.

    Raises EngineError where there is none.
    """
    import transformers
    from transformers.models.auto import modeling_auto as auto

    pictures = getattr(config, "vision_config", None) is not None
    tables = (
        (auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, transformers.AutoModelForImageTextToText, True),
        (auto.MODEL_FOR_MULTIMODAL_LM_MAPPING, transformers.AutoModelForMultimodalLM, pictures),
        (auto.MODEL_FOR_CAUSAL_LM_MAPPING, transformers.AutoModelForCausalLM, False),
        (auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, transformers.AutoModelForSeq2SeqLM, False),
    )
    named = _named(repo, config)
    brought = repo.config.get("auto_map") if repo.wanted.trust_remote_code else None
    if isinstance(brought, dict):
        for name in ("AutoModelForImageTextToText", "AutoModelForCausalLM", "AutoModelForVision2Seq", "AutoModel"):
            if name in brought:
                loader = getattr(transformers, name, transformers.AutoModelForImageTextToText)
                return Kind(loader, None, pictures or families.of(repo.config) is not None, True)
    for table, loader, sees in tables:
        if type(config) in table:
            made = table[type(config)]
            # An encoder like BERT stands in the table of writers too: config.json tells what was saved.
            if named is None or named is made:
                return Kind(loader, made, sees, True)
    if named is not None:
        return Kind(named, named, False, bool(named.can_generate()))
    if type(config) in auto.MODEL_MAPPING:
        return Kind(transformers.AutoModel, auto.MODEL_MAPPING[type(config)], False, False)
    reason = f"transformers has a config but no model for {repo.config.get('model_type')}"
    raise EngineError(reason, "pip install -U transformers", UNKNOWN_ARCHITECTURE)


def _named(repo: Repository, config: Any) -> Any:
    """The class of transformers that `architectures` names, where it is made for this config."""
    import transformers

    said = repo.config.get("architectures")
    if not isinstance(said, list) or not said or not isinstance(said[0], str):
        return None
    found = getattr(transformers, said[0], None)
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        made_for = getattr(found, "config_class", None)
        return found if made_for is not None and isinstance(config, made_for) else None
    return None


@dataclass(frozen=True, slots=True)
class Unquantized:
    """What bitsandbytes leaves as it is: dotted names from the root of the model."""

    vision: tuple[str, ...]
    """Modules that see or hear."""
    head: tuple[str, ...] = ("lm_head",)
    """The output layer."""


def unquantized(repo: Repository, made: Any, config: Any) -> Unquantized:
    """What must stay as it is when a model is quantized.

    A family of the table is taken at its word; of another the model is built without weights and asked. `made`: its
    class, None for remote code.
    """
    import torch

    family = families.of(repo.config)
    if made is None:
        return Unquantized(family.vision if family else ())
    with torch.device("meta"):
        empty = made._from_config(config)
    output = empty.get_output_embeddings()
    head = {name for name, module in empty.named_modules() if module is output and name} | {"lm_head"}
    vision = family.vision if family else eyes(empty)
    return Unquantized(tuple(sorted(vision)), tuple(sorted(head)))


def eyes(model: Any) -> tuple[str, ...]:
    """The topmost modules that see or hear, by their names, as the estimates tell them (memory/weights.py)."""
    seen: list[str] = []
    for name, _ in model.named_modules():
        if is_vision(name + ".") and not name.startswith(tuple(f"{s}." for s in seen)):
            seen.append(name)
    return tuple(seen)
