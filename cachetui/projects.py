"""Caches that projects keep for themselves: `model_cache`, `.mlx_cache`, and what HF_CACHE_DIR in a .env names.

Only names are read, never the environment changed. Folders of programs (node_modules, .git, virtual environments)
are not entered: a home of a million files is mostly those.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cachetui import walk
from cachetui.config import Where
from cachetui.loose_spots import SKIPPED
from cachetui.model import Problem

CACHE_NAMES = frozenset(("model_cache", ".mlx_cache"))
MAX_DEPTH = 12
_VARIABLE = "HF_CACHE_DIR"
_MAX_ENV = 1 << 16
_ENV = re.compile(r"\.env(\..+)?", re.DOTALL)
_ALSO_SKIPPED = frozenset(("Library", "go", "target", "vendor", "bower_components", "snapshots", "blobs"))


@dataclass(frozen=True, slots=True)
class ProjectCache:
    """One folder that a project keeps models in."""

    path: str
    origin: str
    """`project /x/y` or `.env of /x/y`."""
    given: str = ""
    """As the .env writes it."""
    problems: tuple[Problem, ...] = ()


def project_caches(where: Where) -> Iterator[ProjectCache]:
    """What lies below the search roots, each folder entered once. Never raises."""
    seen: set[tuple[int, int]] = set()
    for given in where.search_roots:
        top = os.path.realpath(where.resolve(given))
        try:
            st = os.stat(top)
        except OSError:
            continue
        yield from _below(top, st.st_dev, seen, where, 0)


def _below(folder: str, dev: int, seen: set[tuple[int, int]], where: Where, depth: int) -> Iterator[ProjectCache]:
    folders: list[str] = []
    try:
        st = os.lstat(folder)
        if st.st_dev != dev or (st.st_dev, st.st_ino) in seen:
            return
        seen.add((st.st_dev, st.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    if name in CACHE_NAMES:
                        yield ProjectCache(entry.path, f"project {folder}")
                    elif not (name.startswith(".") or name in SKIPPED or name in _ALSO_SKIPPED or "--" in name):
                        folders.append(entry.path)
                elif name in CACHE_NAMES and entry.is_dir():
                    yield ProjectCache(entry.path, f"project {folder}")
                elif name == "pyvenv.cfg":
                    return  # a virtual environment under any name
                elif name.startswith(".env") and _ENV.fullmatch(name):
                    yield from _named(folder, name, where)
    except OSError:
        return
    if depth < MAX_DEPTH:
        for inner in sorted(folders):
            yield from _below(inner, dev, seen, where, depth + 1)


def _named(folder: str, name: str, where: Where) -> Iterator[ProjectCache]:
    """The folder that a .env file names, read as python-dotenv reads it."""
    try:
        raw = walk.read_small(f"{folder}/{name}", _MAX_ENV)
    except OSError:
        return
    if _VARIABLE.encode() not in raw:
        return
    value = env_value(raw.decode("utf-8", "surrogateescape"), _VARIABLE)
    if not value or "\0" in value:
        return
    origin = f"{name} of {folder}"
    if value.startswith("~"):
        message = f"{_VARIABLE}={value}: python-dotenv does not expand ~, so a program may use a folder called ~ here"
        hint = f"write an absolute path or ${{HOME}}{value[1:]} into {name}"
        problem = Problem("tilde-in-env", message, f"{folder}/{name}", hint)
        for path in (f"{folder}/{value}", where.resolve(value)):
            if os.path.isdir(path):
                yield ProjectCache(os.path.normpath(path), origin, value, (problem,))
        return
    for variable in ("HOME", *re.findall(r"\$\{(\w+)\}", value)):
        value = value.replace("${" + variable + "}", where.env.get(variable, where.home if variable == "HOME" else ""))
    path = os.path.normpath(os.path.join(folder, value))
    if os.path.isdir(path) and path != folder:
        yield ProjectCache(path, origin, value)


def env_value(text: str, variable: str) -> str | None:
    """The last value of a variable in the text of a .env file, quotes and comments as python-dotenv takes them."""
    from dotenv.parser import parse_stream  # late: most scans meet no .env that matters

    found = None
    for binding in parse_stream(io.StringIO(text)):
        if binding.key == variable:
            found = binding.value
    return found
