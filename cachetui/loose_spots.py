"""Where models lie in plain folders: looked for from the top down, by listings alone.

A folder is a model when weights or a model's config lie right in it; then all below it belongs to it. Folders above
that only group (`publisher/model`). Loose weights next to such folders stand alone, the shards of one file together.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cachetui import walk
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
_MARKERS = frozenset(("config.json", "adapter_config.json", "model_index.json", "modules.json"))
_SHARD = re.compile(r"(.+?)-\d{5}-of-(\d{5})(\.[A-Za-z0-9]+)")


@dataclass
class Spot:
    """Where one model lies."""

    path: str
    """Of its folder or (first) file, relative to the root."""
    kind: str
    """folder, file, or top: the root's own files are a model."""
    files: tuple[tuple[str, os.stat_result], ...] = ()
    """Of a file or top: names with their stat, relative to the root."""


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


def spots(root: Root, nested: frozenset[tuple[int, int]], rest: Rest) -> Iterator[Spot]:
    """The models of a root as they are found; what is not inside one gathers in `rest`. Never raises."""
    try:
        with Folder(root.path) as folder:
            yield from _Visit(root, nested, rest).folder(folder, "", 0)
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

    def folder(self, folder: Folder, path: str, depth: int) -> Iterator[Spot]:
        """The models right in a folder, then those below."""
        try:
            with folder.listing() as listing:
                entries = sorted((e.name, folder.lstat(e)) for e in listing)
        except OSError as e:
            _cannot(self.rest, folder.path, e)
            self.rest.overhead += walk.allocated(folder.stat)
            return
        names = {name for name, _ in entries}
        files = [(name, st) for name, st in entries if not stat.S_ISDIR(st.st_mode)]
        kinds = (stat.S_IFREG, stat.S_IFLNK)
        weights = [n for n, st in files if is_weights(n) and stat.S_IFMT(st.st_mode) in kinds]
        if depth and (weights or names & _MARKERS):
            yield Spot(path, "folder")
            return
        self.rest.overhead += walk.allocated(folder.stat)
        top = bool(names & _MARKERS and any(not n.endswith(".gguf") for n in weights)) or "model_index.json" in names
        if top and not depth:
            yield Spot("", "top", tuple(files))
        else:
            yield from self._files(files, f"{path}/" if path else "")
        for name, st in entries:
            if stat.S_ISDIR(st.st_mode):
                yield from self._below(folder, f"{path}/{name}" if path else name, name, st, depth)

    def _files(self, files: Sequence[tuple[str, os.stat_result]], prefix: str) -> Iterator[Spot]:
        shards: dict[tuple[str, ...], list[tuple[str, os.stat_result]]] = {}
        for name, st in files:
            if stat.S_ISLNK(st.st_mode):
                self._link(prefix + name, st)
            elif not stat.S_ISREG(st.st_mode):
                self.rest.overhead += walk.allocated(st)
            elif not is_weights(name):
                self.rest.files.append((prefix + name, st))
            else:
                match = _SHARD.fullmatch(name)
                shards.setdefault(match.groups() if match else (name,), []).append((prefix + name, st))
        for group in shards.values():
            yield Spot(group[0][0], "file", tuple(group))

    def _link(self, path: str, st: os.stat_result) -> None:
        self.rest.overhead += walk.allocated(st)
        if (problem := link_problem(self.root.path, path)) is not None:
            self.rest.problems.append(problem)

    def _below(self, parent: Folder, path: str, name: str, st: os.stat_result, depth: int) -> Iterator[Spot]:
        if (st.st_dev, st.st_ino) in self.nested:
            self.rest.nested.append(path)
        elif st.st_dev != self.root.dev:
            self.rest.problems.append(
                Problem("other-filesystem", "another file system is mounted here; it is not counted and not touched",
                        f"{self.root.path}/{path}", "give it as a root of its own with --cache-dir")
            )  # fmt: skip
        elif depth >= MAX_DEPTH or name in SKIPPED or name.startswith("."):
            self.rest.folders.append(path)
        else:
            yield from self._enter(parent, path, name, depth)

    def _enter(self, parent: Folder, path: str, name: str, depth: int) -> Iterator[Spot]:
        try:
            with parent.inner(name) as folder:
                if _is_foreign(folder):
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


def link_problem(root: str, path: str) -> Problem | None:
    """What is wrong with a link below a root: it reaches nothing, or leaves the root. None where it stays inside."""
    full = f"{root}/{path}"
    if not os.path.exists(full):
        return Problem(
            "broken-link", "this link points to nothing", full, "restore what it points to, or delete the link"
        )
    real = os.path.realpath(full)
    if real != root and not real.startswith(root + os.sep):
        message = f"this link leads out of the folder, to {real}: it is not followed"
        return Problem("link-outside", message, full, "its content is counted where it really lies")
    return None
