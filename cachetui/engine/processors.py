"""What turns text and pictures into a model's input, put together so that it works without torchvision too.

transformers 5 builds the video processor of a family eagerly, and every video processor needs torchvision:
AutoProcessor then fails for Qwen2-VL, Qwen2.5-VL, Qwen3-VL, SmolVLM and others although no video is shown to them.
Here the class is the same (processing_auto.py, processing_utils.py), but its parts are loaded one by one: pictures
through PIL everywhere, so that one picture gives the same numbers on every machine, and no video part where there is
none to be had.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from cachetui.engine import repository
from cachetui.engine.errors import MISSING_PROCESSOR, NOT_INSTALLED, REMOTE_CODE, EngineError
from cachetui.engine.repository import Repository

_CONFIGS = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
_PICTURES = ("processor_config.json", "preprocessor_config.json")
_PARTS = frozenset(("tokenizer", "image_processor", "video_processor", "feature_extractor"))


@dataclass(frozen=True, slots=True)
class Parts:
    """What stands before a model."""

    tokenizer: Any = None
    processor: Any = None
    """Callable with text and images; None for text-only models."""
    image_processor: Any = None


class NoVideo:
    """Stands where a video processor would, with what two families read of it though no video is there.

    processing_smolvlm.py, apply_chat_template: the first two; processing_minicpmv4_6.py, __init__: the others.
    """

    num_frames = 64
    fps = 1
    slice_mode = False
    downsample_mode = "16x"
    model_input_names: tuple[str, ...] = ()
    _auto_class = None


def load(repo: Repository, config: Any, *, sees: bool, writes: bool) -> Parts:
    """The parts of a model's folder. Raises EngineError.

    `config`: as AutoConfig gave it. `sees`: the model takes pictures. `writes`: it is of no use without a tokenizer.
    """
    if not sees:
        return Parts(_tokenizer(repo, config) if writes or repo.has_tokenizer else None)
    tokenizer = _tokenizer(repo, config)
    processor = _processor(repo, config, tokenizer)
    return Parts(getattr(processor, "tokenizer", tokenizer), processor, getattr(processor, "image_processor", None))


def _options(repo: Repository) -> dict[str, Any]:
    return {"trust_remote_code": repo.wanted.trust_remote_code, "local_files_only": True}


def _tokenizer(repo: Repository, config: Any) -> Any:
    from transformers import AutoTokenizer

    # Without a vocabulary transformers 5 makes an empty tokenizer and says nothing.
    if not repo.has_tokenizer:
        raise repository.missing(repo.wanted, "tokenizer: its vocabulary (tokenizer.json or the like) is not there")
    try:
        return AutoTokenizer.from_pretrained(repo.path, config=config, **_options(repo))
    except Exception as e:
        raise _failed(repo, "tokenizer", e) from e


def _processor(repo: Repository, config: Any, tokenizer: Any) -> Any:
    if not any(n in repo.names for n in _PICTURES):
        raise repository.missing(repo.wanted, "picture processor: preprocessor_config.json is not there")
    found = _class(repo, config)
    try:
        if found is None or not set(found.get_attributes()) <= _PARTS:
            from transformers import AutoProcessor

            return AutoProcessor.from_pretrained(repo.path, **_options(repo))
        return _in_parts(found, tokenizer).from_pretrained(repo.path, **_options(repo))
    except Exception as e:
        raise _failed(repo, "picture processor", e) from e


def _class(repo: Repository, config: Any) -> Any:
    """The processor class that AutoProcessor would take; None for remote code."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    for name in _CONFIGS:
        if name not in repo.names:
            continue
        said = repository.read_json(repo.wanted, name)
        if repo.wanted.trust_remote_code and "AutoProcessor" in (said.get("auto_map") or {}):
            return None
        named = said.get("processor_class")
        if isinstance(named, str):
            found = getattr(transformers, named, None)
            if isinstance(found, type) and issubclass(found, transformers.ProcessorMixin):
                return found
    return PROCESSOR_MAPPING.get(type(config), None)


def _in_parts(base: Any, tokenizer: Any) -> Any:
    """A processor class like `base` that loads its parts as described above."""

    class Processor(base):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if isinstance(argument, NoVideo):
                return NoVideo
            return super().check_argument_for_proper_class(argument_name, argument)

        def to_dict(self) -> dict[str, Any]:
            found: dict[str, Any] = super().to_dict()
            return {name: part for name, part in found.items() if not isinstance(part, NoVideo)}

        @classmethod
        def _get_arguments_from_pretrained(cls, path: str, processor_dict: Any = None, **options: Any) -> list[Any]:
            return [_part(name, path, tokenizer, options) for name in cls.get_attributes()]

    Processor.__name__ = base.__name__  # what it is saved under
    Processor.__qualname__ = base.__qualname__
    return Processor


def _part(name: str, path: str, tokenizer: Any, options: dict[str, Any]) -> Any:
    from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoVideoProcessor

    if name == "tokenizer":
        return tokenizer
    if name == "image_processor":
        return AutoImageProcessor.from_pretrained(path, backend="pil", **options)
    if name == "feature_extractor":
        return AutoFeatureExtractor.from_pretrained(path, **options)
    if importlib.util.find_spec("torchvision") is None:
        return NoVideo()
    return AutoVideoProcessor.from_pretrained(path, **options)


def _failed(repo: Repository, what: str, error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    name = repo.wanted.name
    text = " ".join(str(error).split())
    for package in ("torchvision", "num2words", "sentencepiece", "tiktoken", "timm", "protobuf", "torchaudio"):
        if package in text and importlib.util.find_spec(package) is None and not isinstance(error, OSError):
            reason = f"the {what} of {name} needs the package {package}"
            return EngineError(reason, f"pip install {package}", NOT_INSTALLED)
    if "trust_remote_code" in text and not repo.wanted.trust_remote_code:
        reason = f"the {what} of {name} needs Python code from its own repo, which may do anything on this machine"
        return EngineError(reason, "--trust-remote-code allows it for this model", REMOTE_CODE)
    reason = f"the {what} of {name} cannot be read: {text[:300]}"
    return EngineError(reason, repository.fetch_again(repo.wanted), MISSING_PROCESSOR)
