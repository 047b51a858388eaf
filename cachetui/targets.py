"""TARGETs: how a person or a script names an item, one revision of it, or one file.

    hf:ORG/NAME  hf:datasets/ORG/NAME  ollama:NAME[:TAG]  dir:PATH  lmstudio:...     an item (its `id`)
    ...@REVISION          a commit or its beginning, a ref, or ~orphan, ~partial, ~litter
    ...[@REVISION]:PATH   one file
    model/ORG/NAME, hf://ORG/NAME, ORG/NAME, a 40-hex commit, a path on disk       also understood

An `id` names exactly one item within its root. Ids write undecodable bytes as `\\xNN` and double the backslash
(text.encode_target): this is the one place where a shown name becomes a path again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace

from cachetui.ledger import Scan
from cachetui.model import Item, Revision
from cachetui.store import Selection
from cachetui.text import decode_target, encode_target

_COMMIT = re.compile(r"[0-9a-fA-F]{40}")
_HF_WORDS = {"model": "", "models": "", "dataset": "datasets/", "datasets": "datasets/"}
_HF_WORDS |= {"space": "spaces/", "spaces": "spaces/", "kernel": "kernels/", "kernels": "kernels/"}
_MIN_PREFIX = 4


class TargetError(Exception):
    """A TARGET that names nothing, or more than one thing. The message may hold outside strings."""


class TargetNotFound(TargetError):
    """Nothing has this name."""

    def __init__(self, text: str, message: str, near: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.text = text
        self.near = near
        """TARGETs that look like it."""


class TargetAmbiguous(TargetError):
    """Several things have this name."""

    def __init__(self, text: str, candidates: tuple[tuple[str, str], ...]) -> None:
        super().__init__(f"{text} names {len(candidates)} things")
        self.text = text
        self.candidates = candidates
        """(TARGET, root) of each."""


def target_of(selection: Selection) -> str:
    """The TARGET that `resolve` turns into this selection again, within its root."""
    text = selection.item.id
    if selection.revision:
        text += "@" + encode_target(selection.revision)
    if selection.file:
        text += ":" + encode_target(selection.file)
    return text


def resolve(scan: Scan, text: str, root: str | None = None, cwd: str = "") -> list[Selection]:
    """What a TARGET names: one selection for each root that has it (several: ask which root).

    A name means what is used, not its copy in an archive. `root` is the real path of the only root to look in, `cwd`
    what relative paths start from (default: the process's). Raises TargetNotFound, or TargetAmbiguous where the name
    itself has several meanings.
    """
    items = [i for i in scan.items if root is None or i.root == root]
    try:
        wanted = decode_target(text)
        os.fsencode(wanted)
        if "\0" in wanted:
            raise ValueError
    except ValueError:
        raise TargetNotFound(text, f"{text!r} is no name that a file could have") from None
    index = _Index(items)
    notes: list[str] = []
    for find in (index.exact, index.parts, index.commit, index.bare):
        if found := find(wanted, notes):
            return _outside_archives(scan, found)
    path = wanted.removeprefix("dir:")
    if found := _by_path(items, path, cwd or os.getcwd(), notes):
        return found
    raise TargetNotFound(text, notes[0] if notes else f"nothing here is called {text}", _near(items, text))


def _outside_archives(scan: Scan, found: list[Selection]) -> list[Selection]:
    """What lies in an archive is meant only where nothing else has the name, or by --root: else its link is."""
    here = [s for s in found if not scan.root_of(s.item).root.only_archive]
    return here or found


class _Index:
    """Items by name, in the spellings that are understood."""

    def __init__(self, items: list[Item]) -> None:
        self.by_id: dict[str, list[Item]] = {}
        self.by_lower: dict[str, list[Item]] = {}
        self.by_name: dict[str, list[Item]] = {}
        for item in items:
            name = decode_target(item.id) if "\\" in item.id else item.id
            self.by_id.setdefault(name, []).append(item)
            self.by_lower.setdefault(name.lower(), []).append(item)
            self.by_name.setdefault(item.name.lower(), []).append(item)

    def items_called(self, base: str) -> list[Item]:
        """Items whose id this is: as it stands, as `hf` writes it, with Ollama's default tag, in any case."""
        spellings = list(_spellings(base))
        for index, fold in ((self.by_id, False), (self.by_lower, True)):
            for spelling in spellings:
                if found := index.get(spelling.lower() if fold else spelling):
                    return found
        return []

    def exact(self, text: str, notes: list[str]) -> list[Selection]:
        """A whole item."""
        return _one_per_root(text, [Selection(i) for i in self.items_called(text)])

    def parts(self, text: str, notes: list[str]) -> list[Selection]:
        """A revision or a file of an item: the longest beginning that is an id wins."""
        for at in range(len(text) - 1, 0, -1):
            if text[at] not in "@:":
                continue
            base, rest = text[:at], text[at + 1 :]
            items = self.by_id.get(base) or ([] if text[at] == ":" and _lacks_tag(base) else self.items_called(base))
            found = [s for i in items if (s := _within(i, text[at], rest, notes)) is not None]
            if found:
                return _one_per_root(text, found)
        return []

    def commit(self, text: str, notes: list[str]) -> list[Selection]:
        """A full commit hash, as `hf cache rm` takes it."""
        if not _COMMIT.fullmatch(text):
            return []
        commit = text.lower()
        items = [i for found in self.by_id.values() for i in found]
        return _one_per_root(
            text, [Selection(i, r.commit) for i in items for r in i.revisions if r.commit.lower() == commit]
        )

    def bare(self, text: str, notes: list[str]) -> list[Selection]:
        """The name alone, without its store."""
        found = self.by_name.get(text.lower(), [])
        same_case = [i for i in found if i.name == text]
        return _one_per_root(text, [Selection(i) for i in same_case or found])


def _spellings(base: str) -> Iterator[str]:
    yield base
    if _lacks_tag(base):
        yield base + ":latest"
    bare = base.removeprefix("hf://")
    kind, _, rest = bare.partition("/")
    if rest and kind in _HF_WORDS:
        yield f"hf:{_HF_WORDS[kind]}{rest}"
    if bare != base or ":" not in base:
        yield f"hf:{bare}"
    if ":" not in base.split("/")[0] and not base.startswith(("/", ".", "~")):
        yield f"ollama:{base}"
        yield f"ollama:{base}:latest"
    elif base.count(":") == 1 and "/" not in base:
        yield f"ollama:{base}"


def _lacks_tag(base: str) -> bool:
    return base.startswith("ollama:") and ":" not in base[len("ollama:") :].rsplit("/", 1)[-1]


def _one_per_root(text: str, found: list[Selection]) -> list[Selection]:
    """The selections, when no root has two of them."""
    roots = [s.item.root for s in found]
    if len(set(roots)) < len(roots):
        raise TargetAmbiguous(text, tuple((target_of(s), s.item.root) for s in found))
    return found


def _within(item: Item, separator: str, rest: str, notes: list[str]) -> Selection | None:
    """The revision (`@`) or file (`:`) that `rest` names inside an item."""
    if separator == ":":
        return _file(item, "", rest, notes)
    if (revision := _revision(item, rest)) is not None:
        return Selection(item, revision.commit)
    for at in range(len(rest) - 1, 0, -1):
        if rest[at] == ":" and (revision := _revision(item, rest[:at])) is not None:
            return _file(item, revision.commit, rest[at + 1 :], notes)
    notes.append(f"{item.id} has no revision {rest.split(':')[0]}")
    return None


def _revision(item: Item, text: str) -> Revision | None:
    """By commit, ref, or the beginning of a commit. Raises TargetAmbiguous when several begin so."""
    everything = item.revisions + item.parts
    for r in everything:
        if text == r.commit or text in r.refs:
            return r
    if len(text) < _MIN_PREFIX:
        return None
    lower = text.lower()
    begin = [r for r in item.revisions if r.commit.lower().startswith(lower)]
    if len(begin) > 1:
        raise TargetAmbiguous(text, tuple((target_of(Selection(item, r.commit)), item.root) for r in begin))
    return begin[0] if begin else None


def _file(item: Item, commit: str, name: str, notes: list[str]) -> Selection | None:
    for r in item.revisions + item.parts:
        if (not commit or r.commit == commit) and name in r.names:
            return Selection(item, commit or (r.commit if r.is_part else ""), name)
    notes.append(f"{target_of(Selection(item, commit))} has no file {name}")
    return None


def _by_path(items: list[Item], text: str, cwd: str, notes: list[str]) -> list[Selection]:
    """The item, revision or file that lies at a path. Links on the way are resolved, the last one only if it must."""
    full = os.path.normpath(os.path.join(cwd, os.path.expanduser(text)))
    folder, name = os.path.split(full)
    for path in dict.fromkeys((full, os.path.join(os.path.realpath(folder), name), os.path.realpath(full))):
        place = path.replace(os.sep, "/")
        holders = [(i, rel) for i in items if (rel := _inside(place, i)) is not None]
        if not holders:
            continue
        deepest = max(len(i.root) + len(i.path) for i, _ in holders)
        for item, rel in holders:
            if len(item.root) + len(item.path) == deepest and (found := _at(item, rel)) is not None:
                return [found]
        notes.append(f"{text} lies inside {holders[0][0].id} but is neither one of its revisions nor one of its files")
    return []


def _inside(path: str, item: Item) -> str | None:
    """The path relative to the item's root, when it is the item or lies below it."""
    top = f"{item.root}/{item.path}" if item.path else item.root
    if path != top and not path.startswith(top + "/"):
        return None
    return path[len(item.root) + 1 :]


def _at(item: Item, rel: str) -> Selection | None:
    if rel == item.path:
        return Selection(item)
    for r in item.revisions:
        if r.commit and r.path != item.path and rel == r.path:
            return Selection(item, r.commit)
        if rel.startswith(r.path + "/") and rel[len(r.path) + 1 :] in r.names:
            return Selection(item, r.commit, rel[len(r.path) + 1 :])
    position = next((n for n, b in enumerate(item.content) if b.path == rel), None)
    if position is None:
        return None
    for r in item.revisions + item.parts:
        for name, at in zip(r.names, r.index, strict=True):
            if at == position:
                return Selection(item, r.commit if r.is_part else "", name)
    return None


def _near(items: list[Item], text: str) -> tuple[str, ...]:
    """Ids that look like what was asked for: first those that contain it, then those spelled alike."""
    from difflib import get_close_matches

    ids = list(dict.fromkeys(i.id for i in items))
    wanted = text.lower().rsplit("/", 1)[-1].split("@")[0]
    containing = [i for i in ids if len(wanted) > 2 and wanted in i.lower()][:5]
    folded = {i.lower(): i for i in ids}
    alike = [folded[m] for m in get_close_matches(text.lower(), folded, 3, 0.6)]
    return tuple(dict.fromkeys(containing + alike))[:5]


def merged(selections: list[Selection]) -> list[Selection]:
    """Without repetitions, and without parts of what is selected as a whole anyway; order kept."""
    whole = {s.item.key for s in selections if s.is_whole}
    revisions = {(s.item.key, s.revision) for s in selections if s.revision and not s.file}
    out: dict[tuple[tuple[str, str], str, str], Selection] = {}
    for s in selections:
        if s.item.key in whole:
            s = replace(s, revision="", file="")
        elif s.file and (s.item.key, s.revision) in revisions:
            continue
        out.setdefault((s.item.key, s.revision, s.file), s)
    return list(out.values())
