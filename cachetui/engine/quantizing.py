"""Quantize a model once: load it in 4 or 8 bit and write a folder that loads the same again in a second.

The folder is complete: weights and config by transformers, everything that stands before the model copied from where
it came from, byte for byte. The weights are written before anything is computed with them: on CPUs with AVX512-BF16
the first forward repacks 4-bit weights in place (bitsandbytes/nn/modules.py, Linear4bit.forward), and what is saved
after that answers otherwise.
"""

from __future__ import annotations

import os
import platform
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from cachetui import formats, walk
from cachetui.engine import devices, repository
from cachetui.engine.errors import DAMAGED, UNSUPPORTED, Cancelled, EngineError
from cachetui.engine.loading import Loaded, load
from cachetui.engine.progress import Reporter, listening
from cachetui.fs import DISK, Fs, copy_open, open_dir
from cachetui.memory.weights import is_vision
from cachetui.wanted import Wanted

SHARD = "2GB"
"""Largest file of weights: writing one cannot be stopped, nor told how far it is."""
_LIBRARIES = ("torch", "transformers", "bitsandbytes", "accelerate", "safetensors")
_WRITTEN = ("config.json", "model.safetensors.index.json")
"""What transformers writes anew."""
_LEGAL = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "COPYING")
_MAX_COPY = 1 << 29
_QUANTIZED = (".absmax", ".quant_map", ".SCB", ".quant_state.bitsandbytes__nf4")
"""Ends of tensor names that only quantized layers have."""


@dataclass(frozen=True)
class Quantized:
    """What came of it."""

    loaded: Loaded
    """The model in memory, as it was written: nothing was computed with it."""
    folder: str
    files: tuple[str, ...]
    """Names relative to the folder."""
    seconds: float
    """Loading, quantizing and writing."""
    peak_memory: int
    """Bytes: the most this process had in RAM, or on the GPU where that is more."""
    device: str
    libraries: dict[str, str]
    """Versions of what made it, Python included."""

    @property
    def model_class(self) -> str:
        """Name of the class that was written."""
        return self.loaded.model_class


def quantize(
    wanted: Wanted,
    folder: str,
    *,
    progress: Callable[[str, int, int, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    fs: Fs = DISK,
) -> Quantized:
    """Load `wanted` (bits 4 or 8) and write it into `folder`, which exists and is empty.

    `progress(phase, done, total, name)`: prepare and load as in loading.load, with one count a parameter, then write
    and copy. Raises EngineError, Cancelled, OSError; then what was written is for the caller to take away.
    """
    started = time.monotonic()
    reporter = Reporter(progress, cancelled)
    if not wanted.bits:
        raise EngineError("how many bits? 4 or 8", "--bits 4", UNSUPPORTED)
    repo = repository.look(wanted)
    if repo.method:
        reason = f"{wanted.name} is stored quantized already ({repo.method})"
        raise EngineError(reason, f"load it as it is: cachetui prompt {repository.target(wanted)}", UNSUPPORTED)
    loaded = load(wanted, progress=progress, cancelled=cancelled)
    files = write(loaded.model, wanted, folder, reporter=reporter, fs=fs)
    return Quantized(
        loaded=loaded,
        folder=folder,
        files=files,
        seconds=time.monotonic() - started,
        peak_memory=peak_memory(),
        device=str(loaded.device),
        libraries=libraries(),
    )


def write(
    model: Any, wanted: Wanted, folder: str, *, reporter: Reporter | None = None, fs: Fs = DISK
) -> tuple[str, ...]:
    """A quantized model that nothing was computed with, and what of `wanted.folder` stands before it; their names.

    Raises EngineError, Cancelled, OSError.
    """
    reporter = reporter or Reporter(None, None)
    _write(model, wanted, folder, reporter)
    reporter.tell("copy", 0, 1, "")
    _copy(repository.look(wanted), folder, fs, reporter)
    files = check(wanted, folder)
    reporter.tell("copy", 1, 1, "")
    return files


def _write(model: Any, wanted: Wanted, folder: str, reporter: Reporter) -> None:
    """Weights, index, config."""
    with listening(reporter):
        try:
            model.save_pretrained(folder, max_shard_size=SHARD)
        except (Cancelled, OSError):
            raise
        except Exception as e:
            if devices.is_out_of_memory(e):
                raise devices.no_memory(wanted, str(model.device), "while it was written") from e
            text = " ".join(str(e).split())[:300]
            if type(e).__name__ == "SafetensorError":
                # Its message has the system's words in it: "No space left on device (os error 28)".
                raise OSError(f"the weights cannot be written: {text}") from e
            reason = f"{wanted.name} cannot be written: {type(e).__name__}: {text}"
            raise EngineError(reason, "", UNSUPPORTED) from e


def _copy(repo: repository.Repository, folder: str, fs: Fs, reporter: Reporter) -> None:
    """Tokenizer, processor, chat template, generation config, licence; code only where it was allowed to run."""
    top = open_dir(folder)
    try:
        for name in sorted(repo.names):
            if belongs(name, code=repo.wanted.trust_remote_code):
                reporter.check()
                _copy_file(f"{repo.wanted.folder}/{name}", top, name, fs)
        templates = "additional_chat_templates"
        if templates in repo.names and os.path.isdir(f"{repo.wanted.folder}/{templates}"):
            fs.mkdir(top, templates, 0o755)
            below = open_dir(templates, top)
            try:
                for name in sorted(os.listdir(f"{repo.wanted.folder}/{templates}")):
                    if name.endswith(".jinja"):
                        _copy_file(f"{repo.wanted.folder}/{templates}/{name}", below, name, fs)
            finally:
                os.close(below)
    finally:
        os.close(top)


def belongs(name: str, *, code: bool) -> bool:
    """Whether a file at the top goes into the new folder as it is."""
    if name in _WRITTEN or name.endswith(".index.json") or name.startswith((".", "adapter_")):
        return False
    if name.endswith(".py"):
        return code
    return formats.role(name) in ("tokenizer", "config") or name.endswith(".jinja") or name.upper().startswith(_LEGAL)


def _copy_file(source: str, parent: int, name: str, fs: Fs) -> None:
    """A regular file, read through the links of a hub snapshot. Raises OSError."""
    real = os.path.realpath(source)
    try:
        fd = walk.open_regular(real)
    except OSError:
        if stat.S_ISREG(os.stat(real).st_mode):
            raise
        return  # a folder, a pipe: nothing of a model
    try:
        if os.fstat(fd).st_size > _MAX_COPY:
            return
        _unlinked(parent, name, fs)
        copy_open(fs, fd, parent, name, 0o644, durable=False)  # the entry becomes durable as a whole
    finally:
        os.close(fd)


def _unlinked(parent: int, name: str, fs: Fs) -> None:
    """Takes away what transformers wrote under that name."""
    try:
        fs.unlink(parent, name)
    except FileNotFoundError:
        pass


def check(wanted: Wanted, folder: str) -> tuple[str, ...]:
    """The files of what was written, by their headers: whole, quantized, and not where it sees. Raises EngineError."""
    written = repository.look(Wanted(folder, wanted.name))
    names = [t.name for t in written.tensors]
    layers = [n for n in names if n.endswith(_QUANTIZED)]
    wrong = [n for n in layers if is_vision(n) or n.startswith("lm_head.")]
    if wrong or not layers:
        what = f"{wrong[0]} is quantized" if wrong else "nothing in it is quantized"
        raise EngineError(f"{wanted.name} was not written as it should be: {what}", "", DAMAGED)
    if written.method != "bitsandbytes":
        raise EngineError(f"{wanted.name}: its new config.json does not say how it is quantized", "", DAMAGED)
    return tuple(sorted(b.path for b in walk.tree(folder).files))


def peak_memory(*, children: bool = False) -> int:
    """Bytes: the largest resident set of this process so far, or what it held on a GPU where that is more.

    With `children` also that of the largest program it ran.
    """
    most = 0
    try:
        import resource
    except ImportError:  # Windows
        pass
    else:
        whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN) if children else (resource.RUSAGE_SELF,)
        most = max(resource.getrusage(who).ru_maxrss for who in whose) * (1 if sys.platform == "darwin" else 1024)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        most = max(most, int(torch.cuda.max_memory_allocated()))
    return most


def libraries(names: tuple[str, ...] = _LIBRARIES) -> dict[str, str]:
    """Versions of what makes an entry."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
