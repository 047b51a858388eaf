"""The files of one model on disk, as who loads it sees them: through links, its config read, what is missing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from cachetui import afar, families
from cachetui.model import Item, Revision
from cachetui.walk import read_small

_MAX_JSON = 16 << 20
_INDEX = "model.safetensors.index.json"
_WRITERS = re.compile(r"CausalLM|ConditionalGeneration|LMHead|ImageTextToText|Seq2Seq|Vision2Seq|ForMultimodalLM")


class Here:
    """The files of one model."""

    def __init__(self, item: Item, revision: Revision | None, target: str) -> None:
        self.item = item
        self.revision = revision
        self.target = target
        path = revision.path if revision is not None else item.path
        self.folder = os.path.join(item.root, path) if path else item.root
        if os.path.isfile(self.folder):  # a model that is one file
            self.folder = os.path.dirname(self.folder)
        names = revision.names if revision is not None else tuple(os.path.basename(b.path) for b in item.content)
        self.names = tuple(dict.fromkeys((*names, *_links(self.folder))))
        self.config = self.json("config.json")

    @property
    def has_safetensors(self) -> bool:
        """Whether there are weights that transformers reads."""
        return any(n.endswith(".safetensors") for n in self.names if "/" not in n) or self.there(_INDEX)

    def there(self, name: str) -> bool:
        """Whether a file can be read, through whatever links."""
        return os.path.isfile(os.path.join(self.folder, name))

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object; empty where there is none."""
        path = os.path.join(self.folder, name)
        try:
            value = json.loads(read_small(afar.follow(path).real if os.path.islink(path) else path, _MAX_JSON))
        except (OSError, ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def gguf_files(self) -> list[str]:
        """GGUF files that are models: the first of several parts, no projectors."""
        found = [n for n in self.names if n.endswith(".gguf") and "mmproj" not in n.rpartition("/")[2].lower()]
        return sorted(n for n in found if "-of-" not in n or "-00001-of-" in n)

    def projector(self, file: str) -> str:
        """Of the GGUF file: `mmproj*` beside it; absolute, or empty."""
        folder = file.rpartition("/")[0]
        beside = sorted(
            n
            for n in self.names
            if n.endswith(".gguf") and n.rpartition("/")[0] == folder and "mmproj" in n.rpartition("/")[2].lower()
        )
        return os.path.join(self.folder, beside[0]) if beside else ""

    def missing(self) -> list[str]:
        """Files that it names and that are not there."""
        found = []
        if self.revision is not None:
            found = [n for n, at in zip(self.revision.names, self.revision.index, strict=True) if at < 0]
        shards = self.json(_INDEX).get("weight_map")
        if isinstance(shards, dict):
            found += [n for n in dict.fromkeys(map(str, shards.values())) if not self.there(n)]
        if not self.config and not self.there("config.json"):
            found.append("config.json")
        return list(dict.fromkeys(found))

    def commands(self) -> str:
        """What brings back files that are missing."""
        if self.item.id.startswith("hf:"):
            return f"fetch the rest: cachetui pull {self.item.id}"
        return f"cachetui verify {self.item.id} tells what is wrong"


def _links(folder: str) -> list[str]:
    """Names in a folder that lead to files elsewhere: a scan counts those where they lie."""
    try:
        with os.scandir(folder) as entries:
            return [e.name for e in entries if e.is_symlink() and e.is_file()]
    except OSError:
        return []


def size_of(path: str) -> int:
    """Bytes of a file; 0 where it cannot be asked."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def writes_text(config: Mapping[str, Any]) -> bool:
    """Whether a model writes text, by the names of its classes in config.json.

    What names none, or comes with code of its own, may.
    """
    named = config.get("architectures")
    if not isinstance(named, list) or not named or families.brings_code(config):
        return True
    return any(isinstance(a, str) and _WRITERS.search(a) for a in named)
