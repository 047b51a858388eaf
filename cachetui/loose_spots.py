"""Where models lie in plain folders: looked for from the top down, by listings alone.

A folder is a model when weights or a model's config lie right in it; then all below it belongs to it. Folders above
that only group (`publisher/model`). Loose weights next to such folders stand alone, the shards of one file together.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from cachetui import afar, state_items, walk
from cachetui.folder import Folder
from cachetui.formats import is_weights
from cachetui.hub_layout import REPO_FOLDER
from cachetui.model import Problem, Root
from cachetui.ollama_layout import BLOBS, MANIFESTS

MAX_DEPTH = 6
"""Folders that only group, one in the other."""
SKIPPED = frozenset(
    ("node_modules", "site-packages", "__pycache__", "venv", "env", "virtualenv", "conda", "miniconda3", "anaconda3")
)
"""Folders of programs: no models of the user's own."""
_MAX_LOOK = 200
"""Folders that are looked into to tell whether a link leads to models."""
_MARKERS = frozenset(("config.json", "adapter_config.json", "model_index.json", "modules.json"))
_SHARD = re.compile(r"(.+?)-\d{5}-of-(\d{5})(\.[A-Za-z0-9]+)")


@dataclass
class Spot:
    """Where one model lies."""

    path: str
    """Of its folder or (first) file, relative to the root."""
    kind: str
    """folder, file, state, or top: the root's own files are a model."""
    files: tuple[tuple[str, os.stat_result], ...] = ()
    """Of a file, state or top: names with their stat, relative to the root."""
    lead: afar.Lead | None = None
    """Of a folder or state that is only a link: where it leads."""


@dataclass
class Rest:
    """What is not inside a model."""

    overhead: int = 0
    files: list[tuple[str, os.stat_result]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    """Not looked into yet."""
    problems: list[Problem] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)


def spots(root: Root, nested: frozenset[tuple[int, int]], rest: Rest, entries: Collection[str] = ()) -> Iterator[Spot]:
    """The models of a root as they are found; what is not inside one gathers in `rest`. Never raises.

    `entries`: paths that are models whatever lies there, for an archive's manifest says so.
    """
    try:
        with Folder(root.path) as folder:
            yield from _Visit(root, nested, rest, frozenset(entries)).folder(folder, "", 0)
    except OSError as e:
        _cannot(rest, root.path, e)


def _cannot(rest: Rest, path: str, error: OSError) -> None:
    message = f"cannot be read: {error.strerror or error}"
    rest.problems.append(Problem("unreadable", message, path, "check its permissions and the disk"))
    rest.blind.append(path)


@dataclass
class _Visit:
    """Looks for models from the top down."""

    root: Root
    nested: frozenset[tuple[int, int]]
    rest: Rest
    entries: frozenset[str]

    def folder(self, folder: Folder, path: str, depth: int) -> Iterator[Spot]:
        """The models right in a folder, then those below."""
        try:
            with folder.listing() as listing:
                entries = sorted((e.name, folder.lstat(e)) for e in listing)
        except OSError as e:
            _cannot(self.rest, folder.path, e)
            self.rest.overhead += walk.allocated(folder.stat)
            return
        states = self._states(folder, entries)
        entries = [(name, st) for name, st in entries if name not in states]
        names = {name for name, _ in entries}
        files = [(name, st) for name, st in entries if not stat.S_ISDIR(st.st_mode)]
        kinds = (stat.S_IFREG, stat.S_IFLNK)
        weights = [n for n, st in files if is_weights(n) and stat.S_IFMT(st.st_mode) in kinds]
        if path in self.entries or (depth and (weights or names & _MARKERS)):
            yield Spot(path, "folder")
            return
        self.rest.overhead += walk.allocated(folder.stat)
        for name, (st, lead) in states.items():
            place = f"{path}/{name}" if path else name
            yield Spot(place, "state", ((place, st),), lead)
        top = bool(names & _MARKERS and any(not n.endswith(".gguf") for n in weights)) or "model_index.json" in names
        if top and not depth:
            yield Spot("", "top", tuple(files))
        else:
            yield from self._files(files, f"{path}/" if path else "")
        for name, st in entries:
            if stat.S_ISDIR(st.st_mode):
                yield from self._below(folder, f"{path}/{name}" if path else name, name, st, depth)

    def _states(
        self, folder: Folder, entries: Sequence[tuple[str, os.stat_result]]
    ) -> dict[str, tuple[os.stat_result, afar.Lead | None]]:
        """Saved states right in a folder, whatever they are called; none in a model's, whose files are its own."""
        found: dict[str, tuple[os.stat_result, afar.Lead | None]] = {}
        if any(name in _MARKERS for name, _ in entries):
            return found
        for name, st in entries:
            lead = afar.follow(f"{folder.path}/{name}") if stat.S_ISLNK(st.st_mode) else None
            if name.endswith(".gguf") or not (stat.S_ISREG(st.st_mode) or lead is not None):
                continue
            if len(entries) > state_items.MANY and not is_weights(name):
                continue
            if state_items.is_state(name, folder=folder) if lead is None else self._is_linked_state(lead):
                found[name] = (st, lead)
            elif is_weights(name):
                return {}
        return found

    def _is_linked_state(self, lead: afar.Lead) -> bool:
        """Whether a link leads to a state that was put elsewhere."""
        there = lead.stat is not None and stat.S_ISREG(lead.stat.st_mode)
        if not there or not afar.leaves(self.root.path, self.root.dev, lead):
            return False
        return afar.patiently(lead.real, lambda: state_items.is_state(lead.real), False)

    def _files(self, files: Sequence[tuple[str, os.stat_result]], prefix: str) -> Iterator[Spot]:
        shards: dict[tuple[str, ...], list[tuple[str, os.stat_result]]] = {}
        for name, st in files:
            path = prefix + name
            is_link = stat.S_ISLNK(st.st_mode)
            lead = afar.follow(f"{self.root.path}/{path}") if is_link else None
            far = lead is not None and afar.leaves(self.root.path, self.root.dev, lead)
            if lead is not None and far and _is_folder(lead, name):
                yield Spot(path, "folder", ((path, st),), lead)
            elif not stat.S_ISREG(st.st_mode) and not (lead is not None and far and _is_file(lead)):
                self._other(path, st, lead)
            elif not (is_weights(name) or path in self.entries):
                self.rest.files.append((path, st))
            else:
                match = _SHARD.fullmatch(name)
                shards.setdefault(match.groups() if match else (name,), []).append((path, st))
        for group in shards.values():
            yield Spot(group[0][0], "file", tuple(group))

    def _other(self, path: str, st: os.stat_result, lead: afar.Lead | None) -> None:
        self.rest.overhead += walk.allocated(st)
        if lead is not None and (problem := link_problem(self.root.path, path, lead)) is not None:
            self.rest.problems.append(problem)

    def _below(self, parent: Folder, path: str, name: str, st: os.stat_result, depth: int) -> Iterator[Spot]:
        if (st.st_dev, st.st_ino) in self.nested:
            self.rest.nested.append(path)
        elif st.st_dev != self.root.dev:
            self.rest.problems.append(
                Problem("other-filesystem", "another file system is mounted here; it is not counted and not touched",
                        f"{self.root.path}/{path}", "give it as a root of its own with --cache-dir")
            )  # fmt: skip
        elif (depth >= MAX_DEPTH or name in SKIPPED or name.startswith(".")) and not self._leads_to_entry(path):
            self.rest.folders.append(path)
        else:
            yield from self._enter(parent, path, name, depth)

    def _leads_to_entry(self, path: str) -> bool:
        return any(entry == path or entry.startswith(f"{path}/") for entry in self.entries)

    def _enter(self, parent: Folder, path: str, name: str, depth: int) -> Iterator[Spot]:
        try:
            with parent.inner(name) as folder:
                if _is_foreign(folder) and path not in self.entries:
                    self.rest.folders.append(path)
                    self.rest.problems.append(
                        Problem("other-layout", "a cache of another program lies in this folder", folder.path,
                                f"see what is in it with --cache-dir {folder.path}")
                    )  # fmt: skip
                else:
                    yield from self.folder(folder, path, depth + 1)
        except OSError as e:
            _cannot(self.rest, f"{self.root.path}/{path}", e)


def _is_foreign(folder: Folder) -> bool:
    """Another store's layout: its links would look like models."""
    with folder.listing() as entries:
        names = {e.name for e in entries if e.is_dir(follow_symlinks=False)}
    return {MANIFESTS, BLOBS} <= names or any(REPO_FOLDER.fullmatch(n) for n in names)


def _is_folder(lead: afar.Lead, name: str) -> bool:
    """Whether a link stands for a folder of models elsewhere, as far as can be told; one that is not there may be."""
    if lead.stat is None:
        return not is_weights(name)
    return stat.S_ISDIR(lead.stat.st_mode) and (
        bool(afar.archive_above(lead.real)) or afar.patiently(lead.real, lambda: _holds_models(lead.real), True)
    )


def _is_file(lead: afar.Lead) -> bool:
    """Whether a link stands for a file; one that is not there may be."""
    return lead.stat is None or stat.S_ISREG(lead.stat.st_mode)


def _holds_models(folder: str) -> bool:
    """Whether weights or a model's config lie right in a folder or in one that it holds."""
    found = _names(folder)
    return any(map(_is_model_file, found)) or any(
        _is_model_file(name) for inner in found[:_MAX_LOOK] for name in _names(f"{folder}/{inner}")
    )


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_model_file(name: str) -> bool:
    return name in _MARKERS or is_weights(name)


def link_problem(root: str, path: str, lead: afar.Lead) -> Problem | None:
    """What is wrong with a link below a root: it reaches nothing, or leaves the root. None where it stays inside."""
    full = f"{root}/{path}"
    if lead.stat is None:
        return Problem(
            "broken-link", "this link points to nothing", full, "restore what it points to, or delete the link"
        )
    if lead.real != root and not lead.real.startswith(root + os.sep):
        message = f"this link leads out of the folder, to {lead.real}: it is not followed"
        return Problem("link-outside", message, full, "its content is counted where it really lies")
    return None
