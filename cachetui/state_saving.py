"""Before states are saved: where each goes, whether that place may be written, how large it will be. No torch."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cachetui.config import Where
from cachetui.fs import DISK, Fs, open_dir
from cachetui.ledger import Scan
from cachetui.loose_spots import MAX_DEPTH, SKIPPED
from cachetui.state_folders import default
from cachetui.state_items import STORE, is_state
from cachetui.states.errors import PICKLE, StateError
from cachetui.states.pictures import processor_files
from cachetui.states.predicting import Predicted, predict, text_tokens
from cachetui.states.reading import StateInfo, anew, read
from cachetui.store import store_named
from cachetui.walk import read_small
from cachetui.wanted import Wanted

PICKLES = (".pt", ".pth", ".pkl", ".bin", ".ckpt")
"""Suffixes of files that other programs unpickle."""
MARGIN = 16 << 20
"""Bytes that must stay free."""
_MAX_JSON = 16 << 20


class PlaceError(Exception):
    """A state cannot be saved there: why, and what to do. May hold outside strings."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Part:
    """One state to be saved."""

    images: tuple[str, ...]
    """Paths, or `noise`; none for a state of the system prompt alone."""
    output: str
    """Absolute path of the file; of a folder, ending in a separator, where the file is named by what it is of."""

    @property
    def folder(self) -> str:
        """Where the file will lie."""
        return os.path.dirname(self.output)


def parts(where: Where, images: Sequence[str], output: str, *, together: bool = False) -> list[Part]:
    """What is to be saved, each with its place. `output` as it was given: a file, a folder, or nothing.

    One state for each picture, or one of all. Raises PlaceError.
    """
    groups = [tuple(images)] if together or len(images) < 2 else [(image,) for image in images]
    if not output:
        return [Part(group, os.path.join(default(where).path, "")) for group in groups]
    full = where.resolve(output)
    if not os.path.isdir(full) and not output.endswith(("/", os.sep)):
        if len(groups) == 1:
            return [Part(groups[0], full)]
        if os.path.lexists(full) or os.path.splitext(full)[1]:
            raise PlaceError(
                f"{full} is one file: several states need a folder", "--output DIR/, or --together for one"
            )
    return [Part(group, os.path.join(full, "")) for group in groups]


def must_be_writable(part: Part, scan: Scan) -> StateInfo | None:
    """The state that is there already, if one is. Raises PlaceError where nothing may be written.

    Nothing but a state is ever replaced, and no state lies among the files of a program or of a model: what is there
    goes when the model goes, and is not found.
    """
    folder = os.path.realpath(part.folder)
    above = folder
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise PlaceError(f"{above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PlaceError(f"you may not write to {above}", "--output FILE or DIR names another place")
    _must_be_outside(folder, scan)
    return _must_be_ours(part.output) if os.path.basename(part.output) else None


def make_folder(folder: str, *, fs: Fs = DISK) -> None:
    """Make a folder of the user's, and what is missing above it, with the rights that any program gives. OSError."""
    above = folder
    missing: list[str] = []
    while not os.path.isdir(above):
        missing.insert(0, os.path.basename(above))
        above = os.path.dirname(above)
    fd = open_dir(os.path.realpath(above))
    try:
        for name in missing:
            fs.mkdir(fd, name, 0o777)
            inner = open_dir(name, fd)
            os.close(fd)
            fd = inner
    finally:
        os.close(fd)


def _must_be_ours(path: str) -> StateInfo | None:
    try:
        st = os.lstat(path)
    except OSError:
        return None
    if stat.S_ISLNK(st.st_mode):
        raise PlaceError(f"{path} is a link", "name another file, or bring it back first: cachetui restore")
    if not stat.S_ISREG(st.st_mode):
        raise PlaceError(f"{path} is there already and no file")
    if is_state(path):
        try:
            return read(path)
        except StateError:
            return None
    try:
        read(path)
    except StateError as e:
        advice = "move it away, or name another file"
        if e.code == PICKLE:
            advice += f"; {anew(path)}"
        raise PlaceError(f"{path} is there already: {e.reason}", advice) from None
    return None


def _must_be_outside(folder: str, scan: Scan) -> None:
    inside = os.path.join(folder, "")
    for r in scan.roots:
        root = r.root
        if root.store == STORE or root.offline or not inside.startswith(os.path.join(root.path, "")):
            continue
        store = store_named(root.store)
        if not store.holds_states:
            raise PlaceError(f"{folder} is part of {store.title} at {root.path}", "--output names another folder")
        for item in r.items:
            if item.kind == "folder" and inside.startswith(os.path.join(item.root, item.path, "")):
                raise PlaceError(f"{folder} is the folder of the model {item.name}", "--output names another folder")
        below = [p for p in folder[len(root.path) :].split(os.sep) if p]
        if len(below) > MAX_DEPTH or any(p in SKIPPED or p.startswith(".") for p in below):
            raise PlaceError(f"{folder} is not looked at: it would not be found again", "--output names another folder")


def asks(before: StateInfo | None, part: Part, model: Wanted) -> str:
    """What to ask before a state is replaced: empty for none, and for one of the same model and pictures."""
    if before is None:
        return ""
    who = before.identity
    mine = {os.path.basename(i) for i in part.images}
    if (who.repo or before.model) in (model.repo, model.folder) and {
        os.path.basename(i.name) for i in who.images
    } == mine:
        return ""
    pictures = ", ".join(i.name for i in who.images[:3]) or "no picture"
    return f"{part.output} is a state of {who.repo or before.model} with {pictures}: replace it?"


def expected(
    folder: str, sizes: Sequence[tuple[int, int]], system: str, *, dtype: str = "auto", bits: int = 0
) -> Predicted:
    """Tokens and bytes of a state of pictures of these (lowered) sizes, by config.json and the processor's file.

    Never exact: the system prompt's tokens are counted by a rule of thumb.
    """
    config = _json(folder, "config.json")
    processor = processor_files(folder)
    if dtype == "auto":
        dtype = "bfloat16" if bits else _dtype(config)
    found = Predicted(text_tokens(system), 0, False)
    for width, height in sizes or ((0, 0),):
        found = predict(
            config, width=width, height=height, pictures=int(bool(sizes)), system_tokens=found.tokens, dtype=dtype,
            processor=processor,
        )  # fmt: skip
    return replace(found, exact=False)


def _dtype(config: Mapping[str, Any]) -> str:
    inner = config.get("text_config")
    for body in (config, inner if isinstance(inner, Mapping) else {}):
        for key in ("dtype", "torch_dtype"):
            if isinstance(body.get(key), str):
                return str(body[key])
    return "float32"


def _json(folder: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(read_small(os.path.realpath(os.path.join(folder, name)), _MAX_JSON))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
