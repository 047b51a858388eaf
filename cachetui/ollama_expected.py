"""What the content of an Ollama store ought to be: a blob is named by its sha256, a manifest knows the sizes."""

from __future__ import annotations

import os

from cachetui import walk
from cachetui.expected import Digest, Expected, ExpectedFile, named_digest
from cachetui.model import Item, Problem
from cachetui.ollama_layout import BLOB, BLOBS, MAX_MANIFEST, BadManifest, parse_manifest

_OWN = frozenset(("layer-missing", "layer-size", "offline", "bad-manifest", "partial"))
"""Codes of a scan's problems that are told more exactly here."""


def expected(item: Item) -> Expected:
    """Of a tag, an orphan layer, a stopped pull or an unknown file. Never raises."""
    found = Expected()
    if item.kind == "partial":
        message = "a pull or an import that did not end"
        found.incomplete.append(
            Problem("unfinished-download", message, f"{item.root}/{item.path}", "pulling again continues it")
        )
        return found
    if item.blobs:
        for b in item.blobs:
            name = b.path.rpartition("/")[2]
            _add(found, item.root, name, name, b.path)
        found.sort_in(item.problems, _OWN)
        return found
    _tag(found, item)
    found.sort_in(item.problems, _OWN if found.files or found.damaged else ())
    return found


def _tag(found: Expected, item: Item) -> None:
    path = f"{item.root}/{item.path}"
    if os.path.islink(path):
        return  # the scan says what it is
    try:
        manifest = parse_manifest(walk.read_small(path, MAX_MANIFEST))
    except OSError:
        return
    except BadManifest as e:
        found.damaged.append(Problem("bad-manifest", str(e), path, f"ollama pull {item.name} writes it again"))
        return
    seen: set[str] = set()
    for layer in manifest.layers:
        if layer.file not in seen:
            seen.add(layer.file)
            _add(found, item.root, layer.role, layer.file, f"{BLOBS}/{layer.file}", layer.size)


def _add(found: Expected, root: str, role: str, name: str, path: str, size: int = -1) -> None:
    digests: tuple[Digest, ...] = named_digest(name.removeprefix("sha256-")) if BLOB.fullmatch(name) else ()
    found.files.append(ExpectedFile(f"{root}/{path}", role, size, digests))
