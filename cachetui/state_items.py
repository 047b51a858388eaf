"""Saved states as items: told by content, never by name, wherever they lie."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace

from cachetui import afar, walk
from cachetui.folder import Folder
from cachetui.hub_layout import OURS
from cachetui.model import DAMAGED, FOREIGN_OWNER, OK, PARTIAL, READ_ONLY, Blob, Item, Problem, Root, Traits
from cachetui.states.errors import DAMAGED as DAMAGED_CODE
from cachetui.states.errors import UNREADABLE, VERSION, StateError
from cachetui.states.identity import Identity
from cachetui.states.reading import SAVE_AGAIN, StateInfo, is_start, of_file, start_length
from cachetui.store import Removal, Selection
from cachetui.text import encode_target
from cachetui.units import iso

STORE, KIND, SUFFIX = "state", "state", ".safetensors"
MODEL, COMMIT = "belongs to", "at commit"
"""Labels of rows (`Item.extra`): a TARGET, and the commit of it that the state was made with."""
TOKENS, PICTURES, AGAIN = "tokens", "pictures", "made with"
DEFAULT_SYSTEM = "You are a helpful AI assistant analyzing an image."
"""The system prompt of `state save` where none is given."""
MANY = 5000
"""Files in a folder up to which every one is looked into; beyond, only those named as weights are."""
_SHOWN = 6
_MAX_PROMPT = 300
"""Characters of a system prompt that are shown."""


def is_state(name: str, *, folder: Folder | None = None) -> bool:
    """Whether a file (a path, or a name in an open folder) begins as a state does, be it damaged further on.

    Never raises; only regular files are opened.
    """
    cap = start_length()
    try:
        head = folder.read(name, cap) if folder is not None else walk.read_small(name, cap)
    except OSError:
        return False
    return is_start(head)


def info_of(path: str) -> StateInfo:
    """What a state's file says of itself, which must be no link; its atime stays. Raises StateError."""
    try:
        fd = walk.open_regular(path)
    except OSError as e:
        raise StateError(UNREADABLE, f"it cannot be read: {(e.strerror or str(e)).lower()}") from None
    try:
        return of_file(fd, path)
    finally:
        os.close(fd)


def code_of(error: StateError) -> str:
    """The code of a problem for why a state cannot be used."""
    return {DAMAGED_CODE: "damaged-state", VERSION: "state-version"}.get(error.code, "unreadable")


def identify(path: str) -> str:
    """The id of what lies at a path of a root."""
    return f"{STORE}:{encode_target(path)}"


def title(path: str) -> str:
    """What it is called: its file's name, without the suffix that most have."""
    return path.rpartition("/")[2].removesuffix(SUFFIX) or path


def make(root: Root, path: str, st: os.stat_result) -> Item:
    """The item of a state's file in a root. Never raises."""
    return _with_header(_plain(root, path, st, (walk.blob(path, st),)), f"{root.path}/{path}").with_sizes()


def linked(root: Root, path: str, st: os.stat_result, lead: afar.Lead) -> Item:
    """The item of a link to a state that lies elsewhere. Never raises."""
    base = _plain(root, path, st, ())
    base = replace(base, overhead=walk.allocated(st))
    if lead.stat is None:
        return afar.offline(base, lead, f"{root.path}/{path}")
    top, name = os.path.split(lead.real)
    far = make(Root(STORE, top, lead.stat.st_dev, -1, "archive"), name, lead.stat)
    return afar.archived(base, far, lead.real)


def removal(selection: Selection) -> Removal:
    """What removing a state takes: its one file."""
    if not selection.is_whole:
        return Removal((), refused="a state is one file: it goes as a whole")
    return Removal((selection.item.path,))


def _plain(root: Root, path: str, st: os.stat_result, blobs: tuple[Blob, ...]) -> Item:
    states = [] if root.writable else [READ_ONLY]
    if hasattr(os, "geteuid") and os.geteuid() not in (0, st.st_uid):
        states.append(FOREIGN_OWNER)
    return Item(
        identify(path), STORE, root.path, KIND, title(path), path,
        blobs=blobs, file_count=1, last_used=st.st_atime, last_modified=st.st_mtime,
        states=tuple(states) or (OK,), uid=st.st_uid, gid=st.st_gid,
    )  # fmt: skip


def _with_header(item: Item, full: str) -> Item:
    """The item with what its header says of it, or why that cannot be read."""
    if item.path.rpartition("/")[2].startswith(OURS):
        problem = Problem("partial", "saving it did not end", full, "delete it; the next save there removes it too")
        return replace(item, problems=(problem,)).with_states(PARTIAL)
    try:
        info = info_of(full)
    except StateError as e:
        problem = Problem(code_of(e), e.reason, full, e.advice or SAVE_AGAIN)
        item = replace(item, problems=(problem,))
        return item.with_states(DAMAGED) if e.code == DAMAGED_CODE else item
    who = info.identity
    if info.created <= 0:
        info = replace(info, created=item.last_modified or 0.0)
    return replace(
        item,
        traits=Traits(quantization=who.quantization or who.dtype, family=who.architecture),
        last_modified=info.created,
        extra=_rows(info, who, full),
    )


def _rows(info: StateInfo, who: Identity, full: str) -> tuple[tuple[str, str], ...]:
    pictures = [f"{os.path.basename(i.name) or 'a picture'} {i.width}x{i.height}" for i in who.images]
    shown = ", ".join(pictures[:_SHOWN]) + (f" and {len(pictures) - _SHOWN} more" if len(pictures) > _SHOWN else "")
    lowered = f"{who.max_pixels:,} pixels" if who.max_pixels else "x".join(map(str, who.resize or ()))
    how = ", ".join(w for w in (who.quantization, who.dtype, who.attention) if w)
    prompt = who.system if len(who.system) <= _MAX_PROMPT else f"{who.system[:_MAX_PROMPT]}..."
    rows = (
        (MODEL, model_target(info)), (COMMIT, who.commit), (TOKENS, f"{info.tokens:,}"), (PICTURES, shown),
        ("lowered to", lowered), ("system", prompt), ("precision", how), ("made", iso(info.created)),
        ("load it", shlex.join(["cachetui", "prompt", "TEXT", "--state", full])), (AGAIN, again(info, full)),
    )  # fmt: skip
    return tuple((label, value) for label, value in rows if value)


def model_target(info: StateInfo) -> str:
    """The TARGET of the model that a state belongs to."""
    return f"hf:{info.identity.repo}" if info.identity.repo else info.model


def again(info: StateInfo, path: str) -> str:
    """The command that makes a state anew, as far as its header tells: of pictures it knows the names alone."""
    return saving(info.identity, model_target(info), path)


def saving(who: Identity, target: str, path: str = "") -> str:
    """The command that saves a state of these pictures and this system prompt with a model."""
    words = ["cachetui", "state", "save", target]
    for image in who.images:
        words += ["--image", image.name]
    if len(who.images) > 1:
        words.append("--together")
    if who.max_pixels:
        words += ["--max-pixels", str(who.max_pixels)]
    if who.resize:
        words += ["--resize", "x".join(map(str, who.resize))]
    if who.system != DEFAULT_SYSTEM:
        words += ["--system-prompt", who.system]
    return shlex.join([*words, "--output", path] if path else words)
